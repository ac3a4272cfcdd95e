//! The XDP programs on network interfaces. One in the driver gets a packet before the kernel has made anything of it, so no
//! hook sees what it drops.

use std::io;

use aya::programs::loaded_programs;

use crate::netlink::{self, Message, NetlinkError, Request};

/// From `linux/rtnetlink.h` and `linux/if_link.h`.
mod uapi {
    /// The length of `struct ifinfomsg`.
    pub const INTERFACE: usize = 16;
    pub const IFLA_IFNAME: u16 = 3;
    pub const IFLA_XDP: u16 = 43;
    pub const IFLA_XDP_ATTACHED: u16 = 2;
    pub const IFLA_XDP_PROG_ID: u16 = 4;
    pub const IFLA_XDP_DRV_PROG_ID: u16 = 5;
    pub const IFLA_XDP_HW_PROG_ID: u16 = 7;
    pub const XDP_ATTACHED_SKB: u8 = 2;
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
fn interfaces() -> Result<Vec<(String, u32)>, NetlinkError> {
    Request::dump(libc::RTM_GETLINK, &[0; uapi::INTERFACE]).send(netlink::ROUTE, interface)
}

/// The interface that a message is about, if it has such a program, and its id.
fn interface(message: &Message<'_>) -> Option<(String, u32)> {
    let attributes = message.attributes_behind(uapi::INTERFACE);
    let xdp = netlink::find(attributes, uapi::IFLA_XDP)?;
    let id = |kind| netlink::find(xdp, kind).and_then(|id| netlink::word(id, 0));
    let is_generic = netlink::find(xdp, uapi::IFLA_XDP_ATTACHED) == Some(&[uapi::XDP_ATTACHED_SKB]);
    let specific = id(uapi::IFLA_XDP_DRV_PROG_ID).or_else(|| id(uapi::IFLA_XDP_HW_PROG_ID));
    let id = specific.or_else(|| id(uapi::IFLA_XDP_PROG_ID).filter(|_| !is_generic))?;
    let name = netlink::find(attributes, uapi::IFLA_IFNAME)?;
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    (id != 0).then(|| (String::from_utf8_lossy(name).into_owned(), id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{attribute, nested};

    fn of(attached: u8, programs: &[(u16, u32)]) -> Option<(String, u32)> {
        let mut xdp = attribute(uapi::IFLA_XDP_ATTACHED, &[attached]);
        xdp.extend(programs.iter().flat_map(|(kind, id)| attribute(*kind, &id.to_ne_bytes())));
        let attributes = [attribute(uapi::IFLA_IFNAME, b"eth0\0"), nested(uapi::IFLA_XDP, &xdp)].concat();
        let body = [vec![0; uapi::INTERFACE], attributes].concat();
        interface(&Message::new(libc::RTM_NEWLINK, &body))
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
        assert_eq!(interface(&Message::new(libc::RTM_NEWLINK, &[0; 4])), None);
    }

    #[test]
    fn interfaces_of_this_host_can_be_asked() {
        interfaces().unwrap();
    }
}
