//! How a connection ended, and who ended it.

use anyhow::{Context, Result};
use lab::attempt;
use lab::client::{Client, Request};
use lab::clock::{monotonic_ns, sleep};

use crate::bench::{Bench, check_time, ms, ways};

#[test]
fn the_one_who_closes_is_named() -> Result<()> {
    attempt("ends", || {
        let bench = Bench::start(|_| {})?;
        let client = Client::new(&bench.lab.lb);
        let mut cases = Vec::new();
        for way in ways() {
            let mut connection = client.connect(way)?;
            connection.request(&Request::get("/"))?;
            cases.push((connection.local, "peer"));
            drop(connection);

            let mut connection = client.connect(way)?;
            connection.request(&Request::get("/").header("X-Close", 1))?;
            assert!(connection.wait_closed()?, "the target closes");
            cases.push((connection.local, "application"));

            let mut connection = client.connect(way)?;
            connection.request(&Request::get("/"))?;
            // The acknowledgement of the response is on its way before the reset.
            sleep(ms(5));
            cases.push((connection.local, "reset_by_peer"));
            connection.reset()?;

            let mut connection = client.connect(way)?;
            connection.request(&Request::get("/").header("X-Close", 1).header("X-Linger0", 1))?;
            assert!(!connection.wait_closed()?, "the target resets");
            cases.push((connection.local, "reset_by_host"));
        }
        bench.finish(12, 12, |trace, _| {
            for (peer, by) in cases {
                let connection = trace.connection_of(peer).context("no such connection")?;
                assert_eq!((connection.closed_by.as_deref(), connection.requests), (Some(by), 1), "{connection:#?}");
                assert!(trace.requests_of(peer)[0].completed.is_none(), "{trace:#?}");
            }
            Ok(())
        })
    })
}

/// A client that goes away in the middle of a request: the stage that it was in lasts until then.
#[test]
fn a_request_that_the_client_gave_up_is_not_completed() -> Result<()> {
    attempt("given up", || {
        let bench = Bench::start(|options| options.behaviour.before_write = ms(300))?;
        let mut cases = Vec::new();
        for way in ways() {
            let mut connection = Client::new(&bench.lab.lb).connect(way)?;
            let sent = connection.send(&Request::get("/"))?;
            sleep(ms(100));
            cases.push((connection.local, monotonic_ns() - sent.first_byte_ns));
            connection.reset()?;
        }
        bench.finish(3, 3, |trace, _| {
            for (peer, waited) in cases {
                let request = trace.requests_of(peer)[0];
                assert_eq!((request.completed, request.bytes_out), (Some(false), 0), "{request:#?}");
                check_time("service", request.stages_ns.service.context("not measured")?, waited)?;
                let connection = trace.connection_of(peer).context("no such connection")?;
                assert_eq!(connection.closed_by.as_deref(), Some("reset_by_peer"), "{connection:#?}");
            }
            Ok(())
        })
    })
}
