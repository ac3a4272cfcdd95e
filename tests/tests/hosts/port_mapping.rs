//! Ports that the host maps to others, as `iptables` REDIRECT and `docker -p` do.

use anyhow::Result;
use lab::Lab;
use lab::client::{Client, Request};
use lab::fault::{Hook, Rules};
use lab::target::{Options, Target};

use crate::scene::{at, ms, settle, trace, verdict};

/// A sidecar takes what comes for :8080, and the peer reads slowly: that is the peer's time, not this host's.
#[test]
fn a_slow_reader_behind_a_redirect() -> Result<()> {
    let lab = Lab::new()?;
    lab.target.sysctl("net.ipv4.tcp_wmem", "4096 65536 262144")?;
    let _rules = Rules::start(&lab.target, Hook::Prerouting, &["tcp dport 8080 redirect to :15006"])?;
    let _target = Target::start(&lab, "target", &Options::listen(&[at(15006)]))?;
    let tracer = trace(&lab, &[])?;
    let request = Request::get("/").header("X-Response-Bytes", 2_000_000).read_slowly(100_000, ms(20));
    Client::new(&lab.lb).receive_buffer(65_536).request(at(8080), &request)?;
    let trace = settle(tracer)?;
    let [request] = &trace.requests[..] else { panic!("{:#?}", trace.requests) };
    assert!(request.merged.is_empty(), "{request:#?}");
    let (egress, download) = (request.stages_ns.egress, request.stages_ns.download);
    assert!(egress < Some(10_000_000) && download > Some(100_000_000), "{request:#?}");
    assert!(!verdict(&trace).contains("this host's kernel"), "{}", verdict(&trace));
    Ok(())
}
