//! The BPF programs: thin hooks that read what the kernel knows and hand it to the state machine in `tracer-common`.
//!
//! One file per hook family. Each hook's doc comment holds the kernel prototype that it reads, argument by argument.
#![no_std]
#![no_main]

mod accept;
mod handshake;
mod kernel;
mod maps;
mod read;
mod receive;
mod state;
mod sweep;
mod traced;
mod transmit;
mod write;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // No panic is reachable: the verifier accepts no loop without an end.
    loop {}
}

/// Some helpers (`bpf_probe_read_kernel`, the ring buffer's) are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
