//! Listeners that are not one socket for all addresses: `SO_REUSEPORT`, SYN cookies, resets at overflow, one address family.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::Lab;
use lab::client::{Client, Request};
use lab::clock::sleep;
use lab::counters::Counters;
use lab::fault::{Hook, Rules, matching};
use lab::target::{Options, Target};
use lab::tracer::Rejection;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::scene::{at, ms, settle, trace, verdict};

const PORT: u16 = 8080;

/// A target that never accepts and has room for two connections.
fn stuck(listen: SocketAddr) -> Options {
    Options { backlog: 1, before_accept: Duration::from_hours(1), ..Options::listen(&[listen]) }
}

fn count(told: &[&Rejection]) -> u64 {
    told.iter().map(|it| it.count).sum()
}

/// The kernel's hash gives every worker a share: the one that stands still is named, never the one that serves.
#[test]
fn one_of_several_workers_is_stuck() -> Result<()> {
    let lab = Lab::new()?;
    let serves = Options { reuse_port: true, ..Options::listen(&[at(PORT)]) };
    let _serves = Target::start(&lab, "serves", &serves)?;
    let stuck = Target::start(&lab, "stuck", &Options { reuse_port: true, ..stuck(at(PORT)) })?;
    let tracer = trace(&lab, &[])?;
    let before = Counters::read(&lab.target)?;
    let client = Client::new(&lab.lb).timeout(ms(200));
    // Half of them are for the worker that is stuck.
    let open: Vec<_> = (0..16).filter_map(|_| client.connect(at(PORT)).ok()).collect();
    let overflows = Counters::read(&lab.target)?.since(&before, "TcpExtListenOverflows")?;
    let trace = settle(tracer)?;
    drop(open);
    ensure!(overflows > 0, "all of them found room");
    let told = trace.rejections_of("accept_queue_full");
    assert_eq!(count(&told), overflows, "{told:#?}");
    for it in told {
        assert_eq!(it.process.as_ref().map(|it| it.pid), Some(stuck.pid()), "{it:#?}");
    }
    Ok(())
}

/// Two sockets with one address, of which a classic BPF program picks one; the second has room for two connections.
struct Steered([OwnedFd; 2]);

impl Steered {
    fn new(lab: &Lab) -> Result<Self> {
        let socket = |backlog| {
            let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            sockopt::set_socket_reuseport(&socket, true)?;
            rustix::net::bind(&socket, &at(PORT))?;
            rustix::net::listen(&socket, backlog)?;
            rustix::io::Result::Ok(socket)
        };
        let sockets = lab.target.enter(|| Ok([socket(128)?, socket(1)?]));
        Ok(Self(sockets.context("cannot listen")?))
    }

    /// From now on the socket with that index gets every connection.
    fn to(&self, index: u32) -> Result<()> {
        // `BPF_RET | BPF_K`.
        let code = libc::sock_filter { code: 6, jt: 0, jf: 0, k: index };
        let program = libc::sock_fprog { len: 1, filter: (&raw const code).cast_mut() };
        let length = libc::socklen_t::try_from(size_of_val(&program))?;
        let (socket, pointer) = (self.0[0].as_raw_fd(), (&raw const program).cast());
        // SAFETY: a program of one instruction, as long as is said.
        let result =
            unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, pointer, length) };
        ensure!(result == 0, std::io::Error::last_os_error());
        Ok(())
    }
}

/// The look-up that every program can make picks by hash, and so finds the other socket, which is full.
#[test]
fn a_program_steers_around_the_socket_that_is_full() -> Result<()> {
    let lab = Lab::new()?;
    let steered = Steered::new(&lab)?;
    let client = Client::new(&lab.lb);
    steered.to(1)?;
    let full = client.connect_many(at(PORT), 2)?;
    steered.to(0)?;
    let tracer = trace(&lab, &[])?;
    let served = client.connect_many(at(PORT), 20)?;
    let trace = settle(tracer)?;
    drop((full, served));
    assert!(trace.rejections.is_empty(), "{:#?}", trace.rejections);
    Ok(())
}

#[test]
fn a_program_steers_to_the_socket_that_is_full() -> Result<()> {
    let lab = Lab::new()?;
    let steered = Steered::new(&lab)?;
    let client = Client::new(&lab.lb);
    steered.to(1)?;
    let full = client.connect_many(at(PORT), 2)?;
    let tracer = trace(&lab, &[])?;
    // As long as it takes to send the SYN again.
    assert!(client.timeout(ms(1300)).connect(at(PORT)).is_err());
    let trace = settle(tracer)?;
    drop(full);
    let told = trace.rejections_of("accept_queue_full");
    assert_eq!((count(&told), trace.causes().len()), (2, 1), "{:#?}", trace.rejections);
    assert_eq!((told[0].evidence.as_str(), told[0].queue_length, told[0].queue_limit), ("inferred", Some(2), Some(1)));
    Ok(())
}

/// The handshakes of a burst, whose last ACKs come late: some SYNs were answered with cookies, for which nothing is kept.
fn burst(lab: &Lab, connections: usize) -> Result<(u64, u64)> {
    let before = Counters::read(&lab.target)?;
    let late = Rules::start(&lab.lb, Hook::Output, &[&format!("{} drop", matching::BARE_ACKS)])?;
    let mut open = Client::new(&lab.lb).connect_many(at(PORT), connections)?;
    drop(late);
    for connection in &mut open {
        connection.send(&Request::get("/"))?;
    }
    sleep(ms(300));
    // The counters are read when nothing is sent again any more: tracer counts until then, too.
    for connection in open {
        connection.reset()?;
    }
    let after = Counters::read(&lab.target)?;
    Ok((after.since(&before, "TcpExtListenOverflows")?, after.since(&before, "TcpExtSyncookiesSent")?))
}

#[test]
fn the_queue_is_full_behind_syn_cookies() -> Result<()> {
    let lab = Lab::new()?;
    let target = Target::start(&lab, "target", &stuck(at(PORT)))?;
    let tracer = trace(&lab, &[])?;
    let (overflows, cookies) = burst(&lab, 5)?;
    let trace = settle(tracer)?;
    ensure!(overflows > 0 && cookies > 0, "{overflows} overflows, {cookies} cookies");
    let told = trace.rejections_of("accept_queue_full");
    assert_eq!(count(&told), overflows, "{told:#?}");
    for it in told {
        assert_eq!((it.queue_length, it.queue_limit), (Some(2), Some(1)), "{it:#?}");
        assert_eq!(it.process.as_ref().map(|it| it.pid), Some(target.pid()), "{it:#?}");
    }
    Ok(())
}

#[test]
fn a_full_queue_is_answered_with_a_reset() -> Result<()> {
    let lab = Lab::new()?;
    lab.target.sysctl("net.ipv4.tcp_abort_on_overflow", "1")?;
    let target = Target::start(&lab, "target", &stuck(at(PORT)))?;
    let tracer = trace(&lab, &[])?;
    let before = Counters::read(&lab.target)?;
    let late = Rules::start(&lab.lb, Hook::Output, &[&format!("{} drop", matching::BARE_ACKS)])?;
    let client = Client::new(&lab.lb);
    let mut late_one = client.connect(at(PORT))?;
    drop(late);
    let open = client.connect_many(at(PORT), 2)?;
    sleep(ms(50));
    // The answer may be there before all is sent.
    let _ = late_one.send(&Request::get("/"));
    sleep(ms(100));
    let overflows = Counters::read(&lab.target)?.since(&before, "TcpExtListenOverflows")?;
    let trace = settle(tracer)?;
    drop(open);
    let told = trace.rejections_of("accept_queue_full");
    assert_eq!((overflows, count(&told)), (1, 1), "{:#?}", trace.rejections);
    assert_eq!(told[0].alb, ["502"], "{told:#?}");
    assert!(told[0].explanation.contains("with a reset"), "{told:#?}");
    assert_eq!(told[0].process.as_ref().map(|it| it.pid), Some(target.pid()), "{told:#?}");
    Ok(())
}

#[test]
fn a_listener_is_for_ipv6_only() -> Result<()> {
    let lab = Lab::new()?;
    let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT);
    let socket = lab.target.enter(|| {
        let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_ipv6_v6only(&socket, true)?;
        rustix::net::bind(&socket, &any)?;
        rustix::net::listen(&socket, 16)?;
        Ok(socket)
    })?;
    let tracer = trace(&lab, &[])?;
    assert!(Client::new(&lab.lb).connect(at(PORT)).is_err());
    let trace = settle(tracer)?;
    drop(socket);
    let told = trace.rejections_of("no_listener");
    assert_eq!((count(&told), trace.causes().len()), (1, 1), "{:#?}", trace.rejections);
    assert!(told[0].explanation.contains("is bound for IPv6 only"), "{told:#?}");
    assert!(verdict(&trace).contains("is bound for IPv6 only"), "{}", verdict(&trace));
    Ok(())
}

/// Traffic of several workers that share a port.
#[test]
fn workers_that_share_a_port_are_healthy() -> Result<()> {
    let lab = Lab::new()?;
    let options = Options { reuse_port: true, ..Options::listen(&[at(PORT)]) };
    let workers = [Target::start(&lab, "one", &options)?, Target::start(&lab, "other", &options)?];
    let tracer = trace(&lab, &[])?;
    thread::scope(|scope| {
        let many = || (0..10).try_for_each(|_| Client::new(&lab.lb).request(at(PORT), &Request::get("/")).map(drop));
        let other = scope.spawn(many);
        many()?;
        other.join().map_err(|_| anyhow::anyhow!("a client panicked"))?
    })?;
    let trace = settle(tracer)?;
    assert_eq!((trace.requests.len(), trace.rejections.len()), (20, 0), "{:#?}", trace.rejections);
    let of_worker = |worker: &Target| trace.requests.iter().filter(|it| it.pid == Some(worker.pid())).count();
    assert_eq!(workers.iter().map(of_worker).sum::<usize>(), 20, "{:#?}", trace.requests);
    assert!(trace.requests.iter().all(|it| it.merged.is_empty()), "{:#?}", trace.requests);
    Ok(())
}
