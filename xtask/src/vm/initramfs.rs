//! The root file system of a virtual machine: busybox, modules, the programs under test and the job, as one cpio archive.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{Program, image::Image};

/// What the first process runs: mounts, modules, then the job.
const INIT: &str = include_str!("init.sh");

/// Packs the archive into `dir` and returns its path. `programs` go to `/bin`.
pub fn pack(image: &Image, programs: &[Program], job: &str, dir: &Path) -> Result<PathBuf> {
    let root = dir.join("root");
    for name in ["bin", "modules"] {
        fs::create_dir_all(root.join(name))?;
    }
    install(&image.busybox, &root.join("bin/busybox"))?;
    for program in programs {
        install(&program.path, &root.join("bin").join(&program.name))?;
    }
    for module in fs::read_dir(&image.modules)? {
        let module = module?;
        fs::copy(module.path(), root.join("modules").join(module.file_name()))?;
    }
    fs::write(root.join("job.sh"), job)?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), Permissions::from_mode(0o755))?;

    let archive = dir.join("initramfs");
    cpio(&root, &archive)?;
    Ok(archive)
}

fn install(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, Permissions::from_mode(0o755))?;
    Ok(())
}

fn cpio(root: &Path, archive: &Path) -> Result<()> {
    let script = "find . -print0 | cpio --quiet --null --create --format=newc --owner=0:0";
    let output = File::create(archive)?;
    let status = Command::new("sh").args(["-c", script]).current_dir(root).stdin(Stdio::null()).stdout(output).status();
    let status = status.context("cannot run sh")?;
    ensure!(status.success(), "cpio failed: {status}; `cargo xtask setup` installs it");
    Ok(())
}
