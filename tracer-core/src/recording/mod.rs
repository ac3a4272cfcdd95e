//! The file format of recordings.
//!
//! Little-endian. A header: [`MAGIC`], the format version (`u32`), and the clock's offset (`i64`, nanoseconds that
//! `CLOCK_REALTIME` is ahead of `CLOCK_MONOTONIC`). Then blocks: the kind (`u32`), the length of the rest (`u32`), the
//! rest. The last block is [`Kind::End`]; a file without it is cut off. Nothing names the host.
//!
//! | kind | rest |
//! |---|---|
//! | 1 record | as the kernel made it (`tracer_common::record`) |
//! | 2 control group | its id (`u64`), a pid (`u32`, 0 for the whole group), its path |
//! | 3 hooks | JSON, as in the closing `status` object |
//! | 4 waiting | a request record: it had not ended when tracing ended |
//! | 5 end | JSON: the kernel's counters; empty if they are not known |
//! | 6 limits | what was assumed of the load balancer: its idle timeout (`u64`, nanoseconds) |
//! | 7 rejection | JSON: a rejection that was counted, but not recorded by the kernel one by one (`rejection.rs`) |
//! | 8 reconciliation | JSON: what was seen held against the kernel's own counters (`model/reconciliation.rs`) |
//! | 9 host | JSON: what the host said about the rejection record that follows (`model/facts.rs`) |
//! | 10 look | a request record: the request waited at that moment |
//! | 11 answer | the number of a question about a process (`u64`), then JSON (`model/application.rs`) |
//! | 12 moment | monotonic nanoseconds (`u64`) at which something was decided about rejections; all ones: the end |
//! | 13 namespace | a network namespace's inode number (`u32`), then its name |
//! | 14 selection | JSON: the ports and peers that were asked for (`selection.rs`); absent: all |
//!
//! Version 2 added rejections, and made the records of connections and requests longer. Version 3 keeps what rejections
//! are made of, so that a report decides again, and knows the beginnings of turns.

mod looks;
pub mod read;
pub mod write;

/// The first bytes of a recording: not text, and damaged by a transfer that alters line ends or strips high bits.
const MAGIC: [u8; 8] = *b"\x89tracer\n";
/// The format that this version writes and reads.
const VERSION: u32 = 3;
/// Bytes of the header.
const HEADER: usize = 20;
/// Bytes of a block before its rest.
const BLOCK_HEADER: usize = 8;
/// The longest rest. What may be longer is written as several blocks.
const MAX_REST: usize = 1 << 20;

/// What a block holds.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Record = 1,
    Cgroup = 2,
    Hooks = 3,
    Waiting = 4,
    End = 5,
    Limits = 6,
    Rejection = 7,
    Reconciliation = 8,
    Host = 9,
    Look = 10,
    Answer = 11,
    Moment = 12,
    Namespace = 13,
    Selection = 14,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Record,
        Self::Cgroup,
        Self::Hooks,
        Self::Waiting,
        Self::End,
        Self::Limits,
        Self::Rejection,
        Self::Reconciliation,
        Self::Host,
        Self::Look,
        Self::Answer,
        Self::Moment,
        Self::Namespace,
        Self::Selection,
    ];
}

#[cfg(test)]
mod tests;
