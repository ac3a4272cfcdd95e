//! The filters of this run. Every hook asks here; `tracer-common` decides.

use aya_ebpf::maps::lpm_trie::Key;
pub use tracer_common::filter::Filter;
use tracer_common::{endpoint::Tuple, settings::Settings};

use crate::{
    kernel,
    maps::{INTERFACES, PEERS, is_known_port, is_wanted_port},
};

/// Whether the port filter may let a connection to `port` through, for a look that costs no more: the known ports are those
/// that were asked for and those that this host maps them to.
#[inline(always)]
pub fn may_want(port: u16) -> bool {
    !Filters.has(Settings::PORT_FILTER) || is_known_port(port)
}

/// The filters of this run: constants to the verifier, which removes the questions of those that are off.
pub struct Filters;

impl Filter for Filters {
    #[inline(always)]
    fn bits(&self) -> u32 {
        kernel::settings_bits()
    }

    #[inline(always)]
    fn pid(&self) -> u32 {
        kernel::wanted_pid()
    }

    #[inline(always)]
    fn netns(&self) -> u32 {
        kernel::wanted_netns()
    }

    #[inline(always)]
    fn has_port(&self, port: u16) -> bool {
        // Behind a port mapping other ports are known, too, for those that were asked for.
        if self.has(Settings::PORT_FILTER) { is_wanted_port(port) } else { is_known_port(port) }
    }

    #[inline(always)]
    fn has_peer(&self, tuple: &Tuple) -> bool {
        PEERS.get(Key::new(128, tuple.peer.address)).is_some()
    }

    #[inline(always)]
    fn has_interface(&self, index: u32) -> bool {
        INTERFACES.get_ptr(index).is_some()
    }
}
