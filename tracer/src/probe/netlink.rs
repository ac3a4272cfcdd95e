//! The route netlink requests that `clsact` takes and that aya does not have.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` and `..._EGRESS`: where filters hang in a `clsact` qdisc.
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// `TC_H_CLSACT`: the parent of a `clsact` qdisc.
const CLSACT: u32 = 0xffff_fff1;

/// `struct nlmsghdr` and `struct tcmsg`, and the attribute `TCA_KIND`, which a dump does without.
#[repr(C)]
struct Request {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    family: u8,
    padding: [u8; 3],
    interface: i32,
    handle: u32,
    parent: u32,
    info: u32,
    attribute_length: u16,
    attribute_kind: u16,
    name: [u8; 8],
}

/// The length of a request without its attribute, and with it.
const BARE: u32 = 36;
const NAMED: u32 = 48;

const _: () = assert!(size_of::<Request>() == NAMED as usize);

impl Request {
    fn new(kind: u16, flags: libc::c_int, interface: u32, parent: u32) -> io::Result<Self> {
        Ok(Self {
            length: BARE,
            kind,
            flags: u16::try_from(libc::NLM_F_REQUEST | flags).map_err(io::Error::other)?,
            sequence: 1,
            port: 0,
            family: 0,
            padding: [0; 3],
            interface: interface.cast_signed(),
            handle: 0,
            parent,
            info: 0,
            attribute_length: 4 + 7,
            attribute_kind: 1,
            name: *b"clsact\0\0",
        })
    }

    /// Sends it in the calling thread's network namespace and calls `answer` with the type and the content of each message
    /// that comes back, until the last.
    fn send(&self, mut answer: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut buffer = [0_u8; 16 << 10];
        // SAFETY: a new socket, owned from then on; the kernel reads and writes as many bytes as it is told there are.
        let socket = unsafe {
            let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
            if socket < 0 {
                return Err(io::Error::last_os_error());
            }
            let socket = OwnedFd::from_raw_fd(socket);
            if libc::send(socket.as_raw_fd(), std::ptr::from_ref(self).cast(), self.length as usize, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            socket
        };
        loop {
            // SAFETY: the buffer has as many bytes as the kernel is told.
            let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
            let mut rest = &buffer[..length];
            while let Some((kind, content)) = message(rest) {
                match (i32::from(kind), word(content, 0).unwrap_or(0).cast_signed()) {
                    (libc::NLMSG_DONE, _) | (libc::NLMSG_ERROR, 0) => return Ok(()),
                    (libc::NLMSG_ERROR, errno) => return Err(io::Error::from_raw_os_error(-errno)),
                    _ => answer(kind, content),
                }
                rest = rest.get((HEADER + content.len()).next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// The type of the first message in `bytes`, and its content.
fn message(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let length = word(bytes, 0)? as usize;
    let [low, high, ..] = word(bytes, 4)?.to_ne_bytes();
    Some((u16::from_ne_bytes([low, high]), bytes.get(HEADER..length)?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// Whether the interface with that index in the calling thread's network namespace has a `clsact` (or `ingress`) qdisc.
pub fn has_clsact(interface: u32) -> io::Result<bool> {
    let mut found = false;
    let get = Request::new(libc::RTM_GETQDISC, libc::NLM_F_ACK, interface, CLSACT)?;
    match get.send(|kind, _| found |= kind == libc::RTM_NEWQDISC) {
        Ok(()) => Ok(found),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The priority of the first filter at the ingress of the `clsact` qdisc of `interface`: the lowest number.
///
/// # Errors
///
/// If the kernel refuses to list them.
pub fn first_priority(interface: u32) -> io::Result<Option<u16>> {
    /// `tcm_info` in `struct tcmsg`: the priority is its upper half.
    const INFO: usize = 16;
    let mut first = None;
    let dump = Request::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, interface, INGRESS)?;
    dump.send(|kind, content| {
        if kind == libc::RTM_NEWTFILTER
            && let Some(info) = word(content, INFO)
        {
            let priority = (info >> 16) as u16;
            first = Some(first.map_or(priority, |first: u16| first.min(priority)));
        }
    })?;
    Ok(first)
}

/// Deletes the `clsact` qdisc of `interface`, unless a filter is left in it, which is somebody else's. No error if the
/// interface is gone.
pub fn delete_empty_clsact(index: u32) -> io::Result<()> {
    for parent in [INGRESS, EGRESS] {
        let mut filters = 0;
        let dump = Request::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, index, parent)?;
        dump.send(|kind, _| filters += u32::from(kind == libc::RTM_NEWTFILTER))?;
        if filters != 0 {
            return Ok(());
        }
    }
    let delete = Request::new(libc::RTM_DELQDISC, libc::NLM_F_ACK, index, CLSACT)?;
    match (Request { length: NAMED, handle: 0xffff_0000, ..delete }).send(|_, _| {}) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::{delete_empty_clsact, message};

    #[test]
    fn messages_are_taken_apart() {
        let mut bytes = vec![0; 24];
        bytes[0] = 24;
        bytes[4] = 3;
        bytes[16] = 7;
        assert_eq!(message(&bytes), Some((3, &[7, 0, 0, 0, 0, 0, 0, 0][..])));
        assert_eq!(message(&bytes[..12]), None);
        bytes[0] = 8;
        assert_eq!(message(&bytes), None);
    }

    #[test]
    fn an_interface_that_is_gone_has_no_qdisc() {
        assert!(delete_empty_clsact(u32::MAX >> 1).is_ok());
    }
}
