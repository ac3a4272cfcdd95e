//! Builds the BPF object that the binary embeds.

use std::{env, fs, path::Path};

use anyhow::Context as _;
use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> anyhow::Result<()> {
    // aya-build watches the programs themselves; they hold this crate's code, too.
    println!("cargo:rerun-if-changed={}", concat!(env!("CARGO_MANIFEST_DIR"), "/../tracer-common/src"));
    let root_dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../tracer-ebpf");
    build_ebpf([Package { name: "tracer-ebpf", root_dir, ..Default::default() }], Toolchain::default())?;
    let object = Path::new(&env::var("OUT_DIR")?).join("tracer-ebpf");
    let bytes = fs::read(&object).with_context(|| format!("reading {}", object.display()))?;
    fs::write(&object, with_plain_union_names(bytes)).with_context(|| format!("writing {}", object.display()))
}

/// Replaces what is no identifier in the type names `MaybeUninit<...>`.
///
/// The kernel refuses BTF with such names. bpf-linker 0.10 rewrites those of structs, but not those of unions, and
/// aya-ebpf's `Global`, which aya-log uses, holds this one.
fn with_plain_union_names(mut bytes: Vec<u8>) -> Vec<u8> {
    const NAME: &[u8] = b"MaybeUninit<";
    let starts: Vec<_> = (0..bytes.len()).filter(|&start| bytes[start..].starts_with(NAME)).collect();
    for start in starts {
        for byte in
            bytes[start..].iter_mut().take_while(|byte| **byte != 0).filter(|byte| !byte.is_ascii_alphanumeric())
        {
            *byte = b'_';
        }
    }
    bytes
}
