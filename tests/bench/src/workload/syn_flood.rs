//! SYNs from addresses that do not answer.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow};
use lab::{
    Lab,
    counters::Counters,
    fault::{Segment, send_segments_here},
};

use super::{Finished, Load};

/// Different SYNs; then they come again.
const SYNS: u32 = 1 << 17;
/// SYNs that are sent between two looks whether to stop.
const PART: usize = 2048;
/// The network for benchmarks (RFC 2544): a packet that went astray would reach nobody.
const NETWORK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// The flood; it ends with its guard.
pub struct SynFlood<'lab> {
    lab: &'lab Lab,
    shared: Arc<Shared>,
    before: Counters,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What the thread and its owner tell each other.
#[derive(Default)]
struct Shared {
    sent: AtomicU64,
    stop: AtomicBool,
}

impl<'lab> SynFlood<'lab> {
    /// Begins.
    pub fn start(lab: &'lab Lab, address: SocketAddr) -> Result<Self> {
        let before = Counters::read(&lab.target)?;
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        // A thread inherits the namespace of the one that starts it.
        let thread = lab.lb.enter(|| Ok(thread::Builder::new().spawn(move || send(&of_thread, address))?))?;
        Ok(Self { lab, shared, before, thread: Some(thread) })
    }
}

fn send(shared: &Shared, address: SocketAddr) -> Result<()> {
    let syns: Vec<_> = (0..SYNS).map(|index| syn(index, address)).collect();
    for part in syns.chunks(PART).cycle() {
        if shared.stop.load(Relaxed) {
            break;
        }
        send_segments_here(part)?;
        shared.sent.fetch_add(part.len() as u64, Relaxed);
    }
    Ok(())
}

/// Each from another address.
fn syn(index: u32, destination: SocketAddr) -> Segment {
    let source = Ipv4Addr::from_bits(NETWORK.to_bits() + index);
    Segment::syn(SocketAddr::new(source.into(), 1024), destination)
}

impl Load for SynFlood<'_> {
    fn done(&self) -> u64 {
        self.shared.sent.load(Relaxed)
    }

    fn keep_latencies(&self, _: bool) {}

    fn finish(&mut self) -> Result<Finished> {
        self.shared.stop.store(true, Relaxed);
        let thread = self.thread.take().context("the flood has ended before")?;
        thread.join().map_err(|_| anyhow!("the flood panicked"))??;
        let done = self.done();
        let arrived = Counters::read(&self.lab.target)?.since(&self.before, "TcpInSegs")?;
        Ok(Finished { done, failed: done.saturating_sub(arrived), ..Finished::default() })
    }
}

impl Drop for SynFlood<'_> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // Who did not ask how it went does not want to know.
            let _ = thread.join();
        }
    }
}
