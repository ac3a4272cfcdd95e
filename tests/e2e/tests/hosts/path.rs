//! The way to the peer: a response is never acknowledged.

use anyhow::{Result, ensure};
use lab::Lab;
use lab::fault::{Hook, Rules};

use crate::python::{TCP, client, serve};
use crate::scene::{settle, trace, verdict};

/// Makes a request for `size` bytes of which packets that `rule` names are lost on the way, and leaves with a reset 2.5 s later.
fn never_acknowledged(rule: &str, size: u32) -> Result<(String, String)> {
    let lab = Lab::new()?;
    let _server = serve(&lab, 8080, TCP)?;
    lab.target.run("ip", &["link", "set", "eth0", "gso_max_segs", "1"])?;
    let tracer = trace(&lab, &[])?;
    let script = format!(
        "
first = socket.create_connection(TARGET)
get(first, 0, 10)
first.sendall(request(0, {size}))
time.sleep(2.5)
reset(first)"
    );
    let rules = Rules::start(&lab.lb, Hook::Ingress, &[rule])?;
    client(&lab.lb, 8080, &script)?;
    drop(rules);
    let trace = settle(tracer)?;
    let causes = trace.causes();
    ensure!(causes.get("response_not_acknowledged") == Some(&1) && causes.len() == 1, "{:#?}", trace.rejections);
    Ok((trace.rejections[0].explanation.clone(), verdict(&trace)))
}

/// A path-MTU black hole: large packets are lost, and nobody says so.
#[test]
fn a_black_hole_for_large_packets_is_named_with_their_size() -> Result<()> {
    let (text, verdict) = never_acknowledged("ip protocol tcp meta length > 1400 drop", 20_000)?;
    ensure!(text.contains(" of packets with 1448 bytes without an acknowledgement"), "{text}");
    ensure!(verdict.contains("1448 bytes") && verdict.contains("MTU"), "{verdict}");
    Ok(())
}

/// The peer gets nothing of a small response either.
#[test]
fn a_small_response_that_is_lost_is_no_matter_of_size() -> Result<()> {
    let (text, verdict) = never_acknowledged("ip protocol tcp meta length 300-500 drop", 300)?;
    ensure!(!text.contains("packets with") && !verdict.contains("MTU"), "{text} {verdict}");
    Ok(())
}
