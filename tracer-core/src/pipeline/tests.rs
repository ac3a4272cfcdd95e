mod figures;

use super::*;
use crate::{
    decode::{encode_rejection, encode_request},
    model::{
        reconciliation::{Seen, TcpCounters},
        rejection::Cause,
    },
    recording::read::{Block, Reader},
    samples::{CLOCK, S, counters, first, queue_full, race, request, short},
};
use std::fs;
use tracer_common::rejection::RejectionRecord;

const TERMINAL: Terminal = Terminal { width: None, colour: false, interactive: false };

fn options(view: View) -> Options {
    Options { view, min: 0, count: None }
}

/// What `write` makes a pipeline show.
fn shown(options: Options, write: impl FnOnce(&mut Pipeline<'_>)) -> String {
    let mut out = Vec::new();
    let mut pipeline = Pipeline::new(CLOCK, options, &mut out);
    write(&mut pipeline);
    pipeline.finish(&[], Some(&counters(&[]))).unwrap();
    String::from_utf8(out).unwrap()
}

fn status(text: &str) -> serde_json::Value {
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn rejections_are_shown_however_slow_requests_have_to_be() {
    for (view, line) in [
        (View { events: Events::All, format: Format::Text(TERMINAL) }, " REJECTED accept_queue_full x17 "),
        (View { events: Events::Rejections, format: Format::Text(TERMINAL) }, " REJECTED accept_queue_full x17 "),
        (View { events: Events::All, format: Format::Json }, r#"{"kind":"rejection","time""#),
        (View { events: Events::Rejections, format: Format::Json }, r#"{"kind":"rejection","time""#),
    ] {
        let text = shown(Options { min: u64::MAX, ..options(view) }, |it| {
            it.record(encode_request(&first())).unwrap();
            it.rejection(&queue_full()).unwrap();
        });
        assert_eq!(text.matches(line).count(), 1, "{text}");
        assert!(!text.contains(" 1.40s* ") && !text.contains(r#"{"kind":"request""#), "{text}");
    }
    for view in [
        View { events: Events::None, format: Format::Text(TERMINAL) },
        View { events: Events::None, format: Format::Json },
    ] {
        let text = shown(options(view), |it| it.rejection(&queue_full()).unwrap());
        assert!(!text.contains("REJECTED accept") && !text.contains(r#"{"kind":"rejection""#), "{text}");
        assert!(text.contains("accept_queue_full"), "{text}");
    }
}

#[test]
fn after_the_last_request_that_was_asked_for_rejections_are_counted_but_not_shown() {
    let text = shown(Options { count: Some(1), ..options(View { events: Events::All, format: Format::Json }) }, |it| {
        it.rejection(&race()).unwrap();
        it.record(encode_request(&request(S, [1; 7]))).unwrap();
        it.tick(9 * S).unwrap();
        assert!(it.is_done());
        it.rejection(&queue_full()).unwrap();
    });
    assert_eq!(text.matches(r#"{"kind":"rejection""#).count(), 1, "{text}");
    assert_eq!(status(&text)["rejections"], 18);
}

#[test]
fn warnings_are_no_rejections() {
    let text =
        shown(options(View { events: Events::None, format: Format::Json }), |it| it.rejection(&short()).unwrap());
    assert_eq!(status(&text)["rejections"], 0);
    let summary: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(summary["rejections"][0]["count"], 3);
    let verdict = summary["verdict"].as_array().unwrap();
    assert_eq!((verdict.len(), &verdict[0]), (2, &"Nothing was rejected.".into()), "{verdict:?}");
}

/// Whoever looks while tracing goes on sees all until then, and disturbs nothing.
#[test]
fn figures_are_there_at_any_time() {
    let view = View { events: Events::All, format: Format::Json };
    let run = |looks: bool| {
        let mut seen = Vec::new();
        let text = shown(options(view), |it| {
            for round in 1..=5 {
                it.record(encode_request(&request(round * S / 2, [1; 7]))).unwrap();
                it.rejection(&queue_full()).unwrap();
                it.tick(round * S / 2 + 11 * S).unwrap();
                if looks {
                    let report = it.report(None);
                    seen.push((report.all.requests, report.run.shortfalls.revised, report.rejections));
                }
            }
        });
        (text, seen)
    };
    let (text, seen) = run(true);
    assert_eq!(text, run(false).0);
    // From the fourth of a kind within a moment on, they are passed on together.
    assert!(seen.is_sorted() && seen.last() == Some(&(1, 4, 3 * 17)), "{seen:?}");
}

/// What the kernel counted as rejected, and nobody saw, is not nothing.
#[test]
fn unexplained_counters_are_said() {
    let of = |netns, overflows, filtered| {
        let before = TcpCounters { listen_overflows: Some(overflows), ..TcpCounters::default() };
        Reconciliation::new(netns, (&before, &before), &Seen::default(), filtered)
    };
    let verdict = |reconciliation: Vec<Reconciliation>| {
        let text = shown(options(View { events: Events::None, format: Format::Json }), |it| {
            it.name_namespace(7, "web");
            it.reconciliation(reconciliation);
        });
        let summary: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        summary["verdict"][0].as_str().unwrap().to_owned()
    };
    assert_eq!(verdict(vec![of(8, 0, false)]), "Nothing was rejected.");
    assert_eq!(
        verdict(vec![of(8, 0, false), of(7, 3, false)]),
        "Nothing was seen to be rejected, but the kernel counted 3 SYNs or last ACKs for a full accept queue \
         (ListenOverflows) in web that no hook saw."
    );
    assert_eq!(
        verdict(vec![of(7, 1, true)]),
        "Nothing was seen to be rejected of what was watched; the kernel counted 1 SYN or last ACK for a full accept \
         queue (ListenOverflows) that may be of other ports or peers."
    );
}

/// A response may have been lost, and what was lost on the way may have been a rejection.
#[test]
fn in_doubt_nothing_is_said_to_be_well() {
    let died = Rejection { cause: Cause::ProcessDied, ..short() };
    let verdict = |text: &str| -> Vec<String> {
        let summary: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        serde_json::from_value(summary["verdict"].clone()).unwrap()
    };
    let said = verdict(&shown(options(View { events: Events::None, format: Format::Json }), |it| {
        it.rejection(&died).unwrap();
    }));
    assert!(said.len() == 1 && said[0].contains("may not have been whole"), "{said:?}");
}

#[test]
fn what_the_kernel_reports_is_recorded_with_what_the_host_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tracer");
    let limits = Limits { idle_timeout: std::time::Duration::from_secs(4000) };
    let record = RejectionRecord { reported: 99 * S, ..RejectionRecord::EMPTY };
    let host = HostFacts { route: Some("Network is unreachable".to_owned()), ..HostFacts::default() };
    let answer = Application { is_alive: true, ..Application::default() };
    shown(options(View { events: Events::None, format: Format::Json }), |it| {
        it.record_to(Recorder::create(&path, CLOCK).unwrap());
        it.assume(limits);
        it.host_says(host.clone());
        it.record(encode_rejection(&record)).unwrap();
        it.answer(7, answer.clone());
        it.decide(99 * S).unwrap();
        it.rejection(&queue_full()).unwrap();
        it.reconciliation(vec![Reconciliation { netns: 7, rows: Vec::new(), not_read: None, filtered: false }]);
    });
    let bytes = fs::read(&path).unwrap();
    let (_, mut reader) = Reader::new(&bytes[..]).unwrap();
    assert_eq!(reader.next().unwrap(), Some(Block::Limits(limits)));
    assert_eq!(reader.next().unwrap(), Some(Block::Host(Box::new(host))));
    assert_eq!(reader.next().unwrap(), Some(Block::Record(encode_rejection(&record))));
    assert_eq!(reader.next().unwrap(), Some(Block::Answer(7, Box::new(answer))));
    assert_eq!(reader.next().unwrap(), Some(Block::Moment(99 * S)));
    assert_eq!(reader.next().unwrap(), Some(Block::Rejection(Box::new(queue_full()))));
    assert_eq!(
        reader.next().unwrap(),
        Some(Block::Reconciliation(vec![Reconciliation {
            netns: 7,
            rows: Vec::new(),
            not_read: None,
            filtered: false
        }]))
    );
    assert!(matches!(reader.next().unwrap(), Some(Block::End(Some(_)))));
}
