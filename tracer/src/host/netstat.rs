//! Reads the kernel's own counters of a network namespace.

use crate::probe::namespace::{self, Netns};
use std::{fs, io};
use tracer_core::model::reconciliation::TcpCounters;

/// Those of the namespace with inode number `netns`.
pub fn read(netns: u32) -> io::Result<TcpCounters> {
    let read = || {
        let netstat = fs::read_to_string("/proc/thread-self/net/netstat")?;
        let counters = TcpCounters::parse(&netstat, &fs::read_to_string("/proc/thread-self/net/snmp")?);
        Ok(TcpCounters { cookie: namespace::cookie(), ..counters })
    };
    Netns::open(netns)?.inside(read)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_running_kernel_has_all_of_them() {
        let netns = u32::try_from(fs::metadata("/proc/self/ns/net").unwrap().ino()).unwrap();
        let TcpCounters { listen_overflows, listen_drops, syn_queue_drops, resets, retransmits, cookie } =
            read(netns).unwrap();
        let all = [listen_overflows, listen_drops, syn_queue_drops, resets, retransmits, cookie];
        assert!(all.iter().all(Option::is_some), "{all:?}");
        assert!(read(1).is_err());
    }
}
