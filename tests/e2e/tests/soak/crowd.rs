//! SYNs from peers that never come again: scans of closed ports, a flood onto a full listener, and SYNs that are answered
//! and then given up. And once per round a scan and a flood at full speed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use lab::clock::sleep;
use lab::fault::{Segment, send_segments};
use lab::topology::TARGET_V4;

use crate::plan::Run;
use crate::scene::{FULL, SERVED, Scene};

/// SYNs at once.
const BURST: u32 = 500;
/// The address of the first peer (/8).
const FIRST: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 0);
/// The network (/24) of those that come more than once.
const KNOWN: Ipv4Addr = Ipv4Addr::new(12, 0, 0, 0);
/// Closed ports that are scanned one after the other, from this one on.
const CLOSED: u16 = 20_000;
const PORTS: u16 = 20_000;
/// SYNs of the scan and of the flood in each round.
const AT_ONCE: u32 = 10_000;

/// For whom a SYN is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Closed,
    Full,
    Served,
}

/// What each burst is, in turn.
const TURNS: [For; 5] = [For::Closed, For::Full, For::Closed, For::Full, For::Served];

/// How many SYNs were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// To ports where nothing listens.
    pub closed: u64,
    /// To a listener with a full accept queue.
    pub full: u64,
    /// To a server.
    pub served: u64,
    sequence: u32,
    scanned: u16,
}

impl Sent {
    fn send(&mut self, scene: &Scene, whom: For, sources: impl Iterator<Item = SocketAddr>) -> Result<()> {
        let syns: Vec<_> = sources.map(|source| self.syn(whom, source)).collect();
        send_segments(&scene.lab.lb, &syns)
    }

    fn syn(&mut self, whom: For, source: SocketAddr) -> Segment {
        let destination = match whom {
            For::Closed => {
                self.closed += 1;
                self.scanned = (self.scanned + 1) % PORTS;
                SocketAddr::new(TARGET_V4.into(), CLOSED + self.scanned)
            }
            For::Full => {
                self.full += 1;
                FULL
            }
            For::Served => {
                self.served += 1;
                SERVED
            }
        };
        // As with real ones, no two have the same: the factor is odd.
        self.sequence = self.sequence.wrapping_add(2_654_435_761);
        Segment { sequence: self.sequence, ..Segment::syn(source, destination) }
    }
}

/// All peers of the plan.
pub fn send(scene: &Scene, run: &Run) -> Result<Sent> {
    let bursts = run.plan.peers / BURST;
    let mut sent = Sent::default();
    run.paced(bursts * run.plan.rounds, |burst| {
        let first = u32::from(FIRST) + burst * BURST;
        let peers = (first..first + BURST).map(|peer| (Ipv4Addr::from(peer), 40_000).into());
        sent.send(scene, TURNS[burst as usize % TURNS.len()], peers)?;
        if burst % bursts == bursts / 2 {
            for whom in [For::Closed, For::Full] {
                for first in (0..AT_ONCE).step_by(1000) {
                    sent.send(scene, whom, (first..first + 1000).map(known))?;
                    sleep(Duration::from_millis(5));
                }
            }
        }
        Ok(())
    })?;
    Ok(sent)
}

/// One of 250 addresses of a network.
fn known(index: u32) -> SocketAddr {
    let host = Ipv4Addr::from(u32::from(KNOWN) + 1 + index % 250);
    SocketAddr::new(host.into(), 1024 + u16::try_from(index / 250).unwrap_or(0))
}
