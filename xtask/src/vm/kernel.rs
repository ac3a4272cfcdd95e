//! Which kernels there are to boot, and which Debian package is the newest of one.

use std::fmt;

use clap::ValueEnum;

use crate::arch::Arch;

/// A kernel to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its architecture.
    pub arch: Arch,
    /// Its series.
    pub series: Series,
}

/// A series of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Series {
    /// Amazon Linux 2023 at its start
    #[value(name = "6.1")]
    V6_1,
    /// Amazon Linux 2023, second kernel
    #[value(name = "6.12")]
    V6_12,
    /// Amazon Linux 2023, third kernel
    #[value(name = "6.18")]
    V6_18,
    /// The newest that Debian has
    #[value(name = "newest")]
    Newest,
}

/// The kernels that the product is tested on.
pub const ALL: [Kernel; 6] = [
    Kernel { arch: Arch::Amd64, series: Series::V6_1 },
    Kernel { arch: Arch::Amd64, series: Series::V6_12 },
    Kernel { arch: Arch::Amd64, series: Series::V6_18 },
    Kernel { arch: Arch::Amd64, series: Series::Newest },
    Kernel { arch: Arch::Arm64, series: Series::V6_1 },
    Kernel { arch: Arch::Arm64, series: Series::V6_12 },
];

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V6_18 => "6.18",
            Self::Newest => "newest",
        })
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.arch.debian(), self.series)
    }
}

/// The release (`uname -r`) of the newest cloud kernel of a series among Debian's package names.
pub fn newest(packages: &[String], kernel: Kernel) -> Option<String> {
    let flavour = format!("-cloud-{}", kernel.arch.debian());
    let prefix = match kernel.series {
        Series::Newest => String::new(),
        series => format!("{series}."),
    };
    let versions = packages.iter().filter_map(|name| {
        let version = name.strip_prefix("linux-image-")?.strip_suffix(&flavour)?;
        // `linux-image-cloud-amd64` and its like only name the current version.
        (version.starts_with(|c: char| c.is_ascii_digit()) && version.starts_with(&prefix)).then_some(version)
    });
    versions.max_by_key(|version| numbers(version)).map(|version| format!("{version}{flavour}"))
}

/// The numbers in a version, by which versions sort.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(arch: Arch, series: Series) -> Option<String> {
        let packages = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64-unsigned",
            "linux-image-6.1.0-51-amd64",
            "linux-image-6.12.9+deb12-cloud-arm64",
            "linux-image-6.12.90+deb12-cloud-arm64",
            "linux-image-6.12.90+deb12.1-cloud-arm64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-image-cloud-amd64",
        ];
        newest(&packages.map(str::to_owned), Kernel { arch, series })
    }

    #[test]
    fn versions_sort_by_number() {
        assert_eq!(find(Arch::Amd64, Series::V6_1).unwrap(), "6.1.0-50-cloud-amd64");
        assert_eq!(find(Arch::Arm64, Series::V6_12).unwrap(), "6.12.90+deb12.1-cloud-arm64");
    }

    #[test]
    fn newest_is_over_all_series() {
        assert_eq!(find(Arch::Amd64, Series::Newest).unwrap(), "7.3.4+deb13-cloud-amd64");
    }

    #[test]
    fn a_series_that_is_not_there_is_not_guessed() {
        assert_eq!(find(Arch::Arm64, Series::V6_1), None);
        assert_eq!(find(Arch::Amd64, Series::V6_18), None);
    }
}
