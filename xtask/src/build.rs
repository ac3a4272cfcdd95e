//! `build`: the release binary. One static file per architecture, the BPF object inside.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::{arch::Arch, elf, paths, sh};

/// Arguments of `build`.
#[derive(clap::Args)]
pub struct Args {
    /// Build for this architecture; may be repeated
    #[arg(long, value_enum, default_value = "amd64")]
    arch: Vec<Arch>,
    /// Build for every architecture of a release
    #[arg(long, conflicts_with = "arch")]
    all: bool,
}

/// Builds what the arguments ask for and says where it is.
pub fn run(args: &Args) -> Result<()> {
    let archs = if args.all { &Arch::ALL[..] } else { &args.arch };
    for &arch in archs {
        let binary = release(arch)?;
        #[expect(clippy::cast_precision_loss, reason = "a size for the eye")]
        let mebibytes = fs::metadata(&binary)?.len() as f64 / f64::from(1 << 20);
        println!("{}   {mebibytes:.1} MiB   static", binary.display());
    }
    Ok(())
}

/// Builds the release binary of one architecture and returns its path. Checks that it is static.
pub fn release(arch: Arch) -> Result<PathBuf> {
    let target = arch.target();
    // rustup ships this linker and musl's start files: no cross compiler is needed, as the tree has no C.
    let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    let mut cargo = sh::command("cargo", ["build", "--release", "--target", target, "-p", "tracer"]);
    sh::run(cargo.current_dir(paths::root()).env(linker, "rust-lld"))?;

    let binary = paths::target().join(target).join("release/tracer");
    let elf = elf::read(&binary).context("cargo built something else than expected")?;
    ensure!(elf.machine == arch.elf_machine(), "{} is not for {}", binary.display(), arch.debian());
    ensure!(elf.is_static, "{} needs a dynamic loader; it has to be static", binary.display());
    Ok(binary)
}
