//! The host's own queues: a response waits in a shaper.

use anyhow::{Context, Result, ensure};
use lab::Lab;

use crate::python::{TCP, client, serve};
use crate::scene::{settle, trace, verdict};

/// The shaper's time is neither the application's nor the peer's, and what waits in it for longer than TCP's timeout is not
/// sent again.
#[test]
fn a_response_waits_in_the_hosts_own_shaper() -> Result<()> {
    let lab = Lab::new()?;
    let _server = serve(&lab, 8080, TCP)?;
    lab.target.run("ip", &["link", "set", "eth0", "gso_max_segs", "1"])?;
    let shaper = ["qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "512kbit", "burst", "2000", "limit", "400000"];
    lab.target.run("tc", &shaper)?;
    let tracer = trace(&lab, &[])?;
    client(
        &lab.lb,
        8080,
        "
large, small = socket.create_connection(TARGET), socket.create_connection(TARGET)
get(small, 0, 10)
large.sendall(request(0, 60000))
time.sleep(0.1)
get(small, 0, 10)
response(large)",
    )?;
    let trace = settle(tracer)?;
    ensure!(trace.requests.len() == 3, "{:#?}", trace.requests);
    let resent: u32 = trace.requests.iter().map(|it| it.retransmits).sum();
    let counted = lab.target.run("nstat", &["-asz", "TcpRetransSegs"])?;
    let counted: u32 =
        counted.split_whitespace().skip_while(|it| *it != "TcpRetransSegs").nth(1).context("no counter")?.parse()?;
    ensure!(resent == counted, "{resent} of {counted}: {:#?}", trace.requests);
    let large = trace.requests.iter().find(|it| it.bytes_out > 60_000).context("no large response")?;
    ensure!(large.stages_ns.download > Some(500_000_000), "{large:#?}");
    let verdict = verdict(&trace);
    ensure!(verdict.contains("download") && verdict.contains("this host's own queue"), "{verdict}");
    Ok(())
}
