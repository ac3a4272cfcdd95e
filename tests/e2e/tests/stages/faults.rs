//! Faults of the network between the load balancer and the target, undone on drop.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::Namespace;
use lab::fault::{Hook, Rules, matching};
use lab::topology::LB_V4;

/// Bytes a millisecond that a [`Queue`] lets through.
const RATE: u64 = 125;
/// Bytes that it lets through at once, more than a packet has.
const BURST: u64 = 1600;
/// Payload of a packet that fills it, and the same with the headers of UDP, IPv4 and Ethernet.
const FILLER: [u8; 1200] = [0; 1200];
const FILLER_FRAME: u64 = 1200 + 8 + 20 + 14;

/// The SYN-ACKs that come to a namespace are lost.
pub fn lose_syn_acks(namespace: &Namespace) -> Result<Rules<'_>> {
    Rules::start(namespace, Hook::Input, &[&format!("{} drop", matching::SYN_ACKS)])
}

/// The bare acknowledgements that leave a namespace are lost; those that come with data are not.
pub fn lose_acks(namespace: &Namespace) -> Result<Rules<'_>> {
    Rules::start(namespace, Hook::Output, &[&format!("{} drop", matching::BARE_ACKS)])
}

/// What leaves a namespace through `eth0` goes through a slow queue.
pub struct Queue<'a>(&'a Namespace);

impl<'a> Queue<'a> {
    pub fn start(namespace: &'a Namespace) -> Result<Self> {
        let guard = Self(namespace);
        let (rate, burst) = (format!("{}bit", RATE * 8000), BURST.to_string());
        let shape = ["qdisc", "add", "dev", "eth0", "root", "tbf", "rate", &rate, "burst", &burst, "limit", "1000000"];
        namespace.run("tc", &shape)?;
        Ok(guard)
    }

    /// Puts so much into the queue that it takes at least `time` to get through.
    pub fn fill(&self, time: Duration) -> Result<()> {
        let bytes = u64::try_from(time.as_millis())? * RATE + BURST;
        self.0.enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").context("cannot make a socket")?;
            for _ in 0..bytes.div_ceil(FILLER_FRAME) {
                // Nobody takes it at the other side.
                socket.send_to(&FILLER, (LB_V4, 9)).context("cannot fill the queue")?;
            }
            Ok(())
        })
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.run("tc", &["qdisc", "delete", "dev", "eth0", "root"]) {
            eprintln!("{error:#}");
        }
    }
}
