//! A `sock_ops` program on the root of the control groups, for every connection of the host.

use std::{fs, fs::File, path::Path};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    programs::{CgroupAttachMode, SockOps},
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use super::{Attached, Told};

/// The program, attached. Fields drop in this order.
pub struct Flow {
    _program: Ebpf,
    _mount: Option<Mount>,
}

impl Flow {
    /// Attaches it.
    pub fn attach() -> Result<Self> {
        let object = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sock_ops"));
        let mut ebpf = EbpfLoader::new().load(object).context("cannot load the sock_ops program")?;
        let program: &mut SockOps = ebpf.program_mut("flow").context("the object has no program flow")?.try_into()?;
        program.load().context("the sock_ops program is refused")?;
        let (root, mount) = root()?;
        // A link: the kernel lets others be there in any case, and refuses a flag for that.
        program.attach(root, CgroupAttachMode::Single).context("cannot attach the sock_ops program")?;
        Ok(Self { _program: ebpf, _mount: mount })
    }
}

impl Attached for Flow {
    fn detach(self: Box<Self>) -> Result<Told> {
        Ok(Told::default())
    }
}

/// The root of the control groups (v2), mounted for this if nobody has.
fn root() -> Result<(File, Option<Mount>)> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let mut mounts = mounts.lines().map(|line| line.split(' ').skip(1).take(2).collect::<Vec<_>>());
    let open = |path: &Path| File::open(path).with_context(|| format!("cannot open {}", path.display()));
    if let Some(mount) = mounts.find(|mount| mount.last() == Some(&"cgroup2")) {
        return Ok((open(Path::new(mount[0]))?, None));
    }
    let mount = Mount::new()?;
    Ok((open(mount.0.path())?, Some(mount)))
}

/// The control groups, mounted in a directory of our own; undone on drop.
struct Mount(TempDir);

impl Mount {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        mount("none", directory.path(), "cgroup2", MountFlags::empty(), None).context("cannot mount control groups")?;
        Ok(Self(directory))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.0.path(), UnmountFlags::DETACH) {
            eprintln!("bench: cannot unmount {}: {error}", self.0.path().display());
        }
    }
}
