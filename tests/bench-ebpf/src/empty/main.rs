//! The floor: at each hook of tracer a program of the same name that does nothing. What it costs is the price of being
//! called at all, which no tracer on these hooks can go below.
#![no_std]
#![no_main]

mod hooks;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // No panic is reachable: the verifier accepts no loop without an end.
    loop {}
}

/// Some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
