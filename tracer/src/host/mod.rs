//! Answers about this host: what the records do not say themselves.

pub mod answers;
pub mod application;
pub mod conntrack;
pub mod listener;
pub mod names;
pub mod netstat;
pub mod process;
mod recent;
pub mod route;
pub mod ruleset;
pub mod symbols;
pub mod thread;
pub mod xdp;
