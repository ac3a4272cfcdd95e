//! Many requests over a connection: each counted once, with its bytes, its process and its peer.

use anyhow::Result;
use lab::attempt;
use lab::client::{Client, Request};
use lab::topology::{LB_V4, LB_V6};

use crate::bench::{Bench, by_target, check_request, ms, ns, served_of, ways};

/// What [`Bench::finish`] asserts of each request and connection is most of the test.
#[test]
fn requests_over_one_connection_are_told_apart() -> Result<()> {
    attempt("keep-alive", || {
        let bench = Bench::start(|_| {})?;
        let mut peers = Vec::new();
        for way in ways() {
            let mut connection = Client::new(&bench.lab.lb).connect(way)?;
            connection.requests(20, ms(0), &Request::get("/"))?;
            for size in [1, 100, 1000, 10_000, 100_000, 1_000_000] {
                connection.request(&Request::put("/", size).header("X-Response-Bytes", 1_000_001 - size))?;
            }
            connection.request(&Request::new("HEAD", "/", 0))?;
            // Longer than a second of quiet within one response: printed, and amended.
            let slow = Request::get("/").header("X-Pieces", 2).header("X-Between-Pieces", 1700);
            connection.request(&slow.header("X-Response-Bytes", 100))?;
            // Looked at in its middle, more than once: the last look counts.
            let steady = Request::get("/").header("X-Pieces", 12).header("X-Between-Pieces", 150);
            connection.request(&steady.header("X-Response-Bytes", 1200))?;
            peers.push(connection.local);
        }
        bench.finish(3 * 29, 3, |trace, served| {
            for (peer, way) in peers.into_iter().zip(ways()) {
                assert_eq!(peer.ip(), if way.is_ipv4() { LB_V4.into() } else { std::net::IpAddr::from(LB_V6) });
                let requests = trace.requests_of(peer);
                assert!(requests.iter().all(|request| request.local == way), "an IPv4-mapped end is shown as IPv4");
                let mut ingress: Vec<_> = requests.iter().filter_map(|request| request.stages_ns.ingress).collect();
                ingress.sort_unstable();
                assert_eq!(ingress.len(), requests.len(), "{requests:#?}");
                assert!(ingress[0] > 0 && ingress[14] < ns(ms(1)), "from the device to the socket: {ingress:?}");
                for (request, download_ms) in requests[27..].iter().zip([1700, 1650]) {
                    check_request(request, &by_target(served_of(served, request)?, &[("download", download_ms)])?)?;
                }
            }
            Ok(())
        })
    })
}
