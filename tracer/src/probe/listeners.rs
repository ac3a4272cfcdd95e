//! The ports on which something listens, in every network namespace of the host.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File},
    io::{self, BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The local TCP ports with a listener, in the network namespace with inode number `netns`, or in all.
///
/// Namespaces that no process is in are not found. Processes that vanish meanwhile are passed over.
pub fn listening_ports(netns: Option<u32>) -> io::Result<BTreeSet<u16>> {
    let mut seen = HashSet::new();
    let mut ports = BTreeSet::new();
    for process in fs::read_dir("/proc")?.flatten().map(|entry| entry.path()).filter(|path| is_process(path)) {
        let Ok(namespace) = fs::metadata(process.join("ns/net")).map(|metadata| metadata.ino()) else { continue };
        if netns.is_none_or(|wanted| u64::from(wanted) == namespace) && seen.insert(namespace) {
            for table in ["net/tcp", "net/tcp6"] {
                // Without IPv6 there is no tcp6.
                if let Ok(file) = File::open(process.join(table)) {
                    ports.extend(listeners_in(BufReader::new(file)));
                }
            }
        }
    }
    Ok(ports)
}

fn is_process(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
}

/// The ports of the listeners in a `/proc/net/tcp` table. The kernel lists them first, so the connections, of which
/// there may be very many, are not read.
fn listeners_in(table: impl BufRead) -> impl Iterator<Item = u16> {
    const LISTEN: &str = "0A";
    table
        .lines()
        .skip(1)
        .map_while(|line| {
            let line = line.ok()?;
            let mut columns = line.split_ascii_whitespace().skip(1);
            let (local, _, state) = (columns.next()?, columns.next()?, columns.next()?);
            if state != LISTEN {
                return None;
            }
            Some(local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok()))
        })
        .flatten()
}

/// Finds the inode number of a network namespace from what a user has at hand: a path (`/run/netns/web`), the name
/// of one that `ip netns` made, a process id or the inode number itself.
pub fn find_netns(text: &str) -> io::Result<u32> {
    let inode = |path: PathBuf| fs::metadata(path).map(|metadata| metadata.ino());
    let number = if text.contains('/') {
        inode(text.into())?
    } else if let Ok(number) = text.parse::<u64>() {
        // Inode numbers of namespaces begin at 0xf0000000, process ids end at 2^22.
        if number > 1 << 22 { number } else { inode(format!("/proc/{number}/ns/net").into())? }
    } else {
        inode(Path::new("/run/netns").join(text))?
    };
    u32::try_from(number).map_err(|_| io::Error::other(format!("{text} is not a network namespace")))
}

#[cfg(test)]
mod tests {
    use super::{find_netns, listeners_in};

    #[test]
    fn only_listeners_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n\
             1: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n\
             2: 0100007F:C350 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0\n\
             3: 00000000:0051 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n";
        assert_eq!(listeners_in(table.as_bytes()).collect::<Vec<_>>(), [8080, 80]);
    }

    #[test]
    fn a_namespace_is_found_by_each_of_its_names() {
        let own = find_netns("/proc/self/ns/net").unwrap();
        assert_eq!(find_netns(&std::process::id().to_string()).unwrap(), own);
        assert_eq!(find_netns(&own.to_string()).unwrap(), own);
        assert!(find_netns("no-such-namespace").is_err());
    }
}
