//! The ports on which something listens, in every network namespace of the host.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File},
    io::{self, BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::Path,
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

#[cfg(test)]
mod tests {
    use super::listeners_in;

    #[test]
    fn only_listeners_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n\
             1: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n\
             2: 0100007F:C350 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0\n\
             3: 00000000:0051 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n";
        assert_eq!(listeners_in(table.as_bytes()).collect::<Vec<_>>(), [8080, 80]);
    }
}
