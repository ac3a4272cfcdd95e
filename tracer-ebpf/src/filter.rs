//! The filters of this run. Every hook asks here; `tracer-common` decides.

use aya_ebpf::maps::lpm_trie::Key;
use tracer_common::endpoint::Tuple;
pub use tracer_common::filter::Filter;

use crate::{
    kernel,
    maps::{INTERFACES, PEERS, is_known_port},
};

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
        is_known_port(port)
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
