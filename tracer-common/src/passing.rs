//! SYNs for an end of this host at which nothing listens, remembered until they are answered or leave.

use crate::{endpoint::Tuple, shared::Shared};

/// A SYN for an end at which nothing listens.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Passing {
    /// Both ends, as in the packet.
    pub tuple: Shared<Tuple>,
    /// When the first one came.
    pub seen: Shared<u64>,
    /// When the latest one came.
    pub last: Shared<u64>,
    /// It was seen to leave through another interface: 0 or 1.
    pub forwarded: Shared<u64>,
}
