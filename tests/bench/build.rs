//! Builds the BPF objects that the binary embeds.

use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> anyhow::Result<()> {
    let root_dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench-ebpf");
    build_ebpf([Package { name: "bench-ebpf", root_dir, ..Default::default() }], Toolchain::default())
}
