//! Faults of the last hop, made with the real thing: firewall rules, BPF programs, full tables, packets by hand. Each is a
//! guard, and is undone when it is dropped.

mod conntrack;
mod packets;
mod program;
mod rules;

pub use conntrack::fill_conntrack;
pub use packets::{Segment, send_segments, send_segments_here};
pub use program::{Cgroup, DropProgram};
pub use rules::{Hook, Rules, matching};
