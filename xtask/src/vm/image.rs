//! What a virtual machine boots: Debian's cloud kernels, the modules that tests need, and a static busybox. Cached.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    apt::Archive,
    kernel::{Kernel, newest},
    modules,
};
use crate::{arch::Arch, paths};

/// An unpacked kernel.
pub struct Image {
    /// What `uname -r` says in it.
    pub release: String,
    /// The kernel itself.
    pub vmlinuz: PathBuf,
    /// Modules, and in the file `order` their names in the order of loading.
    pub modules: PathBuf,
    /// A static busybox for its architecture.
    pub busybox: PathBuf,
}

impl Image {
    /// The cached image of a kernel.
    pub fn open(kernel: Kernel) -> Result<Self> {
        let dir = directory(kernel);
        let release = fs::read_to_string(dir.join("release")).with_context(|| format!("no image of {kernel}"))?;
        let (vmlinuz, modules) = (dir.join("vmlinuz"), dir.join("modules"));
        Ok(Self { release, vmlinuz, modules, busybox: busybox(kernel.arch) })
    }
}

/// Downloads what `kernels` need and is not there; with `update`, replaces what is there by the newest version.
pub fn fetch(kernels: &[Kernel], update: bool) -> Result<()> {
    let lacks_kernel = |kernel| update || !is_complete(kernel);
    let lacks_busybox = |arch| update || !busybox(arch).exists();
    if !kernels.iter().any(|&kernel| lacks_kernel(kernel) || lacks_busybox(kernel.arch)) {
        return Ok(());
    }
    fs::create_dir_all(paths::kernels()).with_context(|| format!("cannot create {}", paths::kernels().display()))?;
    let lock = fs::File::create(paths::kernels().join("lock"))?;
    lock.lock().context("cannot lock the cache of kernels")?;

    let archive = Archive::open()?;
    for arch in Arch::ALL {
        if kernels.iter().any(|kernel| kernel.arch == arch) && lacks_busybox(arch) {
            download_busybox(arch, &archive)?;
        }
    }
    for &kernel in kernels {
        if lacks_kernel(kernel) {
            download_kernel(kernel, &archive).with_context(|| format!("cannot prepare {kernel}"))?;
        }
    }
    Ok(())
}

/// Whether the cached image was made whole, and for the modules that are needed today.
fn is_complete(kernel: Kernel) -> bool {
    directory(kernel).join("release").exists() && modules::are_complete(&directory(kernel).join("modules"))
}

fn directory(kernel: Kernel) -> PathBuf {
    paths::kernels().join(format!("{}-{}", kernel.arch.debian(), kernel.series))
}

fn busybox(arch: Arch) -> PathBuf {
    paths::kernels().join(format!("busybox-{}", arch.debian()))
}

fn download_busybox(arch: Arch, archive: &Archive) -> Result<()> {
    let tree = tempfile::tempdir_in(paths::kernels())?;
    archive.unpack("busybox-static", arch, tree.path())?;
    fs::rename(tree.path().join("bin/busybox"), busybox(arch)).context("busybox-static holds no bin/busybox")
}

fn download_kernel(kernel: Kernel, archive: &Archive) -> Result<()> {
    let packages = archive.names("linux-")?;
    let release = newest(&packages, kernel).context("Debian's archive has no such kernel")?;
    let tree = tempfile::tempdir_in(paths::kernels())?;
    // One package holds all of an older kernel; a newer one is split.
    for part in ["image", "base", "binary", "modules"] {
        let package = format!("linux-{part}-{release}");
        if packages.contains(&package) {
            archive.unpack(&package, kernel.arch, tree.path())?;
        }
    }
    let image = tempfile::tempdir_in(paths::kernels())?;
    fs::copy(find_vmlinuz(tree.path(), &release)?, image.path().join("vmlinuz"))?;
    modules::extract(tree.path(), &release, &image.path().join("modules"))?;
    fs::write(image.path().join("release"), &release)?;

    let directory = directory(kernel);
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot replace {}", directory.display()))?;
    }
    fs::rename(image.keep(), directory).context("cannot move the new image to its place")
}

fn find_vmlinuz(tree: &Path, release: &str) -> Result<PathBuf> {
    let places = [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
    let found = places.iter().map(|place| tree.join(place)).find(|path| path.exists());
    found.with_context(|| format!("the packages of {release} hold none of {places:?}"))
}
