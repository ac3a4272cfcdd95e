//! The XDP programs on network interfaces. One in the driver gets a packet before the kernel has made anything of it, so no
//! hook sees what it drops.

use std::io;

use aya::programs::loaded_programs;

use crate::{netlink, probe::namespace};

/// From `linux/if_link.h`.
mod uapi {
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
fn interfaces() -> io::Result<Vec<(String, u32)>> {
    Ok(namespace::each_interface(|interface, attributes| Some((interface.name, program(attributes)?)))?)
}

/// The id of such a program among the attributes of an interface.
fn program(attributes: &[u8]) -> Option<u32> {
    let xdp = netlink::find(attributes, uapi::IFLA_XDP)?;
    let id = |kind| netlink::find(xdp, kind).and_then(|id| netlink::word(id, 0));
    let is_generic = netlink::find(xdp, uapi::IFLA_XDP_ATTACHED) == Some(&[uapi::XDP_ATTACHED_SKB]);
    let specific = id(uapi::IFLA_XDP_DRV_PROG_ID).or_else(|| id(uapi::IFLA_XDP_HW_PROG_ID));
    specific.or_else(|| id(uapi::IFLA_XDP_PROG_ID).filter(|_| !is_generic)).filter(|&id| id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{attribute, nested};

    fn of(attached: u8, programs: &[(u16, u32)]) -> Option<u32> {
        let mut xdp = attribute(uapi::IFLA_XDP_ATTACHED, &[attached]);
        xdp.extend(programs.iter().flat_map(|(kind, id)| attribute(*kind, &id.to_ne_bytes())));
        program(&[attribute(3, b"eth0\0"), nested(uapi::IFLA_XDP, &xdp)].concat())
    }

    #[test]
    fn programs_in_drivers_and_devices_are_listed() {
        assert_eq!(of(1, &[(uapi::IFLA_XDP_PROG_ID, 12), (uapi::IFLA_XDP_DRV_PROG_ID, 12)]), Some(12));
        // Older kernels name the program only.
        assert_eq!(of(1, &[(uapi::IFLA_XDP_PROG_ID, 13)]), Some(13));
        // In several modes at once.
        assert_eq!(of(4, &[(6, 14), (uapi::IFLA_XDP_HW_PROG_ID, 15)]), Some(15));
        assert_eq!(of(2, &[(uapi::IFLA_XDP_PROG_ID, 16), (6, 16)]), None);
        assert_eq!(of(0, &[]), None);
        assert_eq!(program(&[0; 4]), None);
    }

    #[test]
    fn interfaces_of_this_host_can_be_asked() {
        interfaces().unwrap();
    }
}
