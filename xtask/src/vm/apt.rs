//! Debian's archive through an apt configuration of our own: the host's lists, cache and sources stay untouched.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{arch::Arch, paths, sh};

const SOURCES: &str = "\
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg arch=amd64,arm64] http://deb.debian.org/debian bookworm main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg arch=amd64,arm64] http://deb.debian.org/debian bookworm-backports main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg arch=amd64,arm64] http://deb.debian.org/debian trixie-backports main
";

/// The package lists, as of now.
pub struct Archive {
    dir: PathBuf,
}

impl Archive {
    /// Downloads the package lists.
    pub fn open() -> Result<Self> {
        let archive = Self { dir: paths::kernels().join("apt") };
        for dir in ["lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(archive.dir.join(dir)).with_context(|| format!("cannot create {dir}"))?;
        }
        fs::write(archive.dir.join("sources.list"), SOURCES)?;
        eprintln!("reading Debian's package lists");
        sh::read(archive.apt("apt-get").args(["-qq", "update"])).context("cannot read Debian's package lists")?;
        Ok(archive)
    }

    /// Names of all packages that start with `prefix`.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = sh::read(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Downloads the newest version of a package and unpacks it into `tree`.
    pub fn unpack(&self, package: &str, arch: Arch, tree: &std::path::Path) -> Result<()> {
        let debs = tempfile::tempdir_in(&self.dir)?;
        let name = format!("{package}:{}", arch.debian());
        eprintln!("downloading {name}");
        sh::read(self.apt("apt-get").args(["-qq", "download", &name]).current_dir(debs.path()))?;
        for deb in fs::read_dir(debs.path())? {
            sh::read(Command::new("dpkg-deb").arg("-x").arg(deb?.path()).arg(tree))?;
        }
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        for (option, path) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::Etc::sourceparts", "parts"),
            ("Dir::State::lists", "lists"),
            ("Dir::Cache", "cache"),
        ] {
            apt.arg("-o").arg(format!("{option}={}", self.dir.join(path).display()));
        }
        // As root apt would fetch as user `_apt`, who cannot write here.
        for option in ["APT::Architectures=amd64,arm64", "APT::Sandbox::User=root", "Acquire::Languages=none"] {
            apt.args(["-o", option]);
        }
        apt
    }
}
