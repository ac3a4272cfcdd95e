//! How a turn follows the response before it, as its marks tell.

use crate::{ends::closed, scenario::Scenario};
use tracer_common::{
    connection::{ASKED, BEHIND, BODY, OPENING_SHIFT},
    opening::Opening,
    record::RequestRecord,
    rejection::{Ender, How},
    turn::{Marks, Turn},
};

/// What the marks of the current turn say about the response before it.
fn number(scenario: &Scenario) -> u32 {
    scenario.connection.flags.get() >> OPENING_SHIFT & 15
}

#[test]
fn a_body_behind_an_interim_response_is_noted() {
    for opening in [Opening::Text, Opening::Binary, Opening::WebSocket, Opening::TlsData] {
        let mut scenario = Scenario::new();
        scenario.handshake().request(200).read();
        scenario.connection.opened_with(Opening::Http);
        scenario.respond(25).request(500);
        assert_eq!(number(&scenario), ASKED);
        scenario.read();
        // Whatever its length and number: a body of ordinary length looks like a request.
        assert!(scenario.connection.is_opening_wanted());
        scenario.connection.opened_with(opening);
        assert_eq!(number(&scenario), BODY, "{opening:?}");
        let marks = Marks(scenario.connection.flags.get());
        assert!(marks.has_seen(Opening::Http) && !marks.has_seen(opening), "a body says nothing about the protocol");
        // What follows its response is a request again.
        scenario.respond(300).request(500).read();
        scenario.connection.opened_with(Opening::Http);
        assert_eq!(number(&scenario), Opening::Http as u32);
    }
}

#[test]
fn a_short_response_and_the_next_request_are_no_interim_response_and_a_body() {
    // The next turn begins with a method; the response is too long; the connection carries another protocol.
    for (first, length, next) in [
        (Opening::Http, 25, Opening::Http),
        (Opening::Http, 26, Opening::Text),
        (Opening::Text, 5, Opening::Text),
        (Opening::Binary, 5, Opening::Binary),
        (Opening::TlsHandshake, 25, Opening::TlsData),
    ] {
        let mut scenario = Scenario::new();
        scenario.handshake().request(200).read();
        scenario.connection.opened_with(first);
        scenario.respond(length).request(500).read();
        scenario.connection.opened_with(next);
        assert_eq!(number(&scenario), next as u32, "{first:?} {length} {next:?}");
    }
    // It was not seen how the turn begins.
    let mut scenario = Scenario::new();
    scenario.handshake().request(200).read().respond(25).request(500).read();
    scenario.connection.opened_with(Opening::Unknown);
    assert_eq!(number(&scenario), ASKED);
}

/// `GET` says more about its turn than other methods, and the same about its connection.
#[test]
fn a_request_without_a_body_is_http() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(200).read();
    scenario.connection.opened_with(Opening::Bodiless);
    let marks = Marks(scenario.connection.flags.get());
    assert_eq!((marks.opening(), marks.is_bodiless(), marks.has_seen(Opening::Http)), (Opening::Http, true, true));
    assert!(!marks.is_tls() && !marks.has_seen(Opening::Text));
    // Behind an interim response it is the next request.
    scenario.respond(25).request(200).read();
    scenario.connection.opened_with(Opening::Bodiless);
    assert_eq!(number(&scenario), Opening::Bodiless as u32);
}

#[test]
fn a_turn_that_begins_right_behind_a_response_is_noted_until_it_is_read() {
    for (pause, expected) in [(0, BEHIND), (90_000_000, BEHIND), (110_000_000, 0)] {
        let mut scenario = Scenario::new();
        scenario.handshake().request(200).read();
        scenario.connection.opened_with(Opening::Http);
        scenario.respond(500).wait(pause).request(5000);
        assert_eq!(number(&scenario), expected, "{pause}");
        scenario.read();
        scenario.connection.opened_with(Opening::Http);
        assert_eq!(number(&scenario), Opening::Http as u32);
    }
    let mut scenario = Scenario::new();
    scenario.handshake().request(200);
    assert_eq!(number(&scenario), 0, "nothing was before the first turn");
}

/// A load balancer asks for the upgrade on a connection that it has used before.
#[test]
fn a_turn_behind_a_response_that_may_have_switched_protocols_is_looked_at() {
    let looked_at = |request, response, pause| {
        let mut scenario = Scenario::new();
        scenario.handshake();
        for _ in 0..8 {
            scenario.request(500).read();
            scenario.connection.opened_with(Opening::Bodiless);
            scenario.respond(1000);
        }
        scenario.request(request).read().respond(response).wait(pause).request(300).read();
        assert_eq!(Marks(scenario.connection.flags.get()).is_behind(), pause == 0);
        scenario.connection.is_opening_wanted()
    };
    for pause in [0, 200_000_000] {
        assert!(looked_at(140, 129, pause) && looked_at(500, 400, pause));
        assert!(!looked_at(139, 129, pause) && !looked_at(500, 128, pause) && !looked_at(500, 401, pause));
    }
}

#[test]
fn a_turn_that_nobody_read_is_given_up_if_the_peer_leaves_soon() {
    for (wait, is_read, expected) in [(0, false, true), (0, true, false), (2_000_000_000, false, false)] {
        let mut scenario = Scenario::new();
        scenario.handshake().request(200).read().respond(300).request(5000);
        if is_read {
            scenario.read();
        } else {
            scenario.unread = 5000;
        }
        scenario.wait(wait).peer_resets();
        let facts = [closed(&scenario.connection).turn(), scenario.requests().last().unwrap().turn()];
        assert_eq!(facts.map(|facts| facts.is_abandoned), [expected; 2], "{wait} {is_read}");
    }
    // The application closes as it comes, or later; or its process dies.
    for (how, wait, expected) in
        [(How::Closed, 0, true), (How::Closed, 20_000_000, false), (How::Exited, 0, false), (How::Unknown, 0, false)]
    {
        let mut scenario = Scenario::new();
        scenario.handshake().request(200).read().respond(300).request(5000);
        scenario.unread = 5000;
        scenario.by = Ender { how: how as u16, ..Ender::default() };
        scenario.wait(wait).gone();
        assert_eq!(scenario.requests().last().unwrap().turn().is_abandoned, expected, "{how:?} {wait}");
    }
    // What a connection's end is decided without that.
    let mut scenario = Scenario::new();
    scenario.handshake().request(200).read().respond(300).request(5000);
    scenario.unread = 5000;
    let record = closed(&scenario.gone().connection);
    assert!(!record.turn().is_abandoned && !scenario.requests().last().unwrap().turn().is_abandoned);
}

/// A request was answered before all of it was read, and more came before the application closed.
#[test]
fn a_turn_behind_a_request_that_was_not_read_whole_is_the_rest_of_it() {
    let unread = |opening, unread, how: How| {
        let mut scenario = Scenario::new();
        scenario.handshake().request(50_000).read();
        scenario.connection.opened_with(opening);
        scenario.respond(300).wait(200_000_000).request(5000).wait(200_000_000);
        scenario.unread = unread;
        scenario.by = Ender { how: how as u16, ..Ender::default() };
        scenario.gone();
        [closed(&scenario.connection).turn().turn(), scenario.requests().last().unwrap().turn().turn()]
    };
    assert_eq!(unread(Opening::Http, 47_000, How::Closed), [Turn::Rest; 2]);
    assert_eq!(unread(Opening::TlsData, 47_000, How::Closed), [Turn::Rest; 2]);
    // The request before was read whole, the process died, or the connection carries no HTTP.
    for (opening, length, how) in
        [(Opening::Http, 5000, How::Closed), (Opening::Http, 47_000, How::Killed), (Opening::Text, 47_000, How::Closed)]
    {
        assert_eq!(unread(opening, length, how), [Turn::Request; 2], "{opening:?} {length} {how:?}");
    }
}

/// A ping of HTTP/2 shows what the connection carries, and so does its preface in the clear.
#[test]
fn turns_of_http_2_are_messages() {
    use Turn::{Message, Request};
    let turns = |opening, exchange: u32| {
        let mut scenario = Scenario::new();
        scenario.handshake().request(500).read();
        scenario.connection.opened_with(opening);
        scenario.respond(1000);
        for length in [exchange, 300] {
            scenario.request(length).read();
            scenario.connection.opened_with(if opening == Opening::WebSocket { Opening::Binary } else { opening });
            scenario.respond(exchange);
        }
        scenario.gone();
        let requests = scenario.requests();
        requests
            .iter()
            .filter(|it| it.flags & RequestRecord::FINAL != 0 || it.revision == 0)
            .map(|it| it.turn().turn())
            .collect::<Vec<_>>()
    };
    for length in [39, 46, 38] {
        assert_eq!(turns(Opening::TlsData, length), [Request, Message, Message], "{length}");
        assert_eq!(turns(Opening::Text, length), [Request; 3], "{length}");
    }
    assert_eq!(turns(Opening::TlsData, 40), [Request; 3]);
    assert_eq!(turns(Opening::WebSocket, 17), [Request, Message, Message]);
}
