//! Event orders that real kernels produce and that are easy to get wrong: FINs that count as bytes, bytes that no hook
//! sees, acknowledgements between FINs.

use tracer_common::stage::RequestMoments;

use crate::scenario::{STEP, Scenario, is_complete};

/// `rcv_nxt` counts the peer's FIN: a read after it is not a byte longer.

#[test]
fn fin_of_peer_is_no_request_byte() {
    let mut s = Scenario::new();
    s.handshake().request(100).peer_closes().read().write(50).send().close().fin_acknowledged();
    assert_eq!(s.bytes(), [(100, 50)]);
}

/// The same on an adopted connection.

#[test]
fn fin_of_peer_begins_no_request() {
    let mut s = Scenario::new();
    s.adopted().peer_closes().read().gone();
    assert_eq!(s.connection.sequence.get(), 0);
}

/// A lingering close, as nginx does it, shuts down and reads the rest: `write_seq` counts the host's own FIN.

#[test]
fn own_fin_is_no_response_byte_read_in_fin_wait1() {
    let mut s = Scenario::new();
    s.handshake()
        .request(100)
        .read()
        .write(50)
        .send()
        .close()
        .request_with_handshake(10)
        .read()
        .fin_acknowledged()
        .gone();
    // What arrives after the host's own FIN is discarded by a lingering close, and not counted.
    assert_eq!(s.bytes(), [(100, 50)]);
}

#[test]
fn lingering_read_in_fin_wait2_does_not_undo_completeness() {
    let mut s = Scenario::new();
    s.handshake()
        .request(100)
        .read()
        .write(50)
        .send()
        .close()
        .fin_acknowledged()
        .request_with_handshake(10)
        .read()
        .gone();
    let last = s.requests()[0];
    assert!(is_complete(&last), "{last:#?}");
    assert_ne!(last.moments.acknowledged, 0);
}

/// Bytes that arrive after the report, with nothing else, are reported in the end.

#[test]
fn bytes_after_the_report_are_reported() {
    let mut s = Scenario::new();
    s.handshake().request(1000).read().respond(200); // reported: (1000, 200)
    // A segment that left the peer before the response reached it, overtaken by the ACK above.
    s.arrives(2000, 3000, 5000).request_with_handshake(0).gone();
    assert_eq!(s.bytes(), [(2000, 200)]);
}

/// In `FIN_WAIT1` the response is acknowledged but not the FIN, then comes a reset.

#[test]
fn response_acknowledged_before_fin_then_reset() {
    let mut s = Scenario::new();
    s.handshake().request(100).read().write(50).send().close();
    s.acknowledge(); // unseen (FIN_WAIT1): snd_una = end of response, FIN missing
    s.peer_resets();
    assert!(is_complete(&s.requests()[0]));
}

#[test]
fn same_in_last_ack_and_timeout() {
    let mut s = Scenario::new();
    s.handshake().request(100).read().peer_closes().write(50).send().close();
    s.acknowledge();
    s.times_out();
    assert!(is_complete(&s.requests()[0]));
}

/// `TCP_DEFER_ACCEPT`: the first segment comes with the handshake's last ACK, the second before the first read.

#[test]
fn second_segment_does_not_hide_that_the_first_came_with_the_handshake() {
    let mut s = Scenario::new();
    s.handshake().request_with_handshake(1448).wait(200 * STEP).request(100).read().respond(5);
    let r = s.requests()[0];
    assert_eq!(r.bytes_in, 1548);
    assert_eq!((r.moments.arrived, r.moments.queued), (0, s.connection.moments.established.get()));
}

/// A segment outside of the window, which TCP refuses, moves nothing.

#[test]
fn segment_out_of_window() {
    let mut s = Scenario::new();
    s.handshake().request(10).read().respond(20);
    let far = 1010_u32.wrapping_add(0x7000_0000);
    s.arrives(far, far + 100, 5020);
    s.request(10).read().respond(20).request(10).read().respond(20).gone();
    assert_eq!(s.bytes(), [(10, 20), (10, 20), (10, 20)]);
}

/// Moments from a damaged recording.

#[test]
fn overflow_in_accept() {
    let m = RequestMoments { arrived: u64::MAX, queued: 1, first_read: 10, ..Default::default() };
    let _ = m.split(5, 0);
}

/// The reader of the request before is not that of an unread one.

#[test]
fn process_of_previous() {
    let mut s = Scenario::new();
    s.handshake().request(10).read();
    s.connection.process.pid.set(42); // what note_reader does
    s.respond(20).request(10).peer_resets();
    assert_eq!(s.requests()[1].process.pid, 0);
}

/// Looked at while a further piece is outstanding, an earlier piece's acknowledgement does not end the request.

#[test]
fn stale_acknowledged_in_sweep() {
    let mut s = Scenario::new();
    s.handshake().request(10).read().respond(10).respond(10).write(30).send().wait(100 * STEP);
    s.read(); // any event that counts the bytes
    let c = &s.connection;
    let listed = c.is_to_be_looked_at();
    let r = tracer_common::record::RequestRecord::of(c, false, 0, s.now);
    assert!(listed && !is_complete(&r));
    let split = r.moments.split(0, s.now).split; // "looked at although it was not over"
    assert!(split.total > 100 * STEP, "{split:?}");
}

/// The read of bytes that were queued when the socket closed (in `FIN_WAIT2` a FIN lets `TIME_WAIT` take over).

#[test]
fn read_after_close_begins_no_request() {
    let mut s = Scenario::new();
    s.handshake()
        .request(100)
        .read()
        .write(50)
        .send()
        .close()
        .fin_acknowledged()
        .request_with_handshake(10)
        .gone()
        .read();
    assert_eq!(s.connection.sequence.get(), 1);
}

/// All of a short request, and its FIN, come with the handshake's last ACK.

#[test]
fn request_and_fin_with_the_handshake() {
    let mut s = Scenario::new();
    s.handshake().request_with_handshake(77).peer_closes().read().write(50).send().close().fin_acknowledged();
    assert_eq!(s.bytes(), [(77, 50)]);
    assert_eq!(s.requests()[0].moments.queued, s.connection.moments.established.get());
    assert_ne!(s.requests()[0].moments.first_read, 0);
}
