use super::*;
use crate::{
    aggregate::rejections::Rejections,
    explain::Limits,
    samples::{CLOCK, dropped, queue_full, race, words},
};

fn object(it: &Rejection) -> String {
    let mut out = Vec::new();
    rejection(&mut out, CLOCK, it, &words()).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn of_one_connection() {
    assert_eq!(
        object(&race()),
        r#"{"kind":"rejection","time":"2023-11-14T22:13:35.000000Z","cause":"keepalive_race","evidence":"observed","count":1,"first":"2023-11-14T22:13:35.000000Z","peer":"[2001:db8:0:1::23]:50000","local":"[2001:db8:0:2::5]:443","netns":4026531840,"connection":"0000000000003c4d","sequence":3,"alb":["504"],"title":"accept queue full","explanation":"gunicorn[812] accepts too slowly: its accept queue is full (129/128), the kernel ignored the SYN.","advice":"Raise the number of workers, or the backlog.","idle_ns":5000000000,"late_ns":412000,"ended_by":{"pid":77,"comm":"nginx","how":"closed"}}
"#
    );
}

#[test]
fn of_a_packet_of_several_peers() {
    assert_eq!(
        object(&dropped()),
        r#"{"kind":"rejection","time":"2023-11-14T22:13:34.835000Z","cause":"firewall_drop","evidence":"observed","count":1204,"first":"2023-11-14T22:13:31.000000Z","kernel":{"reason":"NETFILTER_DROP","location":"nft_do_chain"},"peer_network":"10.0.9.0/24","local":"10.0.2.5:8080","netns":4026531840,"alb":["504"],"title":"accept queue full","explanation":"gunicorn[812] accepts too slowly: its accept queue is full (129/128), the kernel ignored the SYN.","advice":"Raise the number of workers, or the backlog.","packet":"SYN"}
"#
    );
}

#[test]
fn what_is_not_known_is_absent() {
    let nobody = "0.0.0.0:0".parse().unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&object(&Rejection { peer: nobody, local: nobody, ..queue_full() })).unwrap();
    for name in ["peer", "peer_network", "local", "kernel", "connection", "sequence", "rule", "idle_ns"] {
        assert!(json.get(name).is_none(), "{name}: {json}");
    }
    assert_eq!(json["queue_length"], 129);
    assert_eq!(json["process"]["comm"], "gunicorn");
}

#[test]
fn a_row_of_the_summary() {
    let mut counted = Rejections::default();
    counted.add(&queue_full());
    let mut rows = counted.explained(Limits::default());
    rows[0].explanation = words();
    assert_eq!(
        serde_json::to_string(&RowObject::of(&rows[0], CLOCK)).unwrap(),
        r#"{"cause":"accept_queue_full","evidence":"observed","count":17,"local":"10.0.2.5:8080","netns":4026531840,"peer_network":"10.0.1.0/24","first":"2023-11-14T22:13:31.000000Z","last":"2023-11-14T22:13:34.835000Z","alb":["504"],"explanation":"gunicorn[812] accepts too slowly: its accept queue is full (129/128), the kernel ignored the SYN.","advice":"Raise the number of workers, or the backlog."}"#
    );
    let of = |port: u16| Rejection { local: ([10, 0, 2, 5], port).into(), ..queue_full() };
    (1..=200).for_each(|port| counted.add(&of(port)));
    let rows = counted.explained(Limits::default());
    let json = serde_json::to_value(RowObject::of(rows.last().unwrap(), CLOCK)).unwrap();
    assert_eq!((&json["other"], &json["count"]), (&true.into(), &(73 * 17).into()));
    // All of them are from one network.
    assert_eq!((json.get("local"), &json["peer_network"]), (None, &"10.0.1.0/24".into()), "{json}");
}
