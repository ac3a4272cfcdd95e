//! The root file system of a virtual machine: busybox, modules, the programs under test and the job, as one cpio archive.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::image::Image;

/// What the first process runs: mounts, modules, then the job.
const INIT: &str = include_str!("init.sh");

/// A program or library of the host, and where it is in the machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    /// On the host.
    pub from: PathBuf,
    /// In the machine; an absolute path.
    pub to: PathBuf,
}

/// Packs the archive into `dir` and returns its path.
pub fn pack(image: &Image, files: &[File], job: &str, dir: &Path) -> Result<PathBuf> {
    let root = dir.join("root");
    fs::create_dir_all(root.join("modules"))?;
    install(&image.busybox, &root, Path::new("/bin/busybox"))?;
    for file in files {
        install(&file.from, &root, &file.to)?;
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

fn install(from: &Path, root: &Path, to: &Path) -> Result<()> {
    let to = root.join(to.strip_prefix("/").with_context(|| format!("{} is not an absolute path", to.display()))?);
    fs::create_dir_all(to.parent().unwrap_or(root))?;
    fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, Permissions::from_mode(0o755))?;
    Ok(())
}

fn cpio(root: &Path, archive: &Path) -> Result<()> {
    let script = "find . -print0 | cpio --quiet --null --create --format=newc --owner=0:0";
    let output = fs::File::create(archive)?;
    let status = Command::new("sh").args(["-c", script]).current_dir(root).stdin(Stdio::null()).stdout(output).status();
    let status = status.context("cannot run sh")?;
    ensure!(status.success(), "cpio failed: {status}; `cargo xtask setup` installs it");
    Ok(())
}
