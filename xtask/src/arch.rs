//! The architectures that a release is built for.

use clap::ValueEnum;

/// An architecture, and what rustc, Debian and QEMU call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// Intel and AMD
    #[value(name = "amd64", alias = "x86_64")]
    Amd64,
    /// Graviton
    #[value(name = "arm64", alias = "aarch64")]
    Arm64,
}

/// Another system, with a standard library from rustup: what is checked for it needs nothing of Linux.
pub const FOREIGN: &str = "x86_64-apple-darwin";

impl Arch {
    /// Every architecture of a release.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// The target of rustc: static, musl.
    pub fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }

    /// Debian's name.
    pub fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// `e_machine` of its ELF files.
    pub fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }
}
