use super::*;
use crate::{
    aggregate::rejections::{Class, Rejections},
    explain::{Limits, causes::CAUSES, explain},
    model::rejection::{Cause, Evidence, Facts},
    samples::{CLOCK, dropped, queue_full, race, short, warning, words},
};

fn of_width(width: usize) -> Terminal {
    Terminal { width: Some(width), ..Terminal::default() }
}

/// The tables, folded as the summary is, with words that are known here.
fn shown(terminal: Terminal, rejections: &[Rejection]) -> String {
    let mut counted = Rejections::default();
    for rejection in rejections {
        counted.add(rejection);
    }
    let mut rows = counted.explained(Limits::default());
    for row in &mut rows {
        row.explanation = if row.class() == Class::Warning { warning() } else { words() };
    }
    let mut out = Vec::new();
    tables(&mut out, terminal, CLOCK, &rows, &Namespaces::default()).unwrap();
    terminal.fold(&String::from_utf8(out).unwrap())
}

#[test]
fn wide() {
    assert_eq!(
        shown(of_width(160), &[short(), race(), queue_full(), dropped()]),
        r"
COUNT REJECTED          ALB LISTENER              FROM              FIRST(UTC)   LAST(UTC)
1 204 firewall_drop     504 10.0.2.5:8080         10.0.9.0/24       22:13:31.000 22:13:34.835
      gunicorn[812] accepts too slowly: its accept queue is full (129/128), the kernel ignored the SYN.
      Advice: Raise the number of workers, or the backlog.
   17 accept_queue_full 504 10.0.2.5:8080         10.0.1.0/24       22:13:31.000 22:13:34.835
    1 keepalive_race    504 [2001:db8:0:2::5]:443 2001:db8:0:1::/64 22:13:35.000 22:13:35.000

COUNT WARNING             LISTENER              FROM              FIRST(UTC)   LAST(UTC)
    3 keepalive_too_short [2001:db8:0:2::5]:443 2001:db8:0:1::/64 22:13:35.000 22:13:35.000
      nginx[77] closes idle connections after 5.00s, sooner than the load balancer.
      Advice: Set keepalive_timeout above 60s.
"
    );
}

#[test]
fn two_listeners_with_one_address_are_two_rows() {
    let mut namespaces = Namespaces::default();
    let mut counted = Rejections::default();
    for netns in [7, 8] {
        namespaces.see(netns);
        counted.add(&Rejection { netns, ..queue_full() });
    }
    namespaces.learn(7, "web");
    let rows = counted.explained(Limits::default());
    let cells = |at: usize| cells(&rows[at], CLOCK, Detail::Least, &namespaces);
    assert_eq!(cells(0)[1..5], ["accept_queue_full", "504", ":8080", "web"]);
    assert_eq!(cells(1)[1..5], ["accept_queue_full", "504", ":8080", "net:[8]"]);
}

#[test]
fn at_80() {
    assert_eq!(
        shown(of_width(80), &[short(), race(), queue_full(), dropped()]),
        r"
COUNT REJECTED          ALB LISTENER FROM              FIRST    LAST
1 204 firewall_drop     504 :8080    10.0.9.0/24       22:13:31 22:13:34
      gunicorn[812] accepts too slowly: its accept queue is full (129/128), the
      kernel ignored the SYN.
      Advice: Raise the number of workers, or the backlog.
   17 accept_queue_full 504 :8080    10.0.1.0/24       22:13:31 22:13:34
    1 keepalive_race    504 :443     2001:db8:0:1::/64 22:13:35 22:13:35

COUNT WARNING             LISTENER FROM              FIRST    LAST
    3 keepalive_too_short :443     2001:db8:0:1::/64 22:13:35 22:13:35
      nginx[77] closes idle connections after 5.00s, sooner than the load
      balancer.
      Advice: Set keepalive_timeout above 60s.
"
    );
}

#[test]
fn what_has_no_room_is_given_up_in_the_stated_order() {
    let rejections = [short(), race(), queue_full(), dropped()];
    let headings = |width: usize| {
        let text = shown(of_width(width), &rejections);
        text.lines().nth(1).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(headings(200), ["COUNT", "REJECTED", "ALB", "LISTENER", "FROM", "FIRST(UTC)", "LAST(UTC)"]);
    assert_eq!(headings(80)[5..], ["FIRST", "LAST"]);
    assert_eq!(headings(70)[5..], ["LAST"]);
    assert_eq!(headings(60)[4..], ["FROM"]);
    for width in 60..200 {
        let text = shown(of_width(width), &rejections);
        assert!(text.lines().all(|line| line.chars().count() <= width), "{width}: {text}");
    }
}

#[test]
fn nothing_is_no_table() {
    assert_eq!(shown(Terminal::default(), &[]), "");
}

#[test]
fn a_table_is_bounded_and_says_each_sentence_once() {
    let of = |port: u16| Rejection { count: u64::from(port), local: ([10, 0, 2, 5], port).into(), ..queue_full() };
    let text = shown(Terminal::default(), &(1..=200).map(of).collect::<Vec<_>>());
    assert_eq!(text.matches("accepts too slowly").count(), 1, "{text}");
    assert_eq!(text.matches("Advice: ").count(), 1);
    assert_eq!(text.lines().count(), 1 + 1 + ROWS + 2 + 1);
    // The first 64 are kept apart, and of the others those of which most was counted. Of these 20 are listed, the rest is one row.
    let listed = (181..=200).sum::<u64>();
    let (all, rows) = ((1..=200).sum::<u64>(), 64 + 64 + 1 - ROWS);
    assert!(text.ends_with(&format!("and {} more in {rows} other rows\n", Count(all - listed))), "{text}");
}

#[test]
fn those_beyond_the_rows_are_of_others() {
    let of = |port: u16| Rejection { cause: Cause::NoListener, local: ([10, 0, 2, 5], port).into(), ..queue_full() };
    let mut counted = Rejections::default();
    (1..=200).for_each(|port| counted.add(&of(port)));
    let rows = counted.explained(Limits::default());
    let cells = cells(rows.last().unwrap(), CLOCK, Detail::All, &Namespaces::default());
    assert_eq!(cells[..2], ["1 224", "no_listener"]);
    assert_eq!(cells[3..6], ["others", "", "10.0.1.0/24"]);
}

#[test]
fn a_line_names_cause_count_and_codes() {
    let told = |rejection: &Rejection, words: &Explanation| Told(rejection, words).to_string();
    assert_eq!(
        told(&queue_full(), &words()),
        "accept_queue_full x17 (504): gunicorn[812] accepts too slowly: its accept queue is full (129/128), the kernel \
         ignored the SYN."
    );
    let once = Rejection { count: 1, ..queue_full() };
    let codes = Explanation { alb: &["502", "504"], ..words() };
    assert!(told(&once, &codes).starts_with("accept_queue_full (502/504): gunicorn"));
    assert!(told(&short(), &warning()).starts_with("keepalive_too_short x3: nginx"));
}

#[test]
fn what_was_inferred_is_said_to_be() {
    let inferred = CAUSES.iter().filter(|entry| entry.evidence.contains(&Evidence::Inferred));
    for entry in inferred {
        let facts = Facts { retransmits: Some(7), same_idle: Some(3), ..queue_full().facts };
        let rejection = Rejection { cause: entry.cause, evidence: Evidence::Inferred, facts, ..queue_full() };
        let told = Told(&rejection, &explain(&rejection, Limits::default())).to_string();
        assert!(told.contains("inferred"), "{told}");
    }
}

#[test]
fn words_cannot_steer_the_terminal() {
    let hostile = Explanation { text: "\x1b[2J\u{9b}2J\r".to_owned(), advice: "a\nb\x07".to_owned(), ..words() };
    assert!(Told(&queue_full(), &hostile).to_string().ends_with(": ?[2J?2J?"));
    let mut counted = Rejections::default();
    counted.add(&queue_full());
    let mut rows = counted.explained(Limits::default());
    rows[0].explanation = hostile;
    let mut out = Vec::new();
    tables(&mut out, Terminal::default(), CLOCK, &rows, &Namespaces::default()).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with("      ?[2J?2J?\n      Advice: a?b?\n"), "{text}");
}
