//! How full the maps of a process are. The kernel keeps no such number for most maps, so their entries are counted.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::{Context, Result};
use aya::maps::{MapInfo, MapType};

use super::held;

/// From `linux/bpf.h`.
mod abi {
    pub const LOOK_UP: i64 = 1;
    pub const NEXT_KEY: i64 = 4;
}

/// A map whose entries can be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Its name, the first 15 letters.
    pub name: String,
    /// Whether an entry can be refused for want of room. An array has all its entries, and an LRU map gives up an old one.
    pub refuses: bool,
    /// The most entries that it takes.
    pub entries: u64,
    /// The entries that it has now: keys, or values of an array that are not all zero.
    pub used: u64,
}

/// The maps that `pid` holds through its file descriptors, by name. Ring buffers, socket storage and per-CPU maps are left
/// out: nothing in them stays that another event has left.
///
/// # Errors
/// Where the process is gone, or a map cannot be read.
pub fn fills(pid: u32) -> Result<Vec<Fill>> {
    let mut fills = Vec::new();
    for id in held(pid, "map_id")?.into_keys() {
        let info = MapInfo::from_id(id).with_context(|| format!("no map {id}"))?;
        let name = info.name_as_str().unwrap_or_default().to_owned();
        fills.extend(fill(&info, name.clone()).with_context(|| format!("cannot count the entries of {name}"))?);
    }
    fills.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(fills)
}

fn fill(info: &MapInfo, name: String) -> Result<Option<Fill>> {
    let (descriptor, entries) = (info.fd()?, info.max_entries());
    let (refuses, used) = match info.map_type()? {
        MapType::Hash | MapType::LpmTrie => (true, keys(descriptor.as_fd(), info.key_size(), entries)?),
        MapType::LruHash => (false, keys(descriptor.as_fd(), info.key_size(), entries)?),
        MapType::Array => (false, values(descriptor.as_fd(), info.value_size(), entries)?),
        _ => return Ok(None),
    };
    Ok(Some(Fill { name, refuses, entries: entries.into(), used }))
}

/// How many keys there are. Programs add and delete meanwhile: behind a deleted key the kernel begins anew.
fn keys(map: BorrowedFd, size: u32, entries: u32) -> Result<u64> {
    let (mut seen, mut key) = (HashSet::new(), None::<Vec<u8>>);
    for _ in 0..u64::from(entries) * 4 {
        let mut next = vec![0; size as usize];
        let from = key.as_ref().map_or(std::ptr::null(), Vec::as_ptr);
        if !element(abi::NEXT_KEY, map, from, &mut next)? {
            break;
        }
        seen.insert(next.clone());
        key = Some(next);
    }
    Ok(seen.len() as u64)
}

/// How many values of an array are not all zero.
fn values(map: BorrowedFd, size: u32, entries: u32) -> Result<u64> {
    let (mut used, mut value) = (0, vec![0; size.next_multiple_of(8) as usize]);
    for index in 0..entries {
        element(abi::LOOK_UP, map, index.to_ne_bytes().as_ptr(), &mut value)?;
        used += u64::from(value.iter().any(|byte| *byte != 0));
    }
    Ok(used)
}

/// `bpf(2)` for an element of a map: whether there is one.
fn element(command: i64, map: BorrowedFd, key: *const u8, answer: &mut [u8]) -> Result<bool> {
    #[repr(C)]
    struct Element {
        map: u64,
        key: u64,
        answer: u64,
        flags: u64,
    }
    let mut element = Element {
        map: u64::try_from(map.as_raw_fd())?,
        key: key.expose_provenance() as u64,
        answer: answer.as_mut_ptr().expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: the attributes are as long as is said; `key` is null or a key of the map, and `answer` has the size of a key or
    // of a value, whichever the command writes.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut element, size_of::<Element>()) };
    match io::Error::last_os_error() {
        _ if outcome >= 0 => Ok(true),
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        error => Err(error.into()),
    }
}
