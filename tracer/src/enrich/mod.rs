//! What the records do not say themselves: whose network a peer is in, whose process it was.

pub mod peer;
pub mod process;
