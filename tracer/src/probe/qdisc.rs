//! The qdisc `clsact` and its filters, as far as `clsact.rs` asks for them and aya does not.

use std::io;

use rustix::io::Errno;

use crate::netlink::{self, NetlinkError, Request, attribute};

/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` and `..._EGRESS`: where filters hang in a `clsact` qdisc.
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// `TC_H_CLSACT`: the parent of a `clsact` qdisc, and its handle.
const CLSACT: u32 = 0xffff_fff1;
const HANDLE: u32 = 0xffff_0000;

/// The attribute that names what kind of qdisc it is.
const TCA_KIND: u16 = 1;

/// `struct tcmsg`, and where its member `tcm_info` is.
const LENGTH: usize = 20;
const INFO: usize = 16;

fn message(interface: u32, handle: u32, parent: u32) -> [u8; LENGTH] {
    let mut message = [0; LENGTH];
    for (at, word) in [(4, interface), (8, handle), (12, parent)] {
        message[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    message
}

/// Whether the interface with that index in the calling thread's network namespace has a `clsact` (or `ingress`) qdisc.
pub fn has_clsact(interface: u32) -> io::Result<bool> {
    let get = Request::one(libc::RTM_GETQDISC, &message(interface, 0, CLSACT));
    match get.send(netlink::ROUTE, |answer| (answer.kind == libc::RTM_NEWQDISC).then_some(())) {
        Ok(found) => Ok(!found.is_empty()),
        Err(NetlinkError::Refused(Errno::NOENT)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The priority of the first filter at the ingress of the `clsact` qdisc of `interface`: the lowest number.
///
/// # Errors
///
/// If the kernel refuses to list them.
pub fn first_priority(interface: u32) -> io::Result<Option<u16>> {
    Ok(filters(interface, INGRESS)?.into_iter().min())
}

/// The priorities of the filters that hang there.
fn filters(interface: u32, parent: u32) -> Result<Vec<u16>, NetlinkError> {
    let dump = Request::dump(libc::RTM_GETTFILTER, &message(interface, 0, parent));
    dump.send(netlink::ROUTE, |answer| {
        // The priority is the upper half.
        let info = netlink::word(answer.body, INFO).filter(|_| answer.kind == libc::RTM_NEWTFILTER);
        info.map(|info| (info >> 16) as u16)
    })
}

/// Deletes the `clsact` qdisc of `interface`, unless a filter is left in it, which is somebody else's. No error if the
/// interface is gone.
pub fn delete_empty_clsact(interface: u32) -> io::Result<()> {
    for parent in [INGRESS, EGRESS] {
        if !filters(interface, parent)?.is_empty() {
            return Ok(());
        }
    }
    let delete = Request::one(libc::RTM_DELQDISC, &message(interface, HANDLE, CLSACT));
    match delete.with(&attribute(TCA_KIND, b"clsact\0")).send(netlink::ROUTE, |_| None::<()>) {
        Ok(_) | Err(NetlinkError::Refused(Errno::NODEV)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_gone_has_no_qdisc() {
        assert!(delete_empty_clsact(u32::MAX >> 1).is_ok());
    }

    #[test]
    fn an_interface_without_clsact_has_no_filter() {
        assert!(!has_clsact(1).unwrap());
        assert_eq!(first_priority(1).unwrap(), None);
    }
}
