//! What the state machine makes of a connection's events: scenarios in prose.

mod any_order;
mod ends;
mod regressions;
mod scenario;
mod turns;

use scenario::{STEP, Scenario, is_complete, is_final, split};
use tracer_common::{
    connection::{
        ACTIVE, CLOSED_BY_APPLICATION, CLOSED_BY_PEER, ENDED_UNANSWERED, REOPENED, RESET_ARRIVED, RESET_BY_HOST,
        RESET_BY_PEER, TIMED_OUT, TIMED_OUT_AT_LAST, state,
    },
    record::RequestRecord,
    stage::RequestSplit,
};

#[test]
fn every_stage_of_a_request_is_measured() {
    let mut scenario = Scenario::new();
    scenario.handshake().accept().request(512).wait(4 * STEP).read().wait(9 * STEP).write(1000);
    scenario.wait(2 * STEP).send().wait(30 * STEP).acknowledge();
    assert_eq!(scenario.steps(), [1, 5, 0, 10, 3, 0, 31].map(Some));
    let [request] = scenario.reports()[..] else { panic!() };
    assert_eq!((request.bytes_in, request.bytes_out, request.sequence, request.revision), (512, 1000, 1, 0));
    assert!(is_complete(&request) && !is_final(&request));
}

#[test]
fn keep_alive_requests_are_told_apart() {
    let mut scenario = Scenario::new();
    scenario.handshake();
    for _ in 0..3 {
        scenario.request(100).read().respond(1000).wait(50 * STEP);
    }
    // The last one's acknowledgement comes with the next request.
    scenario.request(7).read().write(9).send().request(5);
    assert_eq!(scenario.bytes(), [(100, 1000), (100, 1000), (100, 1000), (7, 9)]);
    assert_eq!(scenario.connection.sequence.get(), 5);
    assert!(scenario.reports().iter().all(is_complete));
    // The wait between requests is in none of them.
    assert!(scenario.requests().iter().all(|request| split(request).split.total <= 10 * STEP));
}

#[test]
fn several_segments_and_reads_are_one_request() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(1448).request(1448).read().request(1448).wait(20 * STEP).request(100).read().read();
    scenario.respond(10);
    assert_eq!(scenario.bytes(), [(1448 * 3 + 100, 10)]);
    // First read to last: two segments of two steps each, the wait, two reads.
    assert_eq!(scenario.steps()[2], Some(20 + 6));
}

#[test]
fn a_read_after_the_first_write_is_no_upload() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(10).read().write(5).wait(10 * STEP).read().send().acknowledge();
    assert_eq!(scenario.steps()[2], Some(0));
}

#[test]
fn the_rest_of_an_early_answered_request_belongs_to_it() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(1000).read().write(200).request(1000).request(1000).read().send().request(1000);
    // The last segment left the peer after it had the whole response: by the rule, a new request.
    assert_eq!(scenario.bytes(), [(3000, 200)]);
    assert_eq!((scenario.connection.sequence.get(), scenario.connection.request.bytes_in.get()), (2, 1000));
}

#[test]
fn bytes_pipelined_before_the_response_belong_to_the_same_request() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(100).request(100).read().write(300).send_lost().request(100).retransmit();
    scenario.acknowledge().gone();
    assert_eq!(scenario.bytes(), [(300, 300)]);
}

#[test]
fn a_response_in_pieces_is_one_request_reported_again() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(100).read().respond(10).wait(100 * STEP).respond(20).respond(30);
    // The first three at once.
    let pieces = |scenario: &Scenario| {
        let pieces = scenario.reports().into_iter().map(|report| (report.sequence, report.revision, report.bytes_out));
        pieces.collect::<Vec<_>>()
    };
    assert_eq!(pieces(&scenario), [(1, 0, 10), (1, 1, 30), (1, 2, 60)]);
    assert_eq!(scenario.connection.flags.get() & REOPENED, 0);
    scenario.respond(40).respond(50);
    assert_eq!(scenario.reports().len(), 3);
    assert_ne!(scenario.connection.flags.get() & REOPENED, 0);
    // A piece after a pause, too.
    scenario.wait(PAUSE).respond(60);
    assert_eq!(pieces(&scenario)[3..], [(1, 3, 210)]);
    scenario.respond(70).request(5);
    assert_eq!(pieces(&scenario)[4..], [(1, 4, 280)]);
    let last = scenario.reports()[4];
    assert!(is_complete(&last) && is_final(&last));
    assert_eq!(scenario.steps()[5], Some(100 + PAUSE / STEP + 6 * 4));
    assert_eq!(scenario.connection.flags.get() & REOPENED, 0);
}

/// Nanoseconds after which a piece comes late.
const PAUSE: u64 = 200_000_000;

#[test]
fn a_further_piece_is_reported_at_the_close_too() {
    for unacknowledged in [false, true] {
        let mut scenario = Scenario::new();
        scenario.handshake().request(100).read().respond(10).write(20).send();
        if !unacknowledged {
            scenario.acknowledge();
        }
        scenario.peer_resets();
        let request = scenario.requests()[0];
        assert_eq!((request.revision, request.bytes_out, is_final(&request)), (1, 30, unacknowledged));
        assert_eq!((is_complete(&request), request.moments.acknowledged == 0), (!unacknowledged, unacknowledged));
    }
}

#[test]
fn a_half_closed_peer_still_gets_its_response() {
    // No hook sees the acknowledgement in CLOSE_WAIT, but TCP keeps when it came.
    let mut scenario = Scenario::new();
    scenario.handshake().request(100).read().peer_closes().write(50).send().acknowledge().close();
    scenario.fin_acknowledged();
    let request = scenario.requests()[0];
    assert!(is_complete(&request));
    assert_eq!((request.bytes_in, request.bytes_out, scenario.steps()[6]), (100, 50, Some(1)));
    assert_eq!(scenario.connection.flags.get(), CLOSED_BY_PEER | ENDED_UNANSWERED);
}

#[test]
fn the_last_ack_ends_the_response_to_a_half_closed_peer() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(100).read().peer_closes().write(50).send().close().wait(20 * STEP).fin_acknowledged();
    let [request] = scenario.reports()[..] else { panic!() };
    assert!(is_complete(&request));
    assert_eq!((request.bytes_out, scenario.steps()[6]), (50, Some(20 + 3)));
}

#[test]
fn a_response_in_flight_at_the_close_is_acknowledged_in_fin_wait() {
    for simultaneous in [false, true] {
        let mut scenario = Scenario::new();
        scenario.handshake().request(100).read().write(50).send().close().wait(20 * STEP);
        if simultaneous {
            // The peer's FIN crosses ours.
            scenario.change(state::CLOSING);
        }
        scenario.fin_acknowledged().gone();
        let [request] = scenario.reports()[..] else { panic!() };
        assert!(is_complete(&request));
        assert_eq!((request.bytes_out, scenario.steps()[6]), (50, Some(23 + u64::from(simultaneous))));
        assert_eq!(scenario.connection.flags.get(), CLOSED_BY_APPLICATION);
    }
}

/// Brings a connection into a phase, resets or loses it there, and says what is reported: bytes out and completeness.
#[test]
fn a_connection_may_end_in_every_phase() {
    type Step = fn(&mut Scenario) -> &mut Scenario;
    let phases: [(Step, Option<(u64, bool)>); 7] = [
        (|scenario| scenario, None),
        (|scenario| scenario.request(10), Some((0, false))),
        (|scenario| scenario.request(10).read(), Some((0, false))),
        (|scenario| scenario.request(10).read().write(30), Some((30, false))),
        (|scenario| scenario.request(10).read().write(30).send(), Some((30, false))),
        (|scenario| scenario.request(10).read().respond(30), Some((30, true))),
        (|scenario| scenario.request(10).read().respond(30).write(40).send(), Some((70, false))),
    ];
    let ends: [(Step, u32); 3] =
        [(Scenario::peer_resets, RESET_BY_PEER), (Scenario::gone, RESET_BY_HOST), (Scenario::times_out, TIMED_OUT)];
    for (index, (phase, expected)) in phases.into_iter().enumerate() {
        for (end, flag) in ends {
            for (before, cause) in [
                ((|scenario| scenario) as Step, flag),
                (Scenario::peer_closes, CLOSED_BY_PEER),
                (Scenario::close, CLOSED_BY_APPLICATION),
            ] {
                let mut scenario = Scenario::new();
                phase(scenario.handshake());
                // What the FIN of the peer acknowledges is complete.
                let seen = cause == CLOSED_BY_PEER && matches!(index, 4 | 6);
                end(before(&mut scenario));
                let got = scenario.requests().first().map(|request| (request.bytes_out, is_complete(request)));
                assert_eq!(got, expected.map(|(bytes, complete)| (bytes, complete || seen)), "phase {index}, {cause}");
                assert!(scenario.requests().len() <= 1);
                assert_eq!(
                    (scenario.connection.flags.get() & ACTIVE, scenario.connection.flags.get() & cause),
                    (0, cause)
                );
                // What also happened, after the first end.
                let later = RESET_ARRIVED | TIMED_OUT_AT_LAST | ENDED_UNANSWERED;
                assert_eq!(scenario.connection.flags.get() & !(REOPENED | later | cause), 0);
            }
        }
    }
}

#[test]
fn the_first_read_stands_for_bytes_that_came_with_the_handshake() {
    let mut scenario = Scenario::new();
    scenario.handshake().request_with_handshake(77).wait(10 * STEP).read().respond(5);
    let request = scenario.requests()[0];
    assert_eq!((request.bytes_in, request.moments.arrived), (77, 0));
    assert_eq!(request.moments.queued, scenario.connection.moments.established.get());
    assert_eq!(scenario.steps()[..3], [None, Some(11), Some(0)]);
}

#[test]
fn retransmissions_move_no_moment() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(10).read().write(40).send_lost().wait(200 * STEP).retransmit().acknowledge();
    let request = scenario.requests()[0];
    assert_eq!((request.retransmits, request.bytes_out), (1, 40));
    // What the loss cost is in the drain.
    assert_eq!(scenario.steps()[5..], [Some(0), Some(202)]);
    // The request sent again changes nothing either.
    scenario.arrives(1000, 1010, 5040);
    assert_eq!((scenario.connection.sequence.get(), scenario.connection.request.bytes_in.get()), (1, 10));
}

#[test]
fn sequence_numbers_may_wrap() {
    let mut scenario = Scenario::at(u32::MAX - 149, u32::MAX - 999);
    scenario.handshake();
    for _ in 0..3 {
        scenario.request(60).request(60).read().write(700).send().respond(300);
    }
    assert_eq!(scenario.bytes(), [(120, 1000); 3]);
}

#[test]
fn more_than_four_gigabytes_are_counted() {
    const PIECE: u32 = 0x4000_0000;
    let mut scenario = Scenario::new();
    scenario.handshake();
    for _ in 0..5 {
        scenario.request(PIECE).read();
    }
    for _ in 0..6 {
        scenario.write(PIECE).send().acknowledge();
    }
    scenario.request(1);
    assert_eq!(scenario.bytes(), [(5 * u64::from(PIECE), 6 * u64::from(PIECE))]);
    assert_eq!(scenario.steps().map(|stage| stage.is_some()), [true; 7]);
}

#[test]
fn an_adopted_connection_counts_from_its_adoption() {
    let mut scenario = Scenario::new();
    // In the middle of a response: the rest of it belongs to no request.
    scenario.adopted().respond(500).request(10).read().respond(20).gone();
    assert_eq!(scenario.bytes(), [(10, 20)]);
    let request = scenario.requests()[0];
    assert_eq!(request.flags & RequestRecord::ADOPTED, RequestRecord::ADOPTED);
    assert_eq!(scenario.connection.moments.get().split().total, 0);
}

#[test]
fn bytes_of_unknown_arrival_have_no_moment_on_an_adopted_connection() {
    let mut scenario = Scenario::new();
    scenario.adopted().request_with_handshake(30).read().respond(20);
    let request = scenario.requests()[0];
    assert_eq!((request.moments.arrived, request.moments.queued, request.bytes_in), (0, 0, 30));
    assert_eq!(scenario.steps()[..3], [None, None, Some(0)]);
}

#[test]
fn keep_alive_probes_are_no_request() {
    let mut scenario = Scenario::new();
    scenario.handshake().keep_alive_probe().request(10).read().keep_alive_probe().respond(20).keep_alive_probe();
    assert_eq!((scenario.bytes(), scenario.connection.sequence.get()), (vec![(10, 20)], 1));
}

#[test]
fn segments_out_of_order_are_counted_once() {
    let mut scenario = Scenario::new();
    scenario.handshake().arrives(1100, 1200, 5000).arrives(1200, 1300, 5000).arrives(1000, 1100, 5000);
    scenario.request_with_handshake(300).arrives(1100, 1300, 5000).read().respond(20);
    assert_eq!(scenario.bytes(), [(300, 20)]);
}

#[test]
fn a_server_may_speak_first() {
    let mut scenario = Scenario::new();
    scenario.handshake().write(100).send().acknowledge().write(50).send();
    assert_eq!(scenario.connection.sequence.get(), 0);
    // The greeting's tail is still in flight: neither it nor its retransmission is the response.
    scenario.arrives(1000, 1010, 5100).request_with_handshake(10).retransmit().acknowledge();
    assert!(scenario.reports().is_empty());
    scenario.read().respond(20);
    assert_eq!(scenario.bytes(), [(10, 20)]);
    assert_eq!(scenario.steps()[4..6], [Some(1), Some(0)]);
}

#[test]
fn the_first_request_waits_for_accept_outside_of_its_stages() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(10).wait(500 * STEP).accept().read().respond(20).request(10).read().respond(20);
    let [first, second] = scenario.requests()[..] else { panic!() };
    let [RequestSplit { split, accept }, later] = [first, second].map(|request| split(&request));
    assert_eq!(accept, Some(501 * STEP));
    assert_eq!(split.stages.map(|stage| stage.unwrap() / STEP), [1, 1, 0, 1, 1, 0, 1]);
    assert_eq!(split.total + accept.unwrap(), first.moments.acknowledged - first.moments.arrived);
    assert_eq!((later.accept, second.accepted), (None, 0));
}
