use super::*;
use crate::{
    model::{place::Place, reconciliation::Row, status::Shortfalls},
    samples::{CLOCK, closed, counters, first, marks, slow, unanswered},
};
use tracer_common::opening::Opening;

fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_first_request_with_its_unit() {
    let place = Place { cgroup: "/system.slice/web.service".to_owned() };
    let record = first();
    let it = Request { place: Some(&place), ..Request::of(&record) };
    assert_eq!(
        text(|out| Objects::new(CLOCK).request(out, &it)),
        r#"{"kind":"request","time":"2023-11-14T22:13:30.000000Z","connection":"0000000000001a2b","sequence":1,"peer":"10.0.1.23:41234","local":"10.0.2.5:8080","netns":4026531840,"pid":812,"comm":"gunicorn","unit":"web.service","cgroup":"/system.slice/web.service","bytes_in":512,"bytes_out":20480,"accept_ns":1400000000,"total_ns":1402499812,"stages_ns":{"ingress":20000,"pickup":41000,"upload":0,"service":1230000,"egress":55000,"download":812,"drain":1153000},"merged":[],"retransmits":0,"srtt_ns":412000}
"#
    );
}

#[test]
fn an_amended_request_with_merged_stages() {
    let mut record = slow();
    (record.moments.first_out, record.moments.last_out, record.revision) = (0, 0, 1);
    let it = Request { amended: true, ..Request::of(&record) };
    assert_eq!(
        text(|out| Objects::new(CLOCK).request(out, &it)),
        r#"{"kind":"request","time":"2023-11-14T22:13:32.000000Z","connection":"0000000000001a2b","sequence":2,"revision":1,"peer":"10.0.1.23:41234","local":"10.0.2.5:8080","netns":4026531840,"pid":812,"comm":"gunicorn","bytes_in":512,"bytes_out":20480,"total_ns":1224090000,"stages_ns":{"ingress":15000,"pickup":30000,"upload":0,"service":1200000000,"egress":24045000},"merged":["download","drain"],"retransmits":0,"srtt_ns":412000}
"#
    );
}

#[test]
fn an_unanswered_request() {
    let record = unanswered();
    assert_eq!(
        text(|out| Objects::new(CLOCK).request(out, &Request::of(&record))),
        r#"{"kind":"request","time":"2023-11-14T22:13:33.000000Z","connection":"0000000000003c4d","sequence":1,"peer":"[2001:db8:0:1::23]:50000","local":"[2001:db8:0:2::5]:443","netns":4026531840,"pid":812,"comm":"gunicorn","adopted":true,"completed":false,"bytes_in":512,"bytes_out":0,"total_ns":3000000000,"stages_ns":{"ingress":10000,"pickup":20000,"upload":0,"service":2999970000},"merged":[],"retransmits":0}
"#
    );
    assert_eq!(
        text(|out| Objects::new(CLOCK).waiting(out, &Request::of(&record))),
        r#"{"kind":"waiting","time":"2023-11-14T22:13:33.000000Z","connection":"0000000000003c4d","sequence":1,"peer":"[2001:db8:0:1::23]:50000","local":"[2001:db8:0:2::5]:443","netns":4026531840,"pid":812,"comm":"gunicorn","adopted":true,"stage":"service","bytes_in":512,"bytes_out":0,"total_ns":3000000000,"stages_ns":{"ingress":10000,"pickup":20000,"upload":0,"service":2999970000},"merged":[],"retransmits":0}
"#
    );
}

#[test]
fn a_connection() {
    assert_eq!(
        text(|out| Objects::new(CLOCK).connection(out, &closed())),
        r#"{"kind":"connection","time":"2023-11-14T22:13:29.999520Z","connection":"0000000000001a2b","peer":"10.0.1.23:41234","local":"10.0.2.5:8080","netns":4026531840,"stages_ns":{"synack":30000,"handshake":400000,"accept":1400070000},"requests":2,"closed_by":"peer"}
"#
    );
}

#[test]
fn a_turn_that_is_no_request_has_a_kind_of_its_own() {
    let object = |record: &RequestRecord| -> serde_json::Value {
        serde_json::from_str(&text(|out| Objects::new(CLOCK).request(out, &Request::of(record)))).unwrap()
    };
    let kind = |record: &RequestRecord| object(record)["kind"].clone();
    let message = RequestRecord { marks: marks(&[Opening::Http], Opening::WebSocket), ..slow() };
    assert_eq!(kind(&message), "message");
    let mut stream = RequestRecord { marks: marks(&[], Opening::Http), revision: 4, ..slow() };
    assert_eq!(kind(&stream), "request");
    stream.moments.last_out = stream.moments.first_out + 10_000_000_000;
    assert_eq!(kind(&stream), "stream");
    // All the rest is as with requests.
    let (mut one, mut other) = (object(&slow()), object(&message));
    assert_eq!((one["kind"].take(), other["kind"].take()), ("request".into(), "message".into()));
    assert_eq!(one, other);
}

#[test]
fn a_connection_says_what_it_carries_if_that_is_no_requests() {
    let carries = |record: &ConnectionRecord| {
        let text = text(|out| Objects::new(CLOCK).connection(out, record));
        serde_json::from_str::<serde_json::Value>(&text).unwrap().get("carries").cloned()
    };
    let with =
        |seen: &[Opening], opening| ConnectionRecord { flags: closed().flags | marks(seen, opening), ..closed() };
    assert_eq!(carries(&closed()), None);
    assert_eq!(carries(&with(&[], Opening::Http)), None);
    assert_eq!(carries(&with(&[Opening::Http], Opening::WebSocket)), Some("messages".into()));
    let stream = ConnectionRecord { download: 10_000_000_000, reports: 4, ..with(&[], Opening::Http) };
    assert_eq!(carries(&stream), Some("stream".into()));
    assert_eq!(carries(&ConnectionRecord { requests: 1, ..with(&[Opening::Http], Opening::WebSocket) }), None);
    let record = with(&[Opening::Http], Opening::WebSocket);
    let text = text(|out| Objects::new(CLOCK).connection(out, &record));
    assert!(text.ends_with(",\"requests\":2,\"carries\":\"messages\",\"closed_by\":\"peer\"}\n"), "{text}");
}

#[test]
fn a_status() {
    let counters = counters(&[
        (Counter::ConnectionsOpened, 5),
        (Counter::ConnectionsAdopted, 1),
        (Counter::RequestsEnded, 8),
        (Counter::RequestRecordsLost, 2),
        (Counter::ConnectionRecordsLost, 1),
    ]);
    let hooks = [
        Hook { hook: "read".to_owned(), attached: Some("tp_btf tcp_rcv_space_adjust".to_owned()), ..Hook::default() },
        Hook {
            hook: "written".to_owned(),
            refused: Some("ENOTSUPP".to_owned()),
            lost: Some("egress is part of service".to_owned()),
            ..Hook::default()
        },
    ];
    let row = Row { name: "OutRsts".to_owned(), kernel: 5, explained: 6, difference: -1 };
    let reconciliation = [Reconciliation { netns: 7, rows: vec![row], not_read: None, filtered: false }];
    let shortfalls = Shortfalls { undecodable: 1, ..Shortfalls::default() };
    let run =
        Run { counters: Some(counters), hooks: hooks.to_vec(), shortfalls, reconciliation: reconciliation.to_vec() };
    let text = text(|out| status(out, 1221, &run, &[]));
    let totals = r#"{"kind":"status","requests":8,"connections":6,"rejections":1221,"records_lost":3,"records_undecodable":1,"counters":{"#;
    assert!(text.starts_with(totals), "{text}");
    let rest = r#"},"reconciliation":[{"netns":7,"rows":[{"name":"OutRsts","kernel":5,"explained":6,"difference":-1}]}],"hooks":[{"hook":"read","attached":"tp_btf tcp_rcv_space_adjust"},{"hook":"written","refused":"ENOTSUPP","lost":"egress is part of service"}]}
"#;
    assert!(text.ends_with(rest), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["counters"].as_object().unwrap().len(), Counter::ALL.len());
    assert_eq!((&json["counters"]["requests_ended"], &json["counters"]["storage_failed"]), (&8.into(), &0.into()));
}

#[test]
fn a_status_without_the_kernels_counters() {
    assert_eq!(
        text(|out| status(out, 3, &Run::default(), &[])),
        r#"{"kind":"status","hooks":[]}
"#
    );
}
