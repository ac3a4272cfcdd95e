//! Healthy hosts with unusual networks: every request is recorded, and there is no alarm.

use anyhow::{Result, ensure};
use lab::Lab;

use crate::python::{TCP, client, serve};
use crate::scene::{settle, trace};

/// Two connections with two requests each to `address`, which have all their stages and the server's process.
fn healthy(lab: &Lab, address: &str, prepare: impl FnOnce() -> Result<()>) -> Result<()> {
    let server = serve(lab, 8080, TCP)?;
    prepare()?;
    let tracer = trace(lab, &[])?;
    let script = format!(
        "
for _ in range(2):
    connection = socket.create_connection(('{address}', PORT))
    get(connection, 1, 10)
    get(connection, 1, 10)
    connection.close()"
    );
    client(&lab.lb, 8080, &script)?;
    let trace = settle(tracer)?;
    ensure!(trace.requests.len() == 4 && trace.rejections.is_empty(), "{:#?} {:#?}", trace.requests, trace.rejections);
    for request in &trace.requests {
        // Behind synproxy the first request may come with the handshake's last ACK: when it reached the device is not known. And
        // netfilter changes the sequence numbers of what leaves: the last three stages may be one.
        let stages = request.stages_ns;
        let is_whole = [stages.pickup, stages.upload, stages.service, stages.egress].iter().all(Option::is_some);
        ensure!(request.pid == Some(server.pid()) && is_whole, "{request:#?}");
    }
    Ok(())
}

#[test]
fn a_server_behind_a_macvlan() -> Result<()> {
    let lab = Lab::new()?;
    let run = |arguments: &[&str]| lab.target.run("ip", arguments).map(drop);
    healthy(&lab, "10.77.0.3", || {
        run(&["link", "add", "mv0", "link", "eth0", "type", "macvlan", "mode", "bridge"])?;
        run(&["address", "add", "10.77.0.3/24", "dev", "mv0"])?;
        run(&["link", "set", "mv0", "up"])
    })
}

/// Netfilter answers the SYN itself, and opens the connection to the server once the handshake is over.
#[test]
fn a_server_behind_synproxy() -> Result<()> {
    let lab = Lab::new()?;
    healthy(&lab, "10.77.0.2", || {
        lab.target.sysctl("net.netfilter.nf_conntrack_tcp_loose", "0")?;
        let rules = "
table ip proxy {
    chain raw { type filter hook prerouting priority -300; tcp dport 8080 tcp flags syn notrack; }
    chain input {
        type filter hook input priority 0;
        tcp dport 8080 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
        ct state invalid drop
    }
}";
        lab.target.run("nft", &[rules]).map(drop)
    })
}
