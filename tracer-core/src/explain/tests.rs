//! Tests of the table of causes and of what is said of a rejection.

use super::{
    Explanation, Limits,
    causes::CAUSES,
    entry::Family,
    explain, name,
    template::{names, render},
    values::VALUES,
};
use crate::model::rejection::{Cause, CloseReason, Evidence, Facts, ProcessName, Rejection, Rule, Setting};
use std::time::Duration;

const S: u64 = 1_000_000_000;

pub fn process(comm: &str, pid: u32, how: Option<&str>) -> ProcessName {
    ProcessName { pid, comm: comm.to_owned(), how: how.map(str::to_owned) }
}

/// A rejection of which nothing but the ends is known.
pub fn bare(cause: Cause) -> Rejection {
    Rejection {
        cause,
        evidence: Evidence::Observed,
        count: 1,
        first: S,
        last: S,
        peer: "10.0.1.23:41234".parse().unwrap(),
        local: "10.0.2.5:8080".parse().unwrap(),
        netns: 1,
        connection: None,
        sequence: None,
        reason: None,
        location: None,
        facts: Facts::default(),
    }
}

fn rule() -> Rule {
    Rule { chain: "inet filter input".to_owned(), handle: Some(7), text: "tcp dport 8080 drop".to_owned() }
}

fn setting() -> Setting {
    let name = "keepalive_timeout".to_owned();
    Setting { name, value: "5s".to_owned(), source: "/etc/nginx/nginx.conf".to_owned() }
}

/// Everything is known.
fn full(cause: Cause) -> Rejection {
    let facts = Facts {
        forwarded_to: None,
        only_v6: false,
        queue_length: Some(129),
        queue_limit: Some(128),
        idle_ns: Some(5 * S),
        late_ns: Some(200_000),
        waited_ns: Some(30 * S),
        zero_window_ns: Some(2 * S),
        bytes_in: Some(512),
        bytes_out: Some(20_480),
        unread: Some(400),
        retransmits: Some(6),
        resent_bytes: Some(1448),
        xdp: vec!["the XDP program filter (id 12) on eth0".to_owned()],
        packet: Some("SYN".to_owned()),
        outgoing: false,
        answer: Some("a reset".to_owned()),
        listens: vec!["127.0.0.1:8080".parse().unwrap()],
        process: Some(process("gunicorn", 812, None)),
        ended_by: Some(process("nginx", 77, Some("closed"))),
        half_closed: false,
        ended_unanswered: false,
        closed_because: Some(CloseReason::KeepAlive),
        closed_together: Some(2),
        same_idle: Some(4),
        outlived_ns: None,
        silent_ns: Some(3 * S),
        open_files: Some((1024, 1024)),
        threads: Some(4),
        unit: Some("nginx.service".to_owned()),
        container: None,
        server: Some("nginx".to_owned()),
        setting: Some(setting()),
        closed_unread: false,
        never_accepted: false,
        never_read: false,
        reads_unseen: false,
        rule: Some(rule()),
        candidates: Vec::new(),
        conntrack: Some((65_536, 65_536)),
        route: Some("Network is unreachable".to_owned()),
    };
    let (reason, location) = (Some("TCP_CSUM".to_owned()), Some("tcp_v4_rcv".to_owned()));
    Rejection { reason, location, facts, ..bare(cause) }
}

fn explained(rejection: &Rejection) -> Explanation {
    explain(rejection, Limits::default())
}

fn text(rejection: &Rejection) -> String {
    explained(rejection).text
}

#[test]
fn the_table_has_every_cause_by_its_name() {
    for entry in &CAUSES {
        assert_eq!(serde_json::to_value(entry.cause).unwrap(), entry.code);
        assert_eq!(name(entry.cause), entry.code);
    }
    // serde lists what it knows when it does not know something.
    let error = serde_json::from_str::<Cause>("\"?\"").unwrap_err().to_string();
    let variants = error.split("expected one of ").nth(1).unwrap().split(", ").count();
    assert_eq!(variants, CAUSES.len(), "{error}");
}

#[test]
fn templates_name_only_values_that_there_are() {
    for entry in &CAUSES {
        for template in [entry.text, entry.verdict, entry.advice] {
            for name in names(template).unwrap_or_else(|error| panic!("{}: {error}", entry.code)) {
                assert!(VALUES.iter().any(|value| value.name == name), "{}: {name} is no value", entry.code);
            }
        }
    }
}

#[test]
fn every_value_is_used() {
    for value in VALUES {
        let used = |template: &str| names(template).unwrap().contains(&value.name);
        let used = CAUSES.iter().any(|entry| [entry.text, entry.verdict, entry.advice].into_iter().any(used));
        assert!(used, "{}", value.name);
    }
}

#[test]
fn every_cause_is_a_sentence_with_all_figures_and_with_none() {
    let is_sentence = |text: &str| {
        let is_whole = text.ends_with('.') && !text.contains(['{', '}', '\n']) && !text.starts_with(' ');
        let is_clean = !["  ", " .", " ,", " ;", ".."].iter().any(|slip| text.contains(slip));
        assert!(is_whole && is_clean, "{text:?}");
    };
    for entry in &CAUSES {
        for rejection in [full(entry.cause), bare(entry.cause)] {
            let Explanation { title, text, advice, alb } = explained(&rejection);
            is_sentence(&text);
            is_sentence(&advice);
            assert!(!title.is_empty());
            // What is forwarded and answered there harms nobody.
            let is_answered = entry.cause == Cause::Forwarded && rejection.facts.retransmits.is_none();
            assert_eq!(alb.is_empty(), entry.family == Family::Warning || is_answered, "{}", entry.code);
        }
        is_sentence(&render(entry.text, |_| None));
        is_sentence(&render(entry.advice, |_| None));
        let first = |template| render(template, |_| None).chars().next().unwrap();
        assert!(first(entry.text).is_uppercase(), "{}", entry.code);
        let first = first(entry.advice);
        assert!(first.is_uppercase() || first == '`', "{}", entry.code);
    }
}

#[test]
fn what_is_known_is_in_the_sentence() {
    let of = |cause| text(&full(cause));
    assert_eq!(
        of(Cause::AcceptQueueFull),
        "gunicorn[812] on :8080 accepts too slowly: its accept queue is full (129/128), the kernel answered the SYN with a reset."
    );
    assert_eq!(
        of(Cause::KeepaliveRace),
        "nginx[77] closed the connection after 5.00s without a request; the next request met the close 200us later \
         (its keep-alive is shorter than the load balancer's 60s: 4 connections closed after the same idle time)."
    );
    assert_eq!(
        of(Cause::NoListener),
        "Nothing listens on 10.0.2.5:8080: gunicorn[812] is bound to loopback only (127.0.0.1:8080); the kernel \
         answers the SYN with a reset."
    );
    assert_eq!(
        of(Cause::FirewallReject),
        "This host's firewall rejected the SYN from 10.0.1.23:41234 with a reset by the rule `tcp dport 8080 drop` \
         (handle 7 in inet filter input)."
    );
    assert_eq!(
        of(Cause::MalformedPacket),
        "The kernel dropped a damaged SYN from 10.0.1.23:41234: wrong TCP checksum (TCP_CSUM in tcp_v4_rcv)."
    );
    assert_eq!(
        of(Cause::ResetMidResponse),
        "nginx[77] reset the connection 30.0s after the request came, in the middle of the response (20.5kB were \
         written)."
    );
}

#[test]
fn advice_names_the_setting_of_the_server_and_the_rule() {
    let advice = |cause| explained(&full(cause)).advice;
    let race = advice(Cause::KeepaliveRace);
    assert_eq!(
        race,
        "Set nginx keepalive_timeout (now 5s, /etc/nginx/nginx.conf) above the load balancer's idle timeout (60s): \
         `keepalive_timeout 65s;`. Then `nginx -t && nginx -s reload`."
    );
    let restart = |comm: &str, unit: Option<&str>, container: Option<&str>| {
        let (unit, container) = (unit.map(str::to_owned), container.map(str::to_owned));
        let ended_by = Some(process(comm, 77, Some("closed")));
        let facts =
            Facts { ended_by, unit, container, server: None, setting: None, ..full(Cause::KeepaliveRace).facts };
        let advice = explained(&Rejection { facts, ..full(Cause::KeepaliveRace) }).advice;
        advice.rsplit_once(". Then ").map(|(_, rest)| rest.to_owned()).unwrap()
    };
    assert_eq!(restart("gunicorn", Some("web.service"), None), "`systemctl restart web.service`.");
    assert_eq!(restart("gunicorn", None, Some("4f00aa11bb22")), "recreate container 4f00aa11bb22 with it.");
    assert_eq!(restart("gunicorn", None, None), "restart it.");
    assert_eq!(restart("haproxy", None, None), "`systemctl reload haproxy`.");
    assert_eq!(restart("haproxy", Some("lb.service"), None), "`systemctl reload lb.service`.");
    assert_eq!(restart("nginx", None, Some("4f00aa11bb22")), "recreate container 4f00aa11bb22 with it.");
    assert!(advice(Cause::FirewallDrop).starts_with("`nft -a list chain inet filter input` shows the rule"));
    assert!(advice(Cause::ConntrackFull).contains("nf_conntrack_max=131072"));
    assert!(advice(Cause::NoListener).starts_with("Bind it to 0.0.0.0:8080; `ss -ltnp 'sport = :8080'`"));
    let slow = Facts { process: Some(process("gunicorn", 812, None)), ..Facts::default() };
    let slow = explained(&Rejection { facts: slow, ..bare(Cause::AcceptQueueFull) }).advice;
    assert!(slow.contains("raise gunicorn --workers, --threads."), "{slow}");
    let unknown = explained(&bare(Cause::KeepaliveTooShort)).advice;
    assert_eq!(unknown, "Set the idle timeout of the server above that of the load balancer.");
}

#[test]
fn a_process_without_room_for_another_file_is_told_so() {
    for cause in [Cause::AcceptQueueFull, Cause::NoResponse, Cause::ResetBeforeResponse] {
        let at_limit = |open| {
            let facts = Facts { open_files: Some((open, 1024)), ..Facts::default() };
            explained(&Rejection { facts, ..bare(cause) }).advice.contains("is at its limit of open files")
        };
        // A few were closed since.
        assert!(at_limit(1024) && at_limit(1020) && !at_limit(1019), "{cause:?}");
    }
}

#[test]
fn a_close_says_what_its_reason_was_inferred_from() {
    let of = |closed_because, closed_together: Option<u32>| {
        let race = full(Cause::KeepaliveRace);
        let facts = Facts { closed_because, closed_together, outlived_ns: Some(30 * S), ..race.facts };
        let race = Rejection { facts, ..race };
        let Explanation { text, advice, .. } = explained(&race);
        let why = text.split_once(" later (").unwrap().1.trim_end_matches(").").to_owned();
        (why, advice)
    };
    for (reason, together, expected) in [
        (CloseReason::Stopped, None, "it stopped: its listener closed at the same moment"),
        (
            CloseReason::Stopped,
            Some(9),
            "it stopped: its listener closed at the same moment, with 9 connections in that instant",
        ),
        (
            CloseReason::Replaced,
            None,
            "it was restarted: its listener closed at the same moment, and something listens there again",
        ),
        (
            CloseReason::WorkerEnded,
            None,
            "its worker ended, while the port was still served: a reload, a recycled worker or the beginning of a stop",
        ),
        (CloseReason::ProcessEnded, Some(2), "the process ended, with 2 connections in that instant"),
        (
            CloseReason::Together,
            Some(12),
            "it stopped or reloaded: 12 connections with different idle times closed in that instant",
        ),
        (
            CloseReason::Early,
            Some(2),
            "long before its keep-alive time, keepalive_timeout 5s (/etc/nginx/nginx.conf): it stopped, reloaded, \
             recycled a worker or ran into a limit, with 2 connections in that instant",
        ),
    ] {
        let (why, advice) = of(Some(reason), together);
        assert_eq!(why, expected, "{reason:?}");
        assert!(!advice.contains("keepalive_timeout"), "{reason:?}: {advice}");
    }
    let (why, advice) = of(None, None);
    assert_eq!(
        why,
        "a stop, a reload or a limit of connections or requests; no keep-alive time: another connection was idle for \
         30.0s and lived on"
    );
    assert!(advice.starts_with("If the server stopped or reloaded then,"), "{advice}");
    assert!(!advice.contains("idle timeout"), "{advice}");
    let (_, advice) = of(Some(CloseReason::WorkerEnded), None);
    assert!(
        advice.ends_with(". `nginx -s reload` ends the old workers and their idle connections at once."),
        "{advice}"
    );
}

/// Without other connections to tell by, both readings that remain are said.
#[test]
fn a_close_without_a_known_reason_says_what_it_may_have_been() {
    let of = |idle_ns| {
        let facts = Facts { closed_because: None, closed_together: None, idle_ns, ..full(Cause::KeepaliveRace).facts };
        explained(&Rejection { facts, ..full(Cause::KeepaliveRace) })
    };
    let (long, short) = (of(Some(5 * S)), of(Some(S / 2)));
    assert!(long.text.contains("(a stop, a reload or a keep-alive time that is too short: which"), "{}", long.text);
    assert!(long.advice.ends_with("for longer than the load balancer's idle timeout (60s)."), "{}", long.advice);
    assert!(short.text.contains("(a stop, a reload or a limit of connections or requests: which"), "{}", short.text);
    assert!(!short.advice.contains("idle timeout"), "{}", short.advice);
    let beyond = of(Some(75 * S));
    assert!(beyond.text.contains("longer than the 60s assumed: which"), "{}", beyond.text);
    assert!(beyond.advice.ends_with("and run tracer with --idle-timeout."), "{}", beyond.advice);
}

#[test]
fn a_request_that_nobody_accepts_is_told_with_the_queue_and_the_threads() {
    let of = |queue_length, threads| {
        let facts = Facts {
            never_accepted: true,
            never_read: true,
            queue_length,
            queue_limit: Some(5),
            threads,
            ..Facts::default()
        };
        text(&Rejection { facts, ..bare(Cause::NoResponse) })
    };
    assert!(
        of(Some(2), Some(1)).ends_with(" (in the accept queue: 2 of 5; the process has 1 thread)."),
        "{}",
        of(Some(2), Some(1))
    );
    assert!(of(Some(2), Some(90)).ends_with(" (in the accept queue: 2 of 5)."));
    assert!(of(None, Some(1)).ends_with(" (the process has 1 thread)."));
}

#[test]
fn what_is_inferred_says_from_what() {
    for entry in CAUSES.iter().filter(|entry| entry.evidence.contains(&Evidence::Inferred)) {
        let said = |evidence| text(&Rejection { evidence, ..full(entry.cause) });
        assert!(said(Evidence::Inferred).contains("(inferred"), "{}", entry.code);
        assert!(!said(Evidence::Observed).contains("inferred"), "{}", entry.code);
    }
}

#[test]
fn a_sender_is_blamed_for_a_silence_only_and_not_where_the_server_ended() {
    let of = |comm, how, silent| {
        let mut closed = full(Cause::ClosedBeforeResponse);
        (closed.facts.server, closed.facts.silent_ns) = (None, silent);
        closed.facts.ended_by = Some(process(comm, 77, Some(how)));
        explained(&closed)
    };
    let stalled = of("nginx", "closed", Some(60 * S));
    assert!(stalled.text.contains("the sender had stalled"), "{}", stalled.text);
    assert!(stalled.advice.starts_with("The request was incomplete"), "{}", stalled.advice);
    for (comm, how, silent) in [
        // Its worker ended while the request waited for what is behind nginx.
        ("nginx", "exited", Some(60 * S)),
        ("nginx", "killed by signal 9", Some(60 * S)),
        // `return 444`.
        ("nginx", "closed", Some(S / 1000)),
        ("nginx", "closed", None),
        ("gunicorn", "closed", Some(60 * S)),
    ] {
        let told = of(comm, how, silent);
        assert!(!told.text.contains("stalled") && !told.advice.contains("incomplete"), "{comm} {how}: {told:?}");
    }
}

#[test]
fn a_process_that_died_is_not_told_to_keep_connections() {
    let mut race = full(Cause::KeepaliveRace);
    race.facts.ended_by = Some(process("gunicorn", 812, Some("killed by signal 9")));
    race.facts.closed_because = Some(CloseReason::ProcessEnded);
    assert!(text(&race).starts_with("gunicorn[812] (killed by signal 9) closed the connection after 5.00s"));
    let advice = explained(&race).advice;
    assert!(advice.starts_with("Find out why the process ended:"), "{advice}");
    assert!(!advice.contains("idle timeout"), "{advice}");
}

#[test]
fn a_peer_that_gave_up_after_the_idle_timeout_was_the_load_balancer() {
    let alb = |waited| {
        let mut rejection = full(Cause::PeerGaveUp);
        rejection.facts.waited_ns = waited;
        explained(&rejection).alb
    };
    assert_eq!([alb(Some(30 * S)), alb(None), alb(Some(60 * S))], [["460"], ["460"], ["504"]]);
    // Its clock began a little before.
    assert_eq!(alb(Some(60 * S - 1_000_000)), ["504"]);
    let limits = Limits { idle_timeout: Duration::from_secs(20) };
    assert_eq!(explain(&full(Cause::PeerGaveUp), limits).alb, ["504"]);
}

#[test]
fn a_network_stands_for_several_peers() {
    let of = |peer: &str| text(&Rejection { peer: peer.parse().unwrap(), ..bare(Cause::FirewallDrop) });
    assert!(of("10.0.1.0:0").ends_with(" from 10.0.1.0/24."));
    assert!(of("[2001:db8:1:2::]:0").ends_with(" from 2001:db8:1:2::/64."));
    assert_eq!(of("[::]:0"), "This host's firewall dropped the packet.");
}
