//! What kernel and user space share: the connection state machine, the stages, the records, the settings.
//!
//! Pure `no_std` Rust without a kernel type in it, so that all of it is tested on the host. The thin programs of
//! `tracer-ebpf` feed it with what they read from the kernel; `tracer` decodes what it reports.
//!
//! Every moment is a `u64` in nanoseconds of `CLOCK_MONOTONIC`; 0 means that the moment was not seen.
#![cfg_attr(not(test), no_std)]
#![expect(clippy::inline_always, reason = "a call between BPF functions costs stack, of which there are 512 bytes")]

pub mod at_limit;
pub mod connection;
pub mod counter;
pub mod drop;
pub mod endpoint;
pub mod filter;
pub mod handshake;
pub mod kind;
pub mod offsets;
pub mod opening;
pub mod packet;
pub mod passing;
pub mod process;
pub mod record;
pub mod rejection;
pub mod sequence;
pub mod settings;
pub mod shared;
pub mod slot;
pub mod stage;
pub mod turn;

/// Declares `aya::Pod` for types that maps and globals carry between kernel and user space.
#[cfg(feature = "user")]
macro_rules! pod {
    ($($name:ty),+ $(,)?) => {$(
        // SAFETY: `repr(C)`, `Copy`, no padding (sizes are asserted beside the types), valid for any bit pattern.
        unsafe impl aya::Pod for $name {}
    )+};
}

#[cfg(feature = "user")]
pod!(
    endpoint::Endpoint,
    endpoint::Tuple,
    offsets::Offsets,
    rejection::ArrivalTally,
    rejection::Key,
    rejection::ListenerKey,
    rejection::ListenerTally,
    rejection::NamespaceTally,
    rejection::Tally,
    settings::Settings,
);
