//! What an agent for flow monitoring does at least: a `sock_ops` program that keeps bytes, round-trip time and
//! retransmissions for each connection, and nothing of its requests.
#![no_std]
#![no_main]
#![expect(clippy::needless_pass_by_value, reason = "aya's macros hand the context over by value")]
#![expect(clippy::inline_always, reason = "a call between BPF functions costs time")]

mod flow;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // No panic is reachable: the verifier accepts no loop without an end.
    loop {}
}

/// Some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
