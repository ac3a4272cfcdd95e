//! What the records do not say themselves: whose network a peer is in, whose process it was, what this host says about a
//! rejection.

pub mod application;
pub mod conntrack;
pub mod host;
pub mod listener;
pub mod netns;
pub mod netstat;
pub mod peer;
pub mod process;
mod recent;
pub mod route;
pub mod ruleset;
pub mod servers;
pub mod symbols;
pub mod xdp;
