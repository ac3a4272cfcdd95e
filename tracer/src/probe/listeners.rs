//! The sockets that listen, as `/proc/net/tcp` lists them.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File},
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv6Addr, SocketAddr},
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
            ports.extend(of(&process).map(|(address, _)| address.port()));
        }
    }
    Ok(ports)
}

fn is_process(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
}

/// The address and the inode number of each socket that listens in the network namespace of the process, or the thread, to which
/// this folder of `/proc` belongs.
pub fn of(process: &Path) -> impl Iterator<Item = (SocketAddr, u64)> {
    // Without IPv6 there is no tcp6.
    let files = ["net/tcp", "net/tcp6"].map(|table| File::open(process.join(table)));
    files.into_iter().flatten().flat_map(|file| in_table(BufReader::new(file)))
}

/// The listeners in a `/proc/net/tcp` table. The kernel lists them first, so the connections, of which there may be very many,
/// are not read.
fn in_table(table: impl BufRead) -> impl Iterator<Item = (SocketAddr, u64)> {
    const LISTEN: &str = "0A";
    let lines = table.lines().skip(1).map_while(|line| {
        let line = line.ok()?;
        let mut columns = line.split_ascii_whitespace().skip(1);
        let (local, _, state) = (columns.next()?, columns.next()?, columns.next()?);
        (state == LISTEN).then(|| Some((address(local)?, columns.nth(5)?.parse().ok()?)))
    });
    lines.flatten()
}

/// An address as in `/proc/net/tcp`: words in the byte order of the host, in hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_listeners_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
             1: 0100007F:0050 00000000:0000 0A 00000000:00000001 00:00000000 00000000    33        0 4712 1 0 100 0 0 10 0\n\
             2: 0100007F:C350 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 20 4 30 10 -1\n\
             3: 00000000:0051 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4714 1 0 100 0 0 10 0\n";
        let sockets: Vec<_> = in_table(table.as_bytes()).collect();
        let expected = [("0.0.0.0:8080", 4711), ("127.0.0.1:80", 4712)];
        assert_eq!(sockets, expected.map(|(address, inode)| (address.parse().unwrap(), inode)));
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        let read = |text| address(text).map(|address| address.to_string());
        assert_eq!(read("00000000000000000000000000000000:1F90").as_deref(), Some("[::]:8080"));
        assert_eq!(read("B80D0120000000000000000001000000:0050").as_deref(), Some("[2001:db8::1]:80"));
        assert_eq!(read("0000000000000000FFFF00000100000A:0050").as_deref(), Some("10.0.0.1:80"));
        assert_eq!(read("0100000A:0050").as_deref(), Some("10.0.0.1:80"));
        for wrong in ["", "0100000A", "0100:0050", "0100000A:", "X100000A:0050"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn this_process_listens_on_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let own = u32::try_from(fs::metadata("/proc/self/ns/net").unwrap().ino()).unwrap();
        let found = || of(Path::new("/proc/thread-self"));
        let (_, inode) = found().find(|(at, _)| *at == address).unwrap();
        assert!(listening_ports(Some(own)).unwrap().contains(&address.port()));
        assert!(!listening_ports(Some(1)).unwrap().contains(&address.port()));
        drop(listener);
        assert!(found().all(|(_, it)| it != inode));
    }
}
