use super::*;
use crate::{
    model::{namespaces::Namespaces, place::Place},
    samples::{CLOCK, MS, dropped, first, marks, queue_full, race, request, short, slow, unanswered, warning, words},
};
use tracer_common::opening::Opening;

/// The lines of the samples, and one whose response was never seen to leave.
fn lines(terminal: Terminal) -> String {
    let mut merged = slow();
    (merged.moments.first_out, merged.moments.last_out) = (0, 0);
    let place = Place { cgroup: "/system.slice/web.service".to_owned() };
    let mut lines = Lines::new(CLOCK, terminal);
    let mut out = Vec::new();
    for record in [first(), slow(), unanswered(), merged] {
        let request = Request { place: Some(&place), ..Request::of(&record) };
        lines.request(&mut out, &request).unwrap();
    }
    String::from_utf8(out).unwrap()
}

fn at(width: usize) -> String {
    lines(Terminal { width: Some(width), colour: false, interactive: false })
}

#[test]
fn full_width() {
    assert_eq!(
        lines(Terminal::default()),
        r"TIME(UTC)    PEER                  LOCAL  PROCESS                IN    OUT  TOTAL ACCEPT  INGRESS  PICKUP  UPLOAD  SERVICE  EGRESS  DOWNLOAD   DRAIN  NOTE       UNIT
22:13:30.000 10.0.1.23:41234       :8080  gunicorn[812]        512B 20.5kB  1.40s  1.40s*  20.0us  41.0us     0ns   1.23ms  55.0us     812ns  1.15ms             web.service
22:13:32.000 10.0.1.23:41234       :8080  gunicorn[812]        512B 20.5kB  1.22s      -   15.0us  30.0us     0ns    1.20s* 45.0us       0ns  24.0ms             web.service
22:13:33.000 [2001:db8:0:1::23]:50000 :443   gunicorn[812]        512B     0B  3.00s      -   10.0us  20.0us     0ns    3.00s*      -         -       -  unanswered,adopted web.service
22:13:32.000 10.0.1.23:41234          :8080  gunicorn[812]        512B 20.5kB  1.22s      -   15.0us  30.0us     0ns    1.20s* 24.0ms         <       <             web.service
"
    );
}

#[test]
fn without_stages_at_110() {
    assert_eq!(
        at(110),
        r"TIME(UTC)    PEER                  LOCAL  PROCESS             TOTAL MOSTLY               NOTE
22:13:30.000 10.0.1.23:41234       :8080  gunicorn[812]       1.40s accept 1.40s 100%
22:13:32.000 10.0.1.23:41234       :8080  gunicorn[812]       1.22s service 1.20s 98%
22:13:33.000 [2001:db8:0:1::23]:50000 :443   gunicorn[812]       3.00s service 3.00s 100%   unanswered,adopted
22:13:32.000 10.0.1.23:41234          :8080  gunicorn[812]       1.22s service 1.20s 98%
"
    );
}

#[test]
fn a_small_terminal_at_80() {
    assert_eq!(
        at(80),
        r"TIME(UTC)    PEER                  LOCAL   TOTAL MOSTLY               NOTE
22:13:30.000 10.0.1.23:41234       :8080   1.40s accept 1.40s 100%
22:13:32.000 10.0.1.23:41234       :8080   1.22s service 1.20s 98%
22:13:33.000 [2001:db8:0:1::23]:50000 :443    3.00s service 3.00s 100%   unanswe
22:13:32.000 10.0.1.23:41234          :8080   1.22s service 1.20s 98%
"
    );
}

#[test]
fn the_least_at_40() {
    assert_eq!(
        at(40),
        r"TIME(UTC)     TOTAL MOSTLY
22:13:30.000  1.40s accept 1.40s 100%
22:13:32.000  1.22s service 1.20s 98%
22:13:33.000  3.00s service 3.00s 100%
22:13:32.000  1.22s service 1.20s 98%
"
    );
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in 51..200 {
        // The peer of the third line is longer than any IPv4 address and pushes what follows.
        for line in at(width).lines().take(3) {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
}

#[test]
fn on_a_terminal_the_stage_that_dominates_is_bold_and_the_header_comes_again() {
    let terminal = Terminal { width: None, colour: true, interactive: true };
    let text = lines(terminal);
    assert!(text.contains(" \x1b[1m1.40s*\x1b[0m "), "{text}");
    let mut lines = Lines::new(CLOCK, terminal);
    let mut out = Vec::new();
    (0..81).for_each(|_| lines.request(&mut out, &Request::of(&slow())).unwrap());
    assert_eq!(String::from_utf8(out).unwrap().matches("TIME(UTC)").count(), 3);
}

#[test]
fn units_have_a_column_from_the_first_one_on() {
    let (root, web) = ("/", "/system.slice/web.service");
    let mut lines = Lines::new(CLOCK, Terminal::default());
    let mut out = Vec::new();
    for cgroup in [root, root, web, root] {
        let place = Place { cgroup: cgroup.to_owned() };
        lines.request(&mut out, &Request { place: Some(&place), ..Request::of(&slow()) }).unwrap();
    }
    let text = String::from_utf8(out).unwrap();
    let last_words: Vec<_> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(last_words, ["NOTE", "24.0ms", "24.0ms", "UNIT", "web.service", "-"], "{text}");
}

#[test]
fn retransmits_are_noted() {
    let record = RequestRecord { retransmits: 3, ..slow() };
    let mut out = Vec::new();
    Lines::new(CLOCK, Terminal::default()).request(&mut out, &Request::of(&record)).unwrap();
    assert!(String::from_utf8(out).unwrap().ends_with(" retrans:3\n"));
}

#[test]
fn what_is_no_request_is_noted() {
    let note = |record: &RequestRecord| {
        let mut out = Vec::new();
        Lines::new(CLOCK, Terminal::default()).request(&mut out, &Request::of(record)).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().nth(1).unwrap().rsplit("  ").next().unwrap().trim().to_owned()
    };
    let message = marks(&[Opening::Http], Opening::WebSocket);
    // A message needs no answer.
    let unanswered = RequestRecord { marks: message, sequence: 2, ..unanswered() };
    assert_eq!(note(&unanswered), "message,adopted");
    assert_eq!(note(&RequestRecord { marks: message, retransmits: 2, ..slow() }), "message,retrans:2");
    let mut stream = RequestRecord { marks: marks(&[], Opening::Http), revision: 4, ..slow() };
    stream.moments.last_out = stream.moments.first_out + 10_000_000_000;
    assert_eq!(note(&stream), "stream");
    stream.flags = 0;
    assert_eq!(note(&stream), "stream,cut");
}

#[test]
fn a_process_cannot_steer_the_terminal() {
    let mut record = slow();
    record.process.comm[..4].copy_from_slice(b"\x1b[2J");
    let mut out = Vec::new();
    Lines::new(CLOCK, Terminal::default()).request(&mut out, &Request::of(&record)).unwrap();
    assert!(!out.contains(&0x1b));
}

#[test]
fn what_took_long_is_marked_only_if_it_did() {
    let line = |service: u64| {
        let mut out = Vec::new();
        let record = request(MS, [1, 2, 3, service, 5, 6, 7]);
        Lines::new(CLOCK, Terminal::default()).request(&mut out, &Request::of(&record)).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert!(line(MS).contains(" 1.00ms* "));
    assert!(!line(MS - 1000).contains('*'));
}

/// A request and rejections.
fn rejected(terminal: Terminal) -> String {
    let mut lines = Lines::new(CLOCK, terminal);
    let mut out = Vec::new();
    lines.request(&mut out, &Request::of(&first())).unwrap();
    for rejection in [queue_full(), dropped(), race()] {
        lines.rejection(&mut out, &rejection, &words(), None).unwrap();
    }
    lines.rejection(&mut out, &short(), &warning(), None).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn rejections_stand_below_the_columns_of_requests() {
    assert_eq!(
        rejected(Terminal::default()),
        r"TIME(UTC)    PEER                  LOCAL  PROCESS                IN    OUT  TOTAL ACCEPT  INGRESS  PICKUP  UPLOAD  SERVICE  EGRESS  DOWNLOAD   DRAIN  NOTE
22:13:30.000 10.0.1.23:41234       :8080  gunicorn[812]        512B 20.5kB  1.40s  1.40s*  20.0us  41.0us     0ns   1.23ms  55.0us     812ns  1.15ms
22:13:34.835 10.0.1.23:41234       :8080  REJECTED accept_queue_full x17 (504): gunicorn[812] accepts too slowly: its accept queue is full (129/128), the kernel ignored the SYN.
22:13:34.835 10.0.9.0/24           :8080  REJECTED firewall_drop x1204 (504): gunicorn[812] accepts too slowly: its accept queue is full (129/128), the kernel ignored the SYN.
22:13:35.000 [2001:db8:0:1::23]:50000 :443   REJECTED keepalive_race (504): gunicorn[812] accepts too slowly: its accept queue is full (129/128), the kernel ignored the SYN.
22:13:35.000 [2001:db8:0:1::23]:50000 :443   WARNING keepalive_too_short x3: nginx[77] closes idle connections after 5.00s, sooner than the load balancer.
"
    );
}

#[test]
fn namespaces_have_a_column_from_the_second_one_on() {
    let mut namespaces = Namespaces::default();
    namespaces.learn(7, "web");
    let mut lines = Lines::new(CLOCK, Terminal { width: Some(80), ..Terminal::default() });
    let mut out = Vec::new();
    for netns in [7, 8, 7] {
        namespaces.see(netns);
        let record = RequestRecord { netns, ..first() };
        let request = Request { namespace: namespaces.label(netns), ..Request::of(&record) };
        lines.request(&mut out, &request).unwrap();
    }
    lines.rejection(&mut out, &queue_full(), &words(), namespaces.label(7)).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r"TIME(UTC)    PEER                  LOCAL   TOTAL MOSTLY               NOTE
22:13:30.000 10.0.1.23:41234       :8080   1.40s accept 1.40s 100%
TIME(UTC)    LOCAL  NETNS         TOTAL MOSTLY               NOTE
22:13:30.000 :8080  net:[8]       1.40s accept 1.40s 100%
22:13:30.000 :8080  web           1.40s accept 1.40s 100%
22:13:34.835 10.0.1.23:41234       :8080  web          REJECTED
    accept_queue_full x17 (504): gunicorn[812] accepts too slowly: its accept
    queue is full (129/128), the kernel ignored the SYN.
"
    );
}

#[test]
fn rejections_are_folded_at_80() {
    assert_eq!(
        rejected(Terminal { width: Some(80), ..Terminal::default() }),
        r"TIME(UTC)    PEER                  LOCAL   TOTAL MOSTLY               NOTE
22:13:30.000 10.0.1.23:41234       :8080   1.40s accept 1.40s 100%
22:13:34.835 10.0.1.23:41234       :8080  REJECTED accept_queue_full x17 (504):
    gunicorn[812] accepts too slowly: its accept queue is full (129/128), the
    kernel ignored the SYN.
22:13:34.835 10.0.9.0/24           :8080  REJECTED firewall_drop x1204 (504):
    gunicorn[812] accepts too slowly: its accept queue is full (129/128), the
    kernel ignored the SYN.
22:13:35.000 [2001:db8:0:1::23]:50000 :443   REJECTED keepalive_race (504):
    gunicorn[812] accepts too slowly: its accept queue is full (129/128), the
    kernel ignored the SYN.
22:13:35.000 [2001:db8:0:1::23]:50000 :443   WARNING keepalive_too_short x3:
    nginx[77] closes idle connections after 5.00s, sooner than the load
    balancer.
"
    );
}

#[test]
fn rejections_are_folded_at_any_width() {
    for width in 60..200 {
        for colour in [false, true] {
            let text = rejected(Terminal { width: Some(width), colour, interactive: false });
            let text = [BOLD, RED, YELLOW, PLAIN].iter().fold(text, |text, escape| text.replace(escape, ""));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}: {text}");
            assert_eq!(text.matches("ignored").count(), 3, "{text}");
        }
    }
}

#[test]
fn rejections_are_red_and_warnings_yellow_where_there_is_colour() {
    let text = rejected(Terminal { width: None, colour: true, interactive: true });
    assert_eq!(text.matches(" \x1b[1;31mREJECTED\x1b[0m accept_queue_full x17 (504): ").count(), 1, "{text}");
    assert_eq!(text.matches(" \x1b[1;33mWARNING\x1b[0m keepalive_too_short x3: ").count(), 1, "{text}");
}
