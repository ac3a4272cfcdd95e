//! The XDP programs on network interfaces. One in the driver gets a packet before the kernel has made anything of it, so no
//! hook sees what it drops.

use aya::programs::loaded_programs;
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// From `linux/netlink.h`, `linux/rtnetlink.h` and `linux/if_link.h`.
mod uapi {
    pub const HEADER: usize = 16;
    /// The length of `struct ifinfomsg`.
    pub const INTERFACE: usize = 16;
    pub const IFLA_IFNAME: u16 = 3;
    pub const IFLA_XDP: u16 = 43;
    pub const IFLA_XDP_ATTACHED: u16 = 2;
    pub const IFLA_XDP_PROG_ID: u16 = 4;
    pub const IFLA_XDP_DRV_PROG_ID: u16 = 5;
    pub const IFLA_XDP_HW_PROG_ID: u16 = 7;
    pub const XDP_ATTACHED_SKB: u8 = 2;
    /// Attributes are numbered in these bits; one above them says that there are others inside.
    pub const KIND: u16 = 0x3fff;
}

/// The programs in drivers and devices of the calling thread's network namespace, such as `the XDP program filter (id 12) on
/// eth0`. Those in generic mode are not among them: hooks see what they drop.
///
/// # Errors
///
/// If the kernel refuses to list the interfaces.
pub fn programs() -> io::Result<Vec<String>> {
    let attached = interfaces()?;
    if attached.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<(u32, String)> = loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| attached.iter().any(|(_, id)| *id == program.id()))
        .filter_map(|program| Some((program.id(), program.name_as_str()?.to_owned())))
        .collect();
    let name = |id| names.iter().find(|(it, _)| *it == id).map_or(String::new(), |(_, name)| format!(" {name}"));
    Ok(attached
        .into_iter()
        .map(|(interface, id)| format!("the XDP program{} (id {id}) on {interface}", name(id)))
        .collect())
}

/// The interfaces that have such a program, and its id.
fn interfaces() -> io::Result<Vec<(String, u32)>> {
    let mut request = [0_u8; uapi::HEADER + uapi::INTERFACE];
    let length = u32::try_from(request.len()).map_err(io::Error::other)?;
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP).map_err(io::Error::other)?;
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: a new socket, owned from then on; the kernel reads as many bytes as it is told there are.
    let socket = unsafe {
        let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        if libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        socket
    };
    let mut found = Vec::new();
    let mut buffer = vec![0_u8; 64 << 10];
    loop {
        // SAFETY: the buffer has as many bytes as the kernel is told.
        let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        let mut rest = &buffer[..length];
        while let Some((message, next)) = message(rest) {
            if matches!(i32::from(half(message, 4)), libc::NLMSG_DONE | libc::NLMSG_ERROR) {
                return Ok(found);
            }
            found.extend(interface(message));
            rest = next;
        }
        if length == 0 {
            return Ok(found);
        }
    }
}

/// The interface that a message is about, if it has such a program, and its id.
fn interface(message: &[u8]) -> Option<(String, u32)> {
    let attributes = message.get(uapi::HEADER + uapi::INTERFACE..)?;
    let xdp = attribute(attributes, uapi::IFLA_XDP)?;
    let id = |kind| attribute(xdp, kind).and_then(|id| Some(u32::from_ne_bytes(*id.first_chunk()?)));
    let is_generic = attribute(xdp, uapi::IFLA_XDP_ATTACHED) == Some(&[uapi::XDP_ATTACHED_SKB]);
    let specific = id(uapi::IFLA_XDP_DRV_PROG_ID).or_else(|| id(uapi::IFLA_XDP_HW_PROG_ID));
    let id = specific.or_else(|| id(uapi::IFLA_XDP_PROG_ID).filter(|_| !is_generic))?;
    let name = attribute(attributes, uapi::IFLA_IFNAME)?;
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    (id != 0).then(|| (String::from_utf8_lossy(name).into_owned(), id))
}

/// The first message in `bytes`, and what follows it.
fn message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    if length < uapi::HEADER {
        return None;
    }
    Some((bytes.get(..length)?, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The content of the first attribute of that kind in `bytes`.
fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    const HEADER: usize = 4;
    while bytes.len() >= HEADER {
        let length = usize::from(half(bytes, 0)).max(HEADER);
        if half(bytes, 2) & uapi::KIND == kind {
            return bytes.get(HEADER..length);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// 0 where there is nothing.
fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |half| u16::from_ne_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(kind: u16, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + content.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn of(attached: u8, programs: &[(u16, u32)]) -> Option<(String, u32)> {
        let mut xdp = wrapped(uapi::IFLA_XDP_ATTACHED, &[attached]);
        xdp.extend(programs.iter().flat_map(|(kind, id)| wrapped(*kind, &id.to_ne_bytes())));
        let attributes = [wrapped(uapi::IFLA_IFNAME, b"eth0\0"), wrapped(uapi::IFLA_XDP | 0x8000, &xdp)].concat();
        interface(&[vec![0; uapi::HEADER + uapi::INTERFACE], attributes].concat())
    }

    #[test]
    fn programs_in_drivers_and_devices_are_listed() {
        let on_eth0 = |id| Some(("eth0".to_owned(), id));
        assert_eq!(of(1, &[(uapi::IFLA_XDP_PROG_ID, 12), (uapi::IFLA_XDP_DRV_PROG_ID, 12)]), on_eth0(12));
        // Older kernels name the program only.
        assert_eq!(of(1, &[(uapi::IFLA_XDP_PROG_ID, 13)]), on_eth0(13));
        // In several modes at once.
        assert_eq!(of(4, &[(6, 14), (uapi::IFLA_XDP_HW_PROG_ID, 15)]), on_eth0(15));
        assert_eq!(of(2, &[(uapi::IFLA_XDP_PROG_ID, 16), (6, 16)]), None);
        assert_eq!(of(0, &[]), None);
        assert!(interface(&[0; 20]).is_none());
    }

    #[test]
    fn interfaces_of_this_host_can_be_asked() {
        interfaces().unwrap();
    }
}
