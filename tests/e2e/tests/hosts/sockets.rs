//! Unusual sockets: Multipath TCP, TCP Fast Open, `io_uring`, and descriptors that are passed on.

use anyhow::{Result, ensure};
use lab::Lab;

use crate::python::{TCP, client, serve, serve_by_a_child, serve_through_io_uring};
use crate::scene::{settle, trace, verdict};

/// No hook sees an MPTCP socket being read: the stages are one, and nobody is named for it.
#[test]
fn nobody_is_blamed_for_the_time_of_an_mptcp_request() -> Result<()> {
    let lab = Lab::new()?;
    let server = serve(&lab, 8080, "socket.socket(proto=262)")?;
    let tracer = trace(&lab, &[])?;
    client(
        &lab.lb,
        8080,
        "
first = socket.socket(proto=262)
first.connect(TARGET)
get(first, 100, 10)
get(first, 100, 10)
first.close()
plain = socket.create_connection(TARGET)
get(plain, 1, 10)
plain.close()",
    )?;
    let trace = settle(tracer)?;
    ensure!(trace.requests.len() == 3 && trace.rejections.is_empty(), "{:#?}", trace.requests);
    let verdict = verdict(&trace);
    ensure!(verdict.contains("cannot be told apart") && !verdict.contains("busy elsewhere"), "{verdict}");
    // A peer without MPTCP gets a plain connection.
    let plain = trace.requests.iter().find(|it| it.merged.is_empty());
    ensure!(plain.is_some_and(|it| it.pid == Some(server.pid())), "{:#?}", trace.requests);
    Ok(())
}

/// The request is in the SYN, and read before the handshake is over.
#[test]
fn a_request_in_the_syn_is_recorded() -> Result<()> {
    let lab = Lab::new()?;
    // The server takes data in a SYN, without a cookie and for every listener; the client sends it without one.
    lab.target.sysctl("net.ipv4.tcp_fastopen", "1539")?;
    lab.lb.sysctl("net.ipv4.tcp_fastopen", "5")?;
    let server = serve(&lab, 8080, TCP)?;
    let tracer = trace(&lab, &[])?;
    client(
        &lab.lb,
        8080,
        "
for _ in range(3):
    connection = socket.socket()
    connection.sendto(request(50, 10), 0x20000000, TARGET)
    response(connection)
    get(connection, 0, 10)
    connection.close()
    time.sleep(0.05)",
    )?;
    let trace = settle(tracer)?;
    let fast = lab.target.run("nstat", &["-asz", "TcpExtTCPFastOpenPassive"])?;
    ensure!(fast.split_whitespace().any(|it| it == "3"), "{fast}");
    ensure!(trace.requests.len() == 6 && trace.rejections.is_empty(), "{:#?}", trace.requests);
    for request in &trace.requests {
        let service = request.stages_ns.service.unwrap_or(0);
        let is_first = request.sequence == 1;
        ensure!(request.pid == Some(server.pid()) && request.merged.is_empty(), "{request:#?}");
        ensure!((service > 50_000_000) == is_first && request.bytes_in > 20, "{request:#?}");
        ensure!(request.adopted.is_none() && request.total_ns < Some(200_000_000), "{request:#?}");
    }
    ensure!(trace.connections.len() == 3, "{:#?}", trace.connections);
    ensure!(trace.connections.iter().all(|it| it.stages_ns.handshake < Some(50_000_000)), "{:#?}", trace.connections);
    Ok(())
}

/// No hook sees an `io_uring` accept where only the system call is looked at.
#[test]
fn who_accepts_through_an_io_uring_is_not_said_not_to() -> Result<()> {
    let lab = Lab::new()?;
    let _server = serve_through_io_uring(&lab, 8080, false)?;
    let tracer = trace(&lab, &["--idle-timeout", "1s"])?;
    client(
        &lab.lb,
        8080,
        "
first = socket.create_connection(TARGET)
first.sendall(request(0, 10))
time.sleep(2)",
    )?;
    let trace = settle(tracer)?;
    let told = trace.rejections_of("no_response");
    ensure!(told.len() == 1, "{:#?}", trace.rejections);
    ensure!(told[0].explanation.contains("has not read a request") && !told[0].never_accepted, "{told:#?}");
    Ok(())
}

#[test]
fn a_server_on_an_io_uring_is_one_like_any_other() -> Result<()> {
    let lab = Lab::new()?;
    let server = serve_through_io_uring(&lab, 8080, true)?;
    each_request_is_of(&lab, server.pid())
}

#[test]
fn a_connection_that_was_passed_on_is_of_the_process_that_reads() -> Result<()> {
    let lab = Lab::new()?;
    let (_server, child) = serve_by_a_child(&lab, 8080)?;
    each_request_is_of(&lab, child)
}

/// Makes requests, and asserts that each is recorded with its stages and that process, and that nothing else is said.
fn each_request_is_of(lab: &Lab, pid: u32) -> Result<()> {
    let tracer = trace(lab, &[])?;
    client(
        &lab.lb,
        8080,
        "
for _ in range(2):
    connection = socket.create_connection(TARGET)
    get(connection, 0, 10)
    get(connection, 0, 10)
    connection.close()",
    )?;
    let trace = settle(tracer)?;
    ensure!(trace.requests.len() == 4 && trace.rejections.is_empty(), "{:#?} {:#?}", trace.requests, trace.rejections);
    for request in &trace.requests {
        let is_whole = request.merged.is_empty() && request.stages_ns.named().iter().all(|(_, time)| time.is_some());
        ensure!(request.pid == Some(pid) && is_whole, "{request:#?}");
    }
    Ok(())
}
