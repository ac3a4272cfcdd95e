use super::*;
use crate::{
    aggregate::{Summary, distribution::Distribution},
    explain::Limits,
    model::{
        namespaces::Namespaces,
        status::{Hook, Shortfalls},
    },
    output::json_summary,
    samples::{
        CLOCK, MS, S, US, closed, counters, dropped, first, marks, queue_full, request, short, slow, unanswered,
    },
};
use tracer_common::{endpoint::Endpoint, opening::Opening, record::RequestRecord};

fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The report of `summary`, with a verdict that is known here.
fn report_among(namespaces: &Namespaces, summary: &Summary) -> Report {
    let mut report = Report::new(CLOCK, summary, namespaces, Limits::default(), Run::default());
    let verdict = ["The verdict.", "More of it."].map(str::to_owned);
    report.verdict = verdict[..if report.rejected.is_empty() { 1 } else { 2 }].to_vec();
    report
}

fn report(summary: &Summary) -> Report {
    report_among(&Namespaces::default(), summary)
}

fn shown(summary: &Summary) -> String {
    text(|out| super::summary(out, Terminal::default(), &report(summary)))
}

fn json(report: &Report) -> String {
    text(|out| json_summary::summary(out, report))
}

/// The line of a process has no name, and its count may be wider than the column.
#[test]
fn columns_of_quantiles_do_not_depend_on_the_count_before_them() {
    let mut distribution = Distribution::new(2);
    distribution.add(3 * MS);
    let columns = Quantiles(distribution.times()).to_string();
    assert_eq!((columns.len(), columns.split_whitespace().count()), (4 * 8, 4), "{columns:?}");
    assert_eq!(Row("total", distribution.times()).to_string(), format!("{:<10}{:>10}{columns}", "total", 1));
}

fn figures() -> Summary {
    let mut summary = Summary::default();
    for record in [first(), slow(), unanswered()] {
        summary.request(&Request::of(&record));
    }
    summary.connection(&closed());
    summary
}

#[test]
fn one_port_of_two_namespaces_is_two_groups() {
    let (mut summary, mut namespaces) = (Summary::default(), Namespaces::default());
    for netns in [7, 8, 8] {
        namespaces.see(netns);
        summary.request(&Request::of(&RequestRecord { netns, ..first() }));
    }
    namespaces.learn(7, "web");
    let report = report_among(&namespaces, &summary);
    let text = text(|out| super::summary(out, Terminal::default(), &report));
    assert!(text.contains(" :8080 in web from 10.0.1.0/24\n"), "{text}");
    assert!(text.contains(" :8080 in net:[8] from 10.0.1.0/24\n"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
    let groups = [0, 1].map(|at| (json["groups"][at]["netns"].clone(), json["groups"][at]["requests"].clone()));
    assert_eq!(groups, [(7.into(), 1.into()), (8.into(), 2.into())]);
}

#[test]
fn of_two_groups() {
    assert_eq!(
        shown(&figures()),
        r"The verdict.
3 requests (1 unanswered) on 1 connection, 1.54kB in, 41.0kB out; 75% of their time is service (p50 1.20s, p99 3.00s): the application computing or waiting.

STAGE          COUNT     P50     P90     P99     MAX  SHARE
ingress            3  15.0us  20.0us  20.0us  20.0us     0%
pickup             3  30.0us  41.0us  41.0us  41.0us     0%
upload             3     0ns     0ns     0ns     0ns     0%
service            3   1.20s   3.00s   3.00s   3.00s    75%
egress             2  45.0us  55.0us  55.0us  55.0us     0%
download           2     0ns   812ns   812ns   812ns     0%
drain              2  1.15ms  24.0ms  24.0ms  24.0ms     0%
total              3   1.40s   3.00s   3.00s   3.00s
synack             1  30.0us  30.0us  30.0us  30.0us
handshake          1   400us   400us   400us   400us
accept             1   1.40s   1.40s   1.40s   1.40s    25%

  REQUESTS     P50     P99  MOSTLY         ON PORT, FROM
         2   1.22s   1.41s  accept 53%     :8080 from 10.0.1.0/24
         1   3.00s   3.00s  service 100%   :443 from 2001:db8:0:1::/64

  REQUESTS     P50     P90     P99     MAX  READ BY
         3   1.41s   3.00s   3.00s   3.00s  gunicorn[812]
"
    );
}

#[test]
fn as_json() {
    let text = json(&report(&figures()));
    let start = r#"{"kind":"summary","verdict":["The verdict.","3 requests (1 unanswered) on 1 connection, "#;
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains(r#"],"rejections":[],"requests":3,"unanswered":1,"cut":0,"connections":1,"#), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["accept_wait_ns"], 1_400_000_000);
    assert_eq!(json["stages_ns"]["service"]["sum"], 4_201_200_000_u64);
    assert_eq!(json["stages_ns"]["egress"]["count"], 2);
    let p50 = json["stages_ns"]["service"]["p50"].as_u64().unwrap();
    assert!(p50.abs_diff(1_200 * MS) <= 2 * MS, "{p50}");
    assert_eq!(json["connection_stages_ns"]["handshake"]["sum"], 400_000);
    let groups: Vec<_> =
        json["groups"].as_array().unwrap().iter().map(|it| it["peer_network"].as_str().unwrap()).collect();
    assert_eq!(groups, ["2001:db8:0:1::/64", "10.0.1.0/24"]);
    // Nothing of this connection was seen, so nothing is said.
    assert_eq!(json["groups"][0]["connection_stages_ns"], serde_json::json!({}));
    assert_eq!(json["processes"][0]["comm"], "gunicorn");
}

#[test]
fn messages_and_streams_are_counted_beside_the_requests() {
    let message = RequestRecord { marks: marks(&[Opening::Http], Opening::WebSocket), ..slow() };
    let mut stream = RequestRecord { marks: marks(&[], Opening::Http), revision: 4, ..slow() };
    stream.moments.last_out = stream.moments.first_out + 10_000_000_000;
    let farewell = RequestRecord { marks: marks(&[Opening::TlsData], Opening::TlsAlert), bytes_out: 0, ..slow() };
    let with = |records: &[RequestRecord]| {
        let mut summary = figures();
        for record in records {
            summary.request(&Request::of(record));
        }
        summary
    };
    let second = |summary: &Summary| shown(summary).lines().nth(1).unwrap().to_owned();
    let before = "3 requests (1 unanswered) on 1 connection, ";
    for (records, expected) in [
        (&[message][..], "2.05kB in, 61.4kB out, beside 1 message (inferred); 75% of their time is service "),
        (&[stream], "2.05kB in, 61.4kB out, beside 1 stream (inferred); 75% "),
        (&[message, stream, message], "3.07kB in, 102kB out, beside 2 messages and 1 stream (inferred); 75% "),
        (&[farewell], "2.05kB in, 41.0kB out; 75% "),
    ] {
        let line = second(&with(records));
        assert!(line.starts_with(&format!("{before}{expected}")), "{line}");
    }
    let both = with(&[message, stream]);
    let object_of = |summary: &Summary| -> serde_json::Value { serde_json::from_str(&json(&report(summary))).unwrap() };
    let object = object_of(&both);
    assert_eq!((&object["requests"], &object["messages"], &object["streams"]), (&3.into(), &1.into(), &1.into()));
    // They are in no group and of no process.
    assert_eq!((&object["groups"][1]["requests"], &object["processes"][0]["requests"]), (&2.into(), &3.into()));
}

#[test]
fn nobody_is_named_for_stages_that_were_not_told_apart() {
    let second = |summary: &Summary| shown(summary).lines().nth(1).unwrap().to_owned();
    let mut unread = slow();
    (unread.moments.first_read, unread.moments.last_read, unread.moments.first_write) = (0, 0, 0);
    let mut summary = Summary::default();
    summary.request(&Request::of(&unread));
    let line = second(&summary);
    let end = "98% of their time is pickup, upload, service and egress together (p50 1.20s, p99 1.20s): what lies between \
        them was not seen, so whose time it is cannot be told apart.";
    assert!(line.ends_with(end), "{line}");
    // A few requests in which a stage was not told apart change nothing about the others.
    summary.request(&Request::of(&unanswered()));
    let line = second(&summary);
    assert!(
        line.ends_with("% of their time is service (p50 3.00s, p99 3.00s): the application computing or waiting."),
        "{line}"
    );
    for _ in 0..2 {
        summary.request(&Request::of(&unread));
    }
    let rows = shown(&summary);
    assert!(rows.lines().any(|row| row.contains("  pickup+ 98%")), "{rows}");
}

#[test]
fn what_waited_in_a_queue_of_this_host_is_not_the_peers_time() {
    let mut record = request(10 * S, [US, US, 0, MS, US, 1900 * MS, MS]);
    let line = |record: &RequestRecord| {
        let mut summary = Summary::default();
        summary.request(&Request::of(record));
        shown(&summary).lines().nth(1).unwrap().to_owned()
    };
    assert!(line(&record).ends_with(": the application writing on, or the peer's window."), "{}", line(&record));
    record.marks += 1700;
    assert_eq!(record.held(), 1700 * MS);
    let owner = ": this host's own queue, in which the packets waited: a shaper, or a link that is too slow (`tc -s qdisc \
        show`).";
    assert!(line(&record).ends_with(owner), "{}", line(&record));
}

#[test]
fn of_nothing() {
    assert_eq!(shown(&Summary::default()), "The verdict.\nNo request ended.\n");
}

#[test]
fn the_verdict_names_accept_if_that_took_longest() {
    let mut summary = Summary::default();
    summary.request(&Request::of(&first()));
    summary.connection(&closed());
    let text = shown(&summary);
    let verdict =
        "; 100% of their time is accept (p50 1.40s, p99 1.40s): the application, slow to accept connections.\n";
    assert!(text.lines().nth(1).unwrap().ends_with(verdict.trim_end()), "{text}");
}

/// A server that waits in vain for the rest of a request closes, without a response or right behind one.
#[test]
fn the_verdict_names_the_sender_where_a_request_may_not_have_come_whole() {
    let closed = RequestRecord { flags: unanswered().flags | RequestRecord::CLOSED, ..unanswered() };
    let said = |records: &[RequestRecord]| {
        let mut summary = Summary::default();
        for record in records {
            summary.request(&Request::of(record));
        }
        let text = shown(&summary);
        text.lines().nth(1).unwrap().split_once('%').unwrap().1.to_owned()
    };
    let inferred = "(inferred: the application then closed the connection).";
    assert_eq!(
        said(&[closed]),
        format!(
            " of their time is service (p50 3.00s, p99 3.00s): the application computing or waiting, or the sender, \
             who may not have sent all of them {inferred}"
        )
    );
    let both = said(&[closed, slow()]);
    let expected = "waiting, or, in 71% of that time, the sender, who may not have sent all of 1 request ";
    assert!(both.ends_with(&format!("{expected}{inferred}")), "{both}");
    // An answer right behind which the application closed may say that it waited in vain, if there is a body at all.
    let of =
        |opening| RequestRecord { marks: marks(&[], opening), flags: slow().flags | RequestRecord::CLOSED, ..slow() };
    assert!(said(&[of(Opening::Http)]).contains("the sender"));
    let fast = request(MS, [1, 2, 3, 999 * MS, 5, 6, 7]);
    let fast = RequestRecord { flags: fast.flags | RequestRecord::CLOSED, ..fast };
    for application in [of(Opening::Bodiless), of(Opening::Text), slow(), unanswered(), fast] {
        let said = said(&[application]);
        assert!(said.ends_with("the application computing or waiting."), "{said}");
    }
}

#[test]
fn requests_that_still_wait_are_listed_the_longest_first() {
    let records = [unanswered(), { RequestRecord { reported: 1_000_000_000_000, ..unanswered() } }];
    let requests: Vec<_> = records.iter().map(Request::of).collect();
    assert_eq!(
        text(|out| waiting(out, CLOCK, &requests)),
        r"
2 requests still waiting when tracing ended:
  since 22:13:33.000 [2001:db8:0:1::23]:50000 -> :443 gunicorn[812]: in service for 987s
  since 22:13:33.000 [2001:db8:0:1::23]:50000 -> :443 gunicorn[812]: in service for 3.00s
"
    );
    assert_eq!(text(|out| waiting(out, CLOCK, &[])), "");
    let many = vec![requests[0]; 22];
    assert!(text(|out| waiting(out, CLOCK, &many)).ends_with("  and 2 others\n"));
}

#[test]
fn what_is_missing_comes_last() {
    let lossy = counters(&[
        (Counter::RequestsEnded, 8),
        (Counter::RequestRecordsLost, 2),
        (Counter::ConnectionRecordsLost, 1),
        (Counter::AcceptsLost, 7),
        (Counter::RejectionRecordsLost, 1),
        (Counter::RejectionsUncounted, 4),
    ]);
    let lost = Some("egress is part of service".to_owned());
    let hook = Hook { hook: "written".to_owned(), refused: Some("ENOTSUPP".to_owned()), lost, ..Hook::default() };
    let lost = Some("stage accept".to_owned());
    let off = Hook { hook: "accept".to_owned(), unwanted: true, lost, ..Hook::default() };
    let shortfalls = Shortfalls { undecodable: 1, ..Shortfalls::default() };
    let run = Run { counters: Some(lossy), hooks: vec![hook, off], shortfalls, ..Run::default() };
    assert_eq!(
        text(|out| missing(out, &run)),
        r"
3 records lost on the way from the kernel; it counted 8 requests ended: the figures above lack some.
7 connections without the stage accept: no room for its time.
1 rejection counted above without a line: their records were lost.
4 rejections not counted above: there were too many kinds at once.
1 record could not be decoded.
Hook written is not attached (ENOTSUPP): egress is part of service.
Hook accept is off, as was asked for: stage accept.
"
    );
    let whole = counters(&[]);
    assert_eq!(text(|out| missing(out, &Run { counters: Some(whole), ..Run::default() })), "");
}

#[test]
fn what_was_rejected_comes_before_the_figures() {
    let mut summary = figures();
    for rejection in [short(), queue_full(), dropped()] {
        summary.rejections.add(&rejection);
    }
    let text = shown(&summary);
    let places = [
        "The verdict.\nMore of it.\n\nCOUNT REJECTED ",
        "\n1 204 ",
        "\n\nCOUNT WARNING ",
        "\n\n3 requests ",
        "\n\nSTAGE ",
    ];
    let places: Vec<_> = places.iter().map(|it| text.find(it)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} {text}");
    let json: serde_json::Value = serde_json::from_str(&json(&report(&summary))).unwrap();
    assert_eq!(json["verdict"], serde_json::json!(["The verdict.", "More of it."]));
    let causes: Vec<_> =
        json["rejections"].as_array().unwrap().iter().map(|it| it["cause"].as_str().unwrap()).collect();
    assert_eq!(causes, ["firewall_drop", "accept_queue_full", "keepalive_too_short"]);
}

#[test]
fn groups_beyond_those_listed_are_counted() {
    let mut summary = Summary::default();
    for network in 0..100 {
        let mut record = slow();
        record.tuple.peer = Endpoint::v4([10, 0, network, 23], 41_234);
        summary.request(&Request::of(&record));
    }
    let text = shown(&summary);
    assert_eq!(text.matches(" from 10.0.").count(), GROUPS_LISTED, "{text}");
    assert!(text.contains("\n        44                                 44 more\n"), "{text}");
    assert!(text.contains("\n        36   1.22s   1.22s  service 98%    others (only 64 are kept apart)\n"), "{text}");
}
