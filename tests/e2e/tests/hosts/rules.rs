//! Firewall rules: which one did it, and the command that shows it.

use anyhow::{Context, Result, ensure};
use lab::Lab;
use lab::fault::{Hook, Rules};

use crate::python::{TCP, client, serve};
use crate::scene::{settle, trace, verdict};

/// One rule drops the data of one peer, another one the SYN of another peer in the same network.
#[test]
fn no_rule_is_blamed_for_what_another_one_did() -> Result<()> {
    let lab = Lab::new()?;
    lab.lb.run("ip", &["address", "add", "10.77.0.9/24", "dev", "eth0"])?;
    let _server = serve(&lab, 8080, TCP)?;
    let tracer = trace(&lab, &[])?;
    let data = "ip saddr 10.77.0.1 tcp dport 8080 tcp flags & syn == 0 ip length > 70 drop";
    let syn = "ip saddr 10.77.0.9 tcp dport 8080 tcp flags & (syn|ack) == syn drop";
    let rules = Rules::start(&lab.target, Hook::Input, &[data, syn])?;
    client(
        &lab.lb,
        8080,
        "
first = socket.create_connection(TARGET)
first.sendall(request(0, 10))
time.sleep(0.3)
second = socket.socket()
second.bind(('10.77.0.9', 0))
second.settimeout(0.5)
try:
    second.connect(TARGET)
except TimeoutError:
    pass
reset(first)",
    )?;
    let trace = settle(tracer)?;
    drop(rules);
    let told = trace.rejections_of("firewall_drop");
    for (packet, address) in [("data", "10.77.0.1"), ("SYN", "10.77.0.9")] {
        let of_it: Vec<_> = told.iter().filter(|it| it.packet.as_deref() == Some(packet)).collect();
        ensure!(!of_it.is_empty(), "{packet}: {told:#?}");
        let is_its_rule = |text: &str| text.contains(address);
        ensure!(of_it.iter().all(|it| it.rule.as_ref().is_some_and(|it| is_its_rule(&it.text))), "{of_it:#?}");
    }
    let verdict = verdict(&trace);
    for (packet, address) in [("data packet", "10.77.0.1"), (" SYN", "10.77.0.9")] {
        let sentence = verdict.split("let them pass").find(|it| it.contains(address));
        ensure!(sentence.is_some_and(|it| it.contains(packet)), "{verdict}");
    }
    Ok(())
}

/// A rule that `nft` does not know of.
#[test]
fn the_command_shows_a_rule_of_iptables_legacy() -> Result<()> {
    let lab = Lab::new()?;
    let _server = serve(&lab, 8080, TCP)?;
    lab.target.run("iptables-legacy", &["-A", "INPUT", "-p", "tcp", "--dport", "8080", "-j", "DROP"])?;
    let tracer = trace(&lab, &[])?;
    client(
        &lab.lb,
        8080,
        "
try:
    socket.create_connection(TARGET, 0.5)
except TimeoutError:
    pass",
    )?;
    let trace = settle(tracer)?;
    let told = trace.rejections_of("firewall_drop");
    let advice = &told.first().context("nothing was told")?.advice;
    let command = advice.split('`').nth(1).context("no command")?;
    let shown = lab.target.run("sh", &["-c", command])?;
    ensure!(shown.contains("--dport 8080 -j DROP"), "{command}: {shown}");
    Ok(())
}
