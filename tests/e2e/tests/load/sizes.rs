//! Requests and responses of any size: one request each, and every byte counted.

use anyhow::Result;
use lab::client::Request;

use crate::{Scene, assert_nothing_lost, settle};

/// Around one segment of an Ethernet, around 64 KiB, and large ones.
const SIZES: [u64; 10] = [1, 2, 1447, 1448, 1449, 65_535, 65_536, 1 << 20, 16 << 20, 64 << 20];

#[test]
fn every_byte_is_counted_both_ways() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace()?;
    let mut expected = Vec::new();
    for keep_alive in [true, false] {
        let mut connection = scene.connect()?;
        for size in SIZES {
            let requests = [
                Request::put("/", size),
                Request::get("/").header("X-Response-Bytes", size),
                Request::put("/", size).header("X-Response-Bytes", size),
            ];
            for request in requests {
                let reply = connection.request(&request)?;
                expected.push((connection.local, reply.sent.bytes, reply.bytes));
                if !keep_alive {
                    connection = scene.connect()?;
                }
            }
        }
    }
    let trace = settle(tracer)?;
    assert_nothing_lost(&trace);
    let mut recorded: Vec<_> = trace.requests.iter().map(|it| (it.peer, it.bytes_in, it.bytes_out)).collect();
    assert_eq!(recorded.len(), expected.len());
    // Requests of a connection are told in their order; those of two that follow each other may overtake.
    recorded.sort_by_key(|(peer, ..)| *peer);
    expected.sort_by_key(|(peer, ..)| *peer);
    for (recorded, expected) in recorded.iter().zip(&expected) {
        assert_eq!(recorded, expected, "peer, bytes in, bytes out");
    }
    assert!(trace.requests.iter().all(|request| request.completed.is_none()), "all are complete");
    assert!(trace.requests.iter().all(|request| Some(request.sum_ns()) == request.total_ns), "all stages add up");
    Ok(())
}

#[test]
fn a_single_byte_is_a_request() -> Result<()> {
    let scene = Scene::new(|options| options.behaviour.read_bytes_then_close = Some(1))?;
    let tracer = scene.trace()?;
    let mut connection = scene.connect()?;
    connection.send_raw(b"G")?;
    assert!(connection.wait_closed()?, "a plain close");
    drop(connection);
    let trace = settle(tracer)?;
    let request = crate::only_request(&trace)?;
    assert_eq!((request.bytes_in, request.bytes_out, request.completed), (1, 0, Some(false)));
    Ok(())
}
