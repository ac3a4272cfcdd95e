//! The stages of a request and of a connection, and how moments become stages that add up exactly.

use crate::shared::{Shared, shared};

/// The stages of a request, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestStage {
    /// First byte at the network device -> queued on the socket: this host's kernel.
    Ingress,
    /// Queued on the socket (and accepted) -> first read: the application, busy elsewhere.
    Pickup,
    /// First read -> last byte of the request read: the sender.
    Upload,
    /// Last request byte read -> first response byte written: the application.
    Service,
    /// First write -> first response packet given to the device: this host's kernel.
    Egress,
    /// First response packet out -> last response packet out: the application, or the peer's window.
    Download,
    /// Last response packet out -> last byte acknowledged: the network and the load balancer.
    Drain,
}

impl RequestStage {
    /// All stages, in order.
    pub const ALL: [Self; 7] =
        [Self::Ingress, Self::Pickup, Self::Upload, Self::Service, Self::Egress, Self::Download, Self::Drain];

    /// The name in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Pickup => "pickup",
            Self::Upload => "upload",
            Self::Service => "service",
            Self::Egress => "egress",
            Self::Download => "download",
            Self::Drain => "drain",
        }
    }
}

/// The stages of a connection, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectionStage {
    /// SYN arrived -> SYN-ACK left.
    Synack,
    /// SYN-ACK left -> final ACK arrived: a network round trip.
    Handshake,
    /// Queued as established -> `accept()` returned.
    Accept,
}

impl ConnectionStage {
    /// All stages, in order.
    pub const ALL: [Self; 3] = [Self::Synack, Self::Handshake, Self::Accept];

    /// The name in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Synack => "synack",
            Self::Handshake => "handshake",
            Self::Accept => "accept",
        }
    }
}

/// The moments that bound the stages of a request.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestMoments {
    /// The first byte reached the network device.
    pub arrived: u64,
    /// The first byte was queued on the socket.
    pub queued: u64,
    /// The application's first read of it returned.
    pub first_read: u64,
    /// The application's last read before it answered.
    pub last_read: u64,
    /// The application's first write of the response.
    pub first_write: u64,
    /// The first response packet was given to the device.
    pub first_out: u64,
    /// The last response packet was given to the device for the first time; a retransmission is part of `drain`.
    pub last_out: u64,
    /// Every byte that the application wrote was acknowledged.
    pub acknowledged: u64,
}

/// The moments that bound the stages of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionMoments {
    /// The first SYN arrived.
    pub syn: u64,
    /// The first SYN-ACK was given to the device.
    pub synack: u64,
    /// The final ACK arrived and the connection was queued for `accept()`.
    pub established: u64,
    /// `accept()` returned it.
    pub accepted: u64,
}

shared! {
    /// [`RequestMoments`] in a map.
    SharedRequestMoments of RequestMoments {
        arrived: Shared<u64>,
        queued: Shared<u64>,
        first_read: Shared<u64>,
        last_read: Shared<u64>,
        first_write: Shared<u64>,
        first_out: Shared<u64>,
        last_out: Shared<u64>,
        acknowledged: Shared<u64>,
    }
    /// [`ConnectionMoments`] in a map.
    SharedConnectionMoments of ConnectionMoments {
        syn: Shared<u64>,
        synack: Shared<u64>,
        established: Shared<u64>,
        accepted: Shared<u64>,
    }
}

/// An interval cut into `N` stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split<const N: usize> {
    /// Nanoseconds of each stage; `None` where it was not measured.
    pub stages: [Option<u64>; N],
    /// A bit a stage: its time could not be told from that of the stage before it and is counted there.
    pub merged: u8,
    /// Nanoseconds: the exact sum of `stages`.
    pub total: u64,
}

impl<const N: usize> Split<N> {
    /// Whether `stage` (its index) was merged into the one before it.
    #[must_use]
    pub const fn is_merged(&self, stage: usize) -> bool {
        self.merged >> stage & 1 == 1
    }

    /// Whether `stage` (its index) was measured apart from the one after it.
    #[must_use]
    pub const fn is_apart(&self, stage: usize) -> bool {
        !self.is_merged(stage + 1)
    }

    /// The stages that could not be told apart: the index of the first and of the last one, and their nanoseconds.
    pub fn spans(&self) -> impl Iterator<Item = (usize, usize, u64)> + '_ {
        let firsts = (0..N).filter(|&stage| !self.is_merged(stage) && !self.is_apart(stage));
        firsts.filter_map(|first| {
            let last = (first + 1..N).take_while(|&stage| self.is_merged(stage)).last()?;
            Some((first, last, self.stages[first]?))
        })
    }

    /// The index of the longest stage, the earlier one of two equals; `None` if none was measured.
    #[must_use]
    pub fn dominant(&self) -> Option<usize> {
        let mut longest: Option<(usize, u64)> = None;
        for (index, stage) in self.stages.iter().enumerate() {
            if let Some(time) = *stage
                && longest.is_none_or(|(_, best)| time > best)
            {
                longest = Some((index, time));
            }
        }
        longest.map(|(index, _)| index)
    }

    /// Cuts at `starts`, the moments at which each stage begins, and at `end`; 0 is a moment that was not seen.
    ///
    /// A moment earlier than the one before it is taken as equal to it: hooks on different CPUs may swap places by
    /// a few hundred nanoseconds. A stage whose start was not seen is merged into the one before it. What comes before
    /// the first moment seen, or after the last, was not measured.
    fn cut(starts: [u64; N], end: u64) -> Self {
        let mut split = Self { stages: [None; N], merged: 0, total: 0 };
        let mut open: Option<(usize, u64)> = None;
        for (index, start) in starts.into_iter().enumerate() {
            if start != 0 {
                let start = open.map_or(start, |(_, before)| start.max(before));
                split.close(open, start);
                open = Some((index, start));
            } else if open.is_some() && (end != 0 || starts[index..].iter().any(|&later| later != 0)) {
                split.merged |= 1 << index;
            }
        }
        if let Some((_, start)) = open
            && end != 0
        {
            split.close(open, end.max(start));
        }
        split
    }

    fn close(&mut self, open: Option<(usize, u64)>, now: u64) {
        if let Some((index, start)) = open {
            self.stages[index] = Some(now - start);
            self.total += now - start;
        }
    }
}

impl ConnectionMoments {
    /// Leaves out the time for which the listener waited for the first data (`TCP_DEFER_ACCEPT`) although the handshake's
    /// last ACK had come at `acknowledged`: it belongs to the peer. The moments before it move on by that time.
    pub const fn leave_deferral_out(&mut self, acknowledged: u64) {
        if acknowledged == 0 || self.synack == 0 || acknowledged < self.synack {
            return;
        }
        let wait = self.established.saturating_sub(acknowledged);
        self.synack = self.synack.saturating_add(wait);
        if self.syn != 0 {
            self.syn = self.syn.saturating_add(wait);
        }
    }

    /// The connection's stages.
    #[must_use]
    pub fn split(&self) -> Split<3> {
        Split::cut([self.syn, self.synack, self.established], self.accepted)
    }
}

/// A request's stages, and the part of its life that belongs to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestSplit {
    /// The request's stages.
    pub split: Split<7>,
    /// Nanoseconds that the request waited in the socket before `accept()` returned the connection. They are the
    /// connection's stage `accept`, hence in no stage of the request and not in its total. `None` unless the request
    /// is the first of its connection and the time of `accept()` was seen.
    pub accept: Option<u64>,
}

impl RequestMoments {
    /// The request's stages.
    ///
    /// `accepted` is when `accept()` returned the connection, for the first request on it; otherwise 0. `ended` is
    /// when the request was given up or looked at although it was not over: the stage that it was in lasts until
    /// then; 0 for a request that is over.
    #[must_use]
    pub fn split(&self, accepted: u64, ended: u64) -> RequestSplit {
        let mut starts = [
            self.arrived,
            self.queued,
            self.first_read,
            self.last_read,
            self.first_write,
            self.first_out,
            self.last_out,
        ];
        let over = self.acknowledged != 0 || ended == 0;
        let end = if over { self.acknowledged } else { ended };
        let accept = Self::leave_accept_out(&mut starts, accepted, end);
        let mut split = Split::cut(starts, end);
        if !over {
            // The stages after the interrupted one did not take place: there is nothing of them to be merged.
            let reached = starts.iter().rposition(|&moment| moment != 0).map_or(0, |last| last + 1);
            split.merged &= 0x7f >> (7 - reached);
        }
        RequestSplit { split, accept }
    }

    /// Moves everything before the accept forward by the time that the request waited for it.
    fn leave_accept_out(starts: &mut [u64; 7], accepted: u64, end: u64) -> Option<u64> {
        let [arrived, queued, later @ ..] = starts;
        if accepted == 0 || *queued == 0 {
            return None;
        }
        let limit = later.iter().copied().find(|&moment| moment != 0).unwrap_or(end);
        let wait = accepted.min(limit.max(*queued)).saturating_sub(*queued);
        if *arrived != 0 {
            *arrived = arrived.saturating_add(wait);
        }
        *queued += wait;
        Some(wait)
    }
}

const _: () = assert!(size_of::<RequestMoments>() == 64 && size_of::<ConnectionMoments>() == 32);
