//! `build`: the release binary. One static file per architecture, the BPF object inside.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

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
    sh::run(cargo("build", arch).args(["--release", "-p", "tracer"]))?;
    let binary = paths::target().join(arch.target()).join("release/tracer");
    check(&binary, arch)?;
    Ok(binary)
}

/// A task of cargo, such as `build`, for static programs of one architecture.
pub fn cargo(task: &str, arch: Arch) -> Command {
    let target = arch.target();
    // rustup ships this linker and musl's start files: no cross compiler is needed, as the tree has no C.
    let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    let mut cargo = sh::command("cargo", [task, "--target", target]);
    cargo.current_dir(paths::root()).env(linker, "rust-lld");
    cargo
}

/// An error where the program is not for this architecture, or not static.
pub fn check(binary: &Path, arch: Arch) -> Result<()> {
    let elf = elf::read(binary).context("cargo built something else than expected")?;
    ensure!(elf.machine == arch.elf_machine(), "{} is not for {}", binary.display(), arch.debian());
    ensure!(elf.is_static, "{} needs a dynamic loader; it has to be static", binary.display());
    Ok(())
}
