//! What the kernel side counts without a record for each.

use tracer_common::{
    endpoint::Endpoint,
    rejection::{ArrivalTally, Key, ListenerKey, ListenerTally, NamespaceTally, Tally},
};

/// Everything that was counted by a key until now.
#[derive(Debug, Default)]
pub struct Tallies {
    /// Rejections.
    pub rejections: Vec<(Key, Tally)>,
    /// Accept queues.
    pub listeners: Vec<(ListenerKey, ListenerTally)>,
    /// With the port filter: SYNs for ends at which nothing listens.
    pub arrivals: Vec<(Endpoint, ArrivalTally)>,
    /// A SYN came for which nothing listens.
    pub unheard: bool,
    /// A SYN came that a connection got, open or with its handshake under way.
    pub resent: bool,
    /// With the port filter: the ports for which a packet with payload came.
    pub arrived: Vec<u16>,
    /// What is held against the kernel's own counters, by the inode number of the network namespace.
    pub namespaces: Vec<(u32, NamespaceTally)>,
}
