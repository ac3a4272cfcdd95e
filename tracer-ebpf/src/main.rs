//! The BPF programs: thin hooks that read what the kernel knows and hand it to the state machine in `tracer-common`.
//!
//! One file per hook family. Each hook's doc comment holds the kernel prototype that it reads, argument by argument.
#![no_std]
#![feature(asm_experimental_arch)]
#![no_main]
#![expect(clippy::inline_always, reason = "a call between BPF functions costs stack, of which there are 512 bytes")]
#![expect(clippy::needless_pass_by_value, reason = "aya's macros hand the context over by value")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "helpers take sizes as u32 and give small numbers in 64-bit registers"
)]

mod accept;
mod drops;
mod filter;
mod handshake;
mod kernel;
mod maps;
mod passing;
mod read;
mod receive;
mod rejections;
mod slots;
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
