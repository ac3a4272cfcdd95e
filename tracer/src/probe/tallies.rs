//! The kernel side's tallies, read from its maps.

use std::hash::Hash;

use aya::{
    Ebpf, Pod,
    maps::{HashMap, MapError},
};
use tracer_common::rejection::{Key, ListenerKey, ListenerTally, NamespaceTally, Tally};

/// Everything that was counted by a key until now.
#[derive(Debug, Default)]
pub struct Tallies {
    /// Rejections.
    pub rejections: Vec<(Key, Tally)>,
    /// Accept queues.
    pub listeners: Vec<(ListenerKey, ListenerTally)>,
    /// What is held against the kernel's own counters, by the inode number of the network namespace.
    pub namespaces: Vec<(u32, NamespaceTally)>,
}

impl Tallies {
    /// Reads all of them.
    pub fn read(ebpf: &Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            rejections: [
                entries(ebpf, "REJECTIONS")?,
                entries(ebpf, "REJECTIONS_BY_LISTENER")?,
                entries(ebpf, "REJECTIONS_BY_EVENT")?,
            ]
            .concat(),
            listeners: entries(ebpf, "LISTENERS")?,
            namespaces: entries(ebpf, "NAMESPACES")?,
        })
    }
}

fn entries<K: Pod + Eq + Hash, V: Pod>(ebpf: &Ebpf, name: &str) -> Result<Vec<(K, V)>, MapError> {
    let map = ebpf.map(name).ok_or_else(|| MapError::IoError(std::io::ErrorKind::NotFound.into()))?;
    HashMap::<_, K, V>::try_from(map)?.iter().collect()
}
