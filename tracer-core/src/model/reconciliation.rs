//! The kernel's own counters of a network namespace, and what of them the rejections explain.

use serde::{Deserialize, Serialize};

/// The TCP counters of a network namespace, since it was made; one that the kernel does not have is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpCounters {
    /// `ListenOverflows`: SYNs and final ACKs that came for a full accept queue.
    pub listen_overflows: Option<u64>,
    /// `ListenDrops`: these, and all else for which a listener dropped a connection.
    pub listen_drops: Option<u64>,
    /// `TCPReqQFullDrop`: SYNs that came for a full SYN queue, without SYN cookies.
    pub syn_queue_drops: Option<u64>,
    /// `OutRsts`: resets that TCP sent.
    pub resets: Option<u64>,
    /// `RetransSegs`: segments that TCP sent again.
    pub retransmits: Option<u64>,
    /// Which namespace it is, as inode numbers are given again (`SO_NETNS_COOKIE`).
    pub cookie: Option<u64>,
}

impl TcpCounters {
    /// Those in the texts of `/proc/net/netstat` and `/proc/net/snmp`. The cookie is for the caller to add.
    pub fn parse(netstat: &str, snmp: &str) -> Self {
        Self {
            listen_overflows: counter(netstat, "TcpExt:", "ListenOverflows"),
            listen_drops: counter(netstat, "TcpExt:", "ListenDrops"),
            syn_queue_drops: counter(netstat, "TcpExt:", "TCPReqQFullDrop"),
            resets: counter(snmp, "Tcp:", "OutRsts"),
            retransmits: counter(snmp, "Tcp:", "RetransSegs"),
            cookie: None,
        }
    }

    /// How much each has risen since `earlier`; `None` if these are of another namespace, which has got the same number.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut is_same = self.cookie == earlier.cookie;
        let mut rise = |now: Option<u64>, before: Option<u64>| {
            let rise = now?.checked_sub(before?);
            is_same &= rise.is_some();
            rise
        };
        let since = Self {
            listen_overflows: rise(self.listen_overflows, earlier.listen_overflows),
            listen_drops: rise(self.listen_drops, earlier.listen_drops),
            syn_queue_drops: rise(self.syn_queue_drops, earlier.syn_queue_drops),
            resets: rise(self.resets, earlier.resets),
            retransmits: rise(self.retransmits, earlier.retransmits),
            cookie: self.cookie,
        };
        is_same.then_some(since)
    }
}

/// The counter `name` of `group`: a line has the names, the next one the values.
fn counter(table: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = table.lines().filter(|line| line.split(' ').next() == Some(group));
    let column = lines.next()?.split_ascii_whitespace().position(|found| found == name)?;
    lines.next()?.split_ascii_whitespace().nth(column)?.parse().ok()
}

/// How often something was seen in a network namespace, in the same time as the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// SYNs and final ACKs refused because the accept queue was full.
    pub accept_queue_full: u64,
    /// SYNs refused because the SYN queue was full.
    pub syn_queue_full: u64,
    /// SYNs not answered for want of a route back.
    pub no_route_back: u64,
    /// Resets sent.
    pub resets: u64,
    /// Retransmits.
    pub retransmits: u64,
}

/// A counter of the kernel's held against what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The kernel's name of the counter.
    pub name: String,
    /// By how much the kernel's counter rose.
    pub kernel: u64,
    /// How much of it was seen.
    pub explained: u64,
    /// The rest; negative if more was seen than the kernel counted.
    pub difference: i64,
}

/// What of the kernel's counters of a network namespace was seen, and what was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// Network namespace, by inode number.
    pub netns: u32,
    /// A row for each counter that the kernel has; none if they were not read.
    pub rows: Vec<Row>,
    /// When the counters were not read; absent if they were.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_read: Option<NotRead>,
    /// Only some ports or peers were watched, and the counters are of all.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub filtered: bool,
}

/// When the counters of a network namespace were not read, so that nothing can be held against them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotRead {
    /// When tracing began: most likely the namespace is newer.
    AtStart,
    /// When tracing ended: most likely the namespace was gone.
    AtEnd,
}

/// What a counter counts that only a rejection can be: its name, and what it counts.
const REJECTIONS: [(&str, &str); 3] = [
    ("ListenOverflows", "SYN or last ACK for a full accept queue"),
    ("TCPReqQFullDrop", "SYN for a full SYN queue"),
    ("ListenDrops", "connection that a listener dropped"),
];

impl Reconciliation {
    /// Holds what the kernel counted in the namespace against what was `seen` there. It counted at least the first of `counted` while
    /// events were seen, and at most the second.
    pub fn new(netns: u32, counted: (&TcpCounters, &TcpCounters), seen: &Seen, filtered: bool) -> Self {
        let (least, most) = counted;
        let listen_drops = seen.accept_queue_full + seen.syn_queue_full + seen.no_route_back;
        let rows = [
            ("ListenOverflows", (least.listen_overflows, most.listen_overflows), seen.accept_queue_full),
            ("ListenDrops", (least.listen_drops, most.listen_drops), listen_drops),
            ("TCPReqQFullDrop", (least.syn_queue_drops, most.syn_queue_drops), seen.syn_queue_full),
            ("OutRsts", (least.resets, most.resets), seen.resets),
            ("RetransSegs", (least.retransmits, most.retransmits), seen.retransmits),
        ];
        let row = |(name, kernel, explained): (&str, (Option<u64>, Option<u64>), u64)| {
            let (least, most) = (kernel.0?, kernel.1?);
            let kernel = explained.clamp(least.min(most), most);
            let difference = kernel.wrapping_sub(explained).cast_signed();
            Some(Row { name: name.to_owned(), kernel, explained, difference })
        };
        Self { netns, rows: rows.into_iter().filter_map(row).collect(), not_read: None, filtered }
    }

    /// Of a namespace whose counters were not read.
    pub const fn unread(netns: u32, not_read: NotRead, filtered: bool) -> Self {
        Self { netns, rows: Vec::new(), not_read: Some(not_read), filtered }
    }

    /// The rejections that the kernel counted and that were not seen: how many, the counter, and what it counts.
    pub fn unexplained(&self) -> Option<(u64, &'static str, &'static str)> {
        REJECTIONS.into_iter().find_map(|(name, what)| {
            let row = self.rows.iter().find(|row| row.name == name && row.difference > 0)?;
            Some((row.difference.unsigned_abs(), name, what))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETSTAT: &str = "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPReqQFullDrop\nTcpExt: 0 7 9 2\n\
        IpExt: InNoRoutes ListenDrops\nIpExt: 1 2\n";
    const SNMP: &str = "Ip: Forwarding OutRsts\nIp: 1 64\nTcp: RtoAlgorithm MaxConn RetransSegs InErrs OutRsts InCsumErrors\n\
        Tcp: 1 -1 21 0 5 0\n";

    fn counters() -> TcpCounters {
        TcpCounters::parse(NETSTAT, SNMP)
    }

    #[test]
    fn counters_are_found_by_name() {
        let expected = TcpCounters {
            listen_overflows: Some(7),
            listen_drops: Some(9),
            syn_queue_drops: Some(2),
            resets: Some(5),
            retransmits: Some(21),
            cookie: None,
        };
        assert_eq!(counters(), expected);
        assert_eq!(TcpCounters::parse("", "Tcp: OutRsts\n"), TcpCounters::default());
    }

    #[test]
    fn a_rise_needs_both_readings() {
        let later = TcpCounters { listen_overflows: Some(10), listen_drops: None, ..counters() };
        let rise = later.since(&counters()).unwrap();
        assert_eq!((rise.listen_overflows, rise.listen_drops, rise.resets), (Some(3), None, Some(0)));
        // A namespace that got the number of one that vanished.
        assert_eq!(counters().since(&later), None);
        assert_eq!(
            TcpCounters { cookie: Some(2), ..later }.since(&TcpCounters { cookie: Some(1), ..counters() }),
            None
        );
    }

    #[test]
    fn what_was_not_explained_is_said() {
        let seen = Seen { accept_queue_full: 7, syn_queue_full: 1, no_route_back: 0, resets: 6, retransmits: 21 };
        let partly = TcpCounters { syn_queue_drops: None, ..counters() };
        let reconciliation = Reconciliation::new(7, (&partly, &partly), &seen, false);
        let rows: Vec<_> = reconciliation
            .rows
            .iter()
            .map(|row| (row.name.as_str(), row.kernel, row.explained, row.difference))
            .collect();
        let expected =
            [("ListenOverflows", 7, 7, 0), ("ListenDrops", 9, 8, 1), ("OutRsts", 5, 6, -1), ("RetransSegs", 21, 21, 0)];
        assert_eq!(rows, expected);
        assert_eq!(reconciliation.unexplained(), Some((1, "ListenDrops", "connection that a listener dropped")));
        let overflows =
            Reconciliation::new(7, (&counters(), &counters()), &Seen { accept_queue_full: 5, ..seen }, false);
        assert_eq!(overflows.unexplained().map(|(count, name, _)| (count, name)), Some((2, "ListenOverflows")));
        assert_eq!(Reconciliation::unread(7, NotRead::AtEnd, false).unexplained(), None);
        let kept = serde_json::to_string(&reconciliation).unwrap();
        assert_eq!(serde_json::from_str::<Reconciliation>(&kept).unwrap(), reconciliation);
    }
}
