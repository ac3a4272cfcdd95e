//! SYNs that vanish without a word: in the driver, or at the remains of a connection.

use anyhow::{Context, Result, ensure};
use lab::Lab;
use lab::clock::sleep;
use lab::fault::{DropProgram, Hook, Rules, Segment, matching, send_segments};
use lab::target::{Options, Target};
use lab::topology::LB_V4;

use crate::python::{TCP, client, serve};
use crate::scene::{at, ms, settle, trace, verdict};

/// A native XDP program drops everything: no hook sees it, so the program is named before anybody is sent upstream.
#[test]
fn a_native_xdp_program_is_suspected_before_the_network() -> Result<()> {
    let lab = Lab::new()?;
    let _server = serve(&lab, 8080, TCP)?;
    let program = DropProgram::native_xdp(&lab.target, c"eth0")?;
    let tracer = trace(&lab, &["--port", "8080"])?;
    client(
        &lab.lb,
        8080,
        "
try:
    socket.create_connection(TARGET, 0.3)
except OSError:
    pass",
    )?;
    let trace = settle(tracer)?;
    drop(program);
    let told = trace.rejections_of("nothing_arrived");
    let told = told.first().context("nothing was told")?;
    ensure!(told.explanation.contains("the XDP program") && told.explanation.contains(" on eth0"), "{told:#?}");
    let verdict = verdict(&trace);
    ensure!(verdict.find("XDP program") < verdict.find("upstream"), "{verdict}");
    Ok(())
}

/// Timestamps behind NAT: a SYN from the port of a connection that has just ended is older than that.
#[test]
fn a_syn_with_an_old_timestamp_is_named() -> Result<()> {
    let lab = Lab::new()?;
    let _server = serve(&lab, 8080, TCP)?;
    let tracer = trace(&lab, &[])?;
    client(
        &lab.lb,
        8080,
        r#"
first = socket.socket()
first.bind(("10.77.0.1", 44444))
first.connect(TARGET)
stamp = (first.getsockopt(socket.IPPROTO_TCP, 24) - 5000) & 0xffffffff
first.sendall(request(0, 0))
while first.recv(65536):
    pass
first.close()
time.sleep(0.1)
options = bytes([2, 4, 5, 180, 4, 2, 8, 10]) + struct.pack("!II", stamp, 0) + bytes([1, 3, 3, 7])
header = struct.pack("!HHIIBBHHH", 44444, PORT, 1000, 0, (20 + len(options)) // 4 << 4, 2, 64240, 0, 0) + options
addresses = socket.inet_aton("10.77.0.1") + socket.inet_aton(TARGET[0])
covered = addresses + struct.pack("!BBH", 0, 6, len(header)) + header
total = sum(struct.unpack("!%dH" % (len(covered) // 2), covered))
total = (total >> 16) + (total & 0xffff)
checksum = ~((total >> 16) + total) & 0xffff
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 6)
raw.sendto(header[:16] + struct.pack("!H", checksum) + header[18:], (TARGET[0], 0))"#,
    )?;
    let trace = settle(tracer)?;
    let causes = trace.causes();
    ensure!(causes.get("packet_dropped") == Some(&1) && causes.len() == 1, "{:#?}", trace.rejections);
    let told = &trace.rejections[0];
    ensure!(told.packet.as_deref() == Some("SYN") && told.explanation.contains("timestamps behind NAT"), "{told:#?}");
    Ok(())
}

/// The SYN is sent again before the handshake is over, and tracing began in between: the socket of the handshake gets it.
#[test]
fn a_syn_that_comes_again_is_no_silence_and_was_not_forwarded() -> Result<()> {
    let lab = Lab::new()?;
    let _target = Target::start(&lab, "target", &Options::listen(&[at(8080)]))?;
    let _lost = Rules::start(&lab.lb, Hook::Input, &[&format!("{} drop", matching::SYN_ACKS)])?;
    let syn = Segment::syn((LB_V4, 40_000).into(), at(8080));
    send_segments(&lab.lb, &[syn])?;
    // The kernel sends the SYN-ACK again after one second and after three, and then not for four.
    sleep(ms(3200));
    let tracer = trace(&lab, &["--port", "8080"])?;
    send_segments(&lab.lb, &[syn])?;
    let trace = settle(tracer)?;
    ensure!(trace.rejections.is_empty(), "{:#?}", trace.rejections);
    Ok(())
}

/// With a port filter, SYNs for which nothing listens are counted by address and port, and those that find no room are a loss. Without
/// that filter nobody asks where they went.
#[test]
fn syns_for_too_many_addresses_are_a_loss_that_is_counted() -> Result<()> {
    const ROOM: u16 = 256;
    const FIRST: u16 = 20_000;
    let ports = FIRST..FIRST + ROOM + 4;
    let listed: Vec<_> = ports.clone().map(|port| format!("--port={port}")).collect();
    for (arguments, lost) in [(listed.iter().map(String::as_str).collect::<Vec<_>>(), 4), (Vec::new(), 0)] {
        let lab = Lab::new()?;
        let tracer = trace(&lab, &arguments)?;
        let syn = |port: u16| Segment { sequence: port.into(), ..Segment::syn((LB_V4, 40_000).into(), at(port)) };
        let syns: Vec<_> = ports.clone().map(syn).collect();
        send_segments(&lab.lb, &syns)?;
        let trace = settle(tracer)?;
        let refused = u64::try_from(syns.len())?;
        ensure!(trace.causes() == [("no_listener", refused)].into(), "{:#?}", trace.causes());
        ensure!(trace.status.counters["arrivals_uncounted"] == lost, "{:#?}", trace.status);
    }
    Ok(())
}
