//! A delay between the device and the socket: ingress. The socket's lock is held while the request arrives, so the packet
//! waits in the socket's backlog.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use lab::client::{Client, Request};
use lab::clock::{MS, monotonic_ns, sleep};
use lab::{Busy, Lab, attempt};

use crate::bench::{assert_exact, check_request, ms, ns, precise_lab, start_tracer, ways};
use crate::kernel_lock::{SlowPage, save_syns};

/// One request whose connection is locked while it arrives. Returns the client's address and how long the lock was held
/// after the request was sent.
fn request_to_a_locked_socket(lab: &Lab, listen: SocketAddr, address: SocketAddr) -> Result<(SocketAddr, u64)> {
    let listener = lab.target.enter(|| TcpListener::bind(listen).context("cannot listen"))?;
    save_syns(listener.as_fd())?;
    let mut client = Client::new(&lab.lb).timeout(ms(5000)).connect(address)?;
    let (mut server, _) = listener.accept().context("cannot accept")?;
    let page = SlowPage::new()?;
    let request = Request::get("/");
    let (sent, released_ns) = thread::scope(|scope| {
        let holder = scope.spawn(|| page.hold_lock(server.as_fd()));
        let touched = page.wait_touched();
        let sent = client.send(&request);
        sleep(ms(120));
        let released_ns = monotonic_ns();
        // In any case, or the holder waits for ever.
        page.fill()?;
        holder.join().map_err(|_| anyhow!("the holder of the lock panicked"))??;
        touched?;
        anyhow::Ok((sent?, released_ns))
    })?;
    let mut bytes = vec![0; usize::try_from(sent.bytes)?];
    server.read_exact(&mut bytes).context("cannot read the request")?;
    let late_ns = monotonic_ns() - released_ns;
    ensure!(late_ns <= MS, Busy(format!("read {} us after it could be", late_ns / 1000)));
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").context("cannot answer")?;
    client.receive(&request, sent)?;
    Ok((client.local, released_ns - sent.first_byte_ns))
}

#[test]
fn ingress() -> Result<()> {
    attempt("ingress", || {
        let lab = precise_lab()?;
        let mut tracer = start_tracer(&lab)?;
        let [v4, v6, dual_stack] = ways();
        let mut cases = Vec::new();
        for (listen, address) in [(v4, v4), (v6, v6), ("[::]:8080".parse()?, dual_stack)] {
            cases.push(request_to_a_locked_socket(&lab, listen, address)?);
        }
        tracer.wait_for(ms(5000), |output| output.connections.len() >= cases.len())?;
        let trace = tracer.stop()?;
        assert_exact(&trace);
        for (peer, held) in cases {
            assert!(held >= ns(ms(120)));
            let requests = trace.requests_of(peer);
            let request = requests.first().context("the request is missing")?;
            assert_eq!(request.pid, Some(std::process::id()));
            check_request(request, &[("ingress", held)])?;
        }
        Ok(())
    })
}
