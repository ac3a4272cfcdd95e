use super::*;
use crate::{
    enrich::process::Place,
    samples::{CLOCK, closed, first, slow, unanswered},
};

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
        text(|out| request(out, CLOCK, &it)),
        r#"{"kind":"request","time":"2023-11-14T22:13:30.000000Z","connection":"0000000000001a2b","sequence":1,"peer":"10.0.1.23:41234","local":"10.0.2.5:8080","pid":812,"comm":"gunicorn","unit":"web.service","cgroup":"/system.slice/web.service","bytes_in":512,"bytes_out":20480,"accept_ns":1400000000,"total_ns":1402499812,"stages_ns":{"ingress":20000,"pickup":41000,"upload":0,"service":1230000,"egress":55000,"download":812,"drain":1153000},"merged":[],"retransmits":0,"srtt_ns":412000}
"#
    );
}

#[test]
fn an_amended_request_with_merged_stages() {
    let mut record = slow();
    (record.moments.first_out, record.moments.last_out, record.revision) = (0, 0, 1);
    let it = Request { amended: true, ..Request::of(&record) };
    assert_eq!(
        text(|out| request(out, CLOCK, &it)),
        r#"{"kind":"request","time":"2023-11-14T22:13:32.000000Z","connection":"0000000000001a2b","sequence":2,"revision":1,"peer":"10.0.1.23:41234","local":"10.0.2.5:8080","pid":812,"comm":"gunicorn","bytes_in":512,"bytes_out":20480,"total_ns":1224090000,"stages_ns":{"ingress":15000,"pickup":30000,"upload":0,"service":1200000000,"egress":24045000},"merged":["download","drain"],"retransmits":0,"srtt_ns":412000}
"#
    );
}

#[test]
fn an_unanswered_request() {
    let record = unanswered();
    assert_eq!(
        text(|out| request(out, CLOCK, &Request::of(&record))),
        r#"{"kind":"request","time":"2023-11-14T22:13:33.000000Z","connection":"0000000000003c4d","sequence":1,"peer":"[2001:db8:0:1::23]:50000","local":"[2001:db8:0:2::5]:443","pid":812,"comm":"gunicorn","adopted":true,"completed":false,"bytes_in":512,"bytes_out":0,"total_ns":3000000000,"stages_ns":{"ingress":10000,"pickup":20000,"upload":0,"service":2999970000},"merged":[],"retransmits":0}
"#
    );
    assert_eq!(
        text(|out| waiting(out, CLOCK, &Request::of(&record))),
        r#"{"kind":"waiting","time":"2023-11-14T22:13:33.000000Z","connection":"0000000000003c4d","sequence":1,"peer":"[2001:db8:0:1::23]:50000","local":"[2001:db8:0:2::5]:443","pid":812,"comm":"gunicorn","adopted":true,"stage":"service","bytes_in":512,"bytes_out":0,"total_ns":3000000000,"stages_ns":{"ingress":10000,"pickup":20000,"upload":0,"service":2999970000},"merged":[],"retransmits":0}
"#
    );
}

#[test]
fn a_connection() {
    assert_eq!(
        text(|out| connection(out, CLOCK, &closed())),
        r#"{"kind":"connection","time":"2023-11-14T22:13:29.999520Z","connection":"0000000000001a2b","peer":"10.0.1.23:41234","local":"10.0.2.5:8080","stages_ns":{"synack":30000,"handshake":400000,"accept":1400070000},"requests":2,"closed_by":"peer"}
"#
    );
}

#[test]
fn a_status() {
    let counters = Counters::new([5, 1, 4, 9, 8, 0, 0, 2, 1, 0, 0, 0]);
    let hooks = [
        Hook { hook: "read".to_owned(), attached: Some("tp_btf tcp_rcv_space_adjust".to_owned()), ..Hook::default() },
        Hook {
            hook: "written".to_owned(),
            refused: Some("ENOTSUPP".to_owned()),
            lost: Some("egress is part of service".to_owned()),
            ..Hook::default()
        },
    ];
    let shortfalls = Shortfalls { undecodable: 1, ..Shortfalls::default() };
    assert_eq!(
        text(|out| status(out, Some(&counters), &hooks, shortfalls)),
        r#"{"kind":"status","requests":8,"connections":6,"records_lost":3,"records_undecodable":1,"counters":{"accept_insert_failed":0,"connection_records_lost":1,"connections_adopted":1,"connections_closed":4,"connections_opened":5,"handshake_insert_failed":0,"request_records_lost":2,"requests_begun":9,"requests_ended":8,"requests_reopened":0,"requests_settled":0,"storage_failed":0},"hooks":[{"hook":"read","attached":"tp_btf tcp_rcv_space_adjust"},{"hook":"written","refused":"ENOTSUPP","lost":"egress is part of service"}]}
"#
    );
    assert_eq!(
        text(|out| status(out, None, &[], Shortfalls::default())),
        r#"{"kind":"status","hooks":[]}
"#
    );
}
