use super::*;
use crate::{
    aggregate::figures::Change,
    output::json_summary,
    samples::{CLOCK, MS, closed, first, request, slow, unanswered},
};
use tracer_common::record::RequestRecord;

fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn figures() -> Summary {
    let mut summary = Summary::default();
    for record in [first(), slow(), unanswered()] {
        summary.request(&Request::of(&record), Change::Add);
    }
    summary.connection(&closed());
    summary
}

#[test]
fn of_two_groups() {
    assert_eq!(
        text(|out| summary(out, &figures())),
        r"3 requests (1 unanswered) on 1 connection, 1.54kB in, 41.0kB out; 75% of their time is service (p50 1.20s, p99 3.00s): the application computing or waiting.

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

:443 from 2001:db8:0:1::/64: 1 request (1 unanswered), 512B in, 0B out; 100% of their time is service (p50 3.00s, p99 3.00s): the application computing or waiting.
STAGE          COUNT     P50     P90     P99     MAX  SHARE
ingress            1  10.0us  10.0us  10.0us  10.0us     0%
pickup             1  20.1us  20.1us  20.1us  20.1us     0%
upload             1     0ns     0ns     0ns     0ns     0%
service            1   3.00s   3.00s   3.00s   3.00s   100%
egress             0       -       -       -       -      -
download           0       -       -       -       -      -
drain              0       -       -       -       -      -
total              1   3.00s   3.00s   3.00s   3.00s
synack             0       -       -       -       -
handshake          0       -       -       -       -
accept             0       -       -       -       -      -

:8080 from 10.0.1.0/24: 2 requests on 1 connection, 1.02kB in, 41.0kB out; 53% of their time is accept (p50 1.40s, p99 1.40s): the application, slow to accept connections.
STAGE          COUNT     P50     P90     P99     MAX  SHARE
ingress            2  15.0us  20.1us  20.1us  20.1us     0%
pickup             2  30.1us  41.2us  41.2us  41.2us     0%
upload             2     0ns     0ns     0ns     0ns     0%
service            2  1.24ms   1.21s   1.21s   1.21s    46%
egress             2  45.1us  55.0us  55.0us  55.0us     0%
download           2     0ns   815ns   815ns   815ns     0%
drain              2  1.16ms  24.1ms  24.1ms  24.1ms     1%
total              2   1.22s   1.41s   1.41s   1.41s
synack             1  30.1us  30.1us  30.1us  30.1us
handshake          1   401us   401us   401us   401us
accept             1   1.40s   1.40s   1.40s   1.40s    53%

  REQUESTS     P50     P90     P99     MAX  READ BY
         3   1.41s   3.00s   3.00s   3.00s  gunicorn[812]
"
    );
}

#[test]
fn as_json() {
    let text = text(|out| json_summary::summary(out, &figures()));
    assert!(
        text.starts_with("{\"kind\":\"summary\",\"requests\":3,\"unanswered\":1,\"cut\":0,\"connections\":1,"),
        "{text}"
    );
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
fn of_nothing() {
    assert_eq!(text(|out| summary(out, &Summary::default())), "No request ended.\n");
}

#[test]
fn an_amended_request_counts_once() {
    let mut amended = figures();
    let early = request(MS, [1, 2, 3, 4, 5, 6, 7]);
    amended.request(&Request::of(&early), Change::Add);
    amended.request(&Request::of(&early), Change::Remove);
    assert_eq!(text(|out| summary(out, &amended)), text(|out| summary(out, &figures())));
}

#[test]
fn the_verdict_names_accept_if_that_took_longest() {
    let mut summary = Summary::default();
    summary.request(&Request::of(&first()), Change::Add);
    summary.connection(&closed());
    let text = text(|out| super::summary(out, &summary));
    let verdict =
        "; 100% of their time is accept (p50 1.40s, p99 1.40s): the application, slow to accept connections.\n";
    assert!(text.lines().next().unwrap().ends_with(verdict.trim_end()), "{text}");
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
    let counters = Counters::new([5, 1, 4, 9, 8, 0, 0, 2, 1, 0, 0, 7]);
    let lost = Some("egress is part of service".to_owned());
    let hook = Hook { hook: "written".to_owned(), refused: Some("ENOTSUPP".to_owned()), lost, ..Hook::default() };
    let shortfalls = Shortfalls { undecodable: 1, ..Shortfalls::default() };
    assert_eq!(
        text(|out| missing(out, Some(&counters), &[hook], shortfalls)),
        r"
3 records lost on the way from the kernel; it counted 8 requests ended: the figures above lack some.
7 connections without the stage accept: no room for its time.
1 record could not be decoded.
Hook written is not attached (ENOTSUPP): egress is part of service.
"
    );
    let whole = Counters::new([0; 12]);
    assert_eq!(text(|out| missing(out, Some(&whole), &[], Shortfalls::default())), "");
}
