//! The two route netlink requests that cleaning up `clsact` takes; aya has neither.

use std::{
    ffi::CString,
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

    /// Sends it in the calling thread's network namespace and calls `answer` with the type and the first word of each
    /// message that comes back, until the last.
    fn send(&self, mut answer: impl FnMut(u16, i32)) -> io::Result<()> {
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
            while let Some((kind, word, size)) = message(rest) {
                match (i32::from(kind), word) {
                    (libc::NLMSG_DONE, _) | (libc::NLMSG_ERROR, 0) => return Ok(()),
                    (libc::NLMSG_ERROR, errno) => return Err(io::Error::from_raw_os_error(-errno)),
                    _ => answer(kind, word),
                }
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// The type of the first message in `bytes`, the word behind its header, and its length.
fn message(bytes: &[u8]) -> Option<(u16, i32, usize)> {
    let word = |at: usize| bytes.get(at..)?.first_chunk::<4>().copied();
    let length = u32::from_ne_bytes(word(0)?) as usize;
    let [low, high, ..] = word(4)?;
    (length >= 20).then_some((u16::from_ne_bytes([low, high]), i32::from_ne_bytes(word(16)?), length))
}

/// Deletes the `clsact` qdisc of `interface`, unless a filter is left in it, which is somebody else's. No error if the
/// interface is gone.
///
/// # Errors
///
/// If the kernel refuses.
pub fn delete_empty_clsact(interface: &str) -> io::Result<()> {
    let name = CString::new(interface)?;
    // SAFETY: a valid C string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Ok(());
    }
    for parent in [INGRESS, EGRESS] {
        let mut filters = 0;
        let dump = Request::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, index, parent)?;
        dump.send(|kind, _| filters += u32::from(kind == libc::RTM_NEWTFILTER))?;
        if filters != 0 {
            return Ok(());
        }
    }
    let delete = Request::new(libc::RTM_DELQDISC, libc::NLM_F_ACK, index, CLSACT)?;
    Request { length: NAMED, handle: 0xffff_0000, ..delete }.send(|_, _| {})
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
        assert_eq!(message(&bytes), Some((3, 7, 24)));
        assert_eq!(message(&bytes[..12]), None);
        bytes[0] = 8;
        assert_eq!(message(&bytes), None);
    }

    #[test]
    fn an_interface_that_is_gone_has_no_qdisc() {
        assert!(delete_empty_clsact("no-such-if").is_ok());
    }
}
