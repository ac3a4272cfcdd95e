//! Network namespaces as people name them.

use anyhow::Context;
use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, str::FromStr};

/// The kernel's inode numbers of namespaces begin here: those of the first ones as in include/uapi/linux/nsfs.h, before
/// Linux 6.18 at `0xf000_0000`. No pid is as great.
const FIRST_INODE: u32 = 0xefff_fff8;

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Netns {
    /// By its inode number.
    Inode(u32),
    /// By a file that stands for it.
    Path(PathBuf),
}

impl FromStr for Netns {
    type Err = String;

    /// Reads `4026531840`, `net:[4026531840]`, a pid, a path, or a name as `ip netns` knows it.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("net:[").and_then(|it| it.strip_suffix(']')).unwrap_or(text);
        if let Ok(number) = number.parse::<u32>() {
            let pid = number < FIRST_INODE;
            return Ok(if pid { Self::Path(format!("/proc/{number}/ns/net").into()) } else { Self::Inode(number) });
        }
        if text.is_empty() {
            return Err("write a name, a path, an inode number or a pid".to_owned());
        }
        Ok(Self::Path(if text.contains('/') { text.into() } else { PathBuf::from("/run/netns").join(text) }))
    }
}

impl Netns {
    /// Its inode number.
    ///
    /// # Errors
    ///
    /// If there is no such namespace.
    pub fn inode(&self) -> anyhow::Result<u32> {
        match self {
            Self::Inode(inode) => Ok(*inode),
            Self::Path(path) => {
                let metadata = fs::metadata(path).with_context(|| {
                    format!("no network namespace {} (ip netns list and lsns -t net show them)", path.display())
                })?;
                let inode = u32::try_from(metadata.ino()).ok().filter(|&inode| inode >= FIRST_INODE);
                inode.with_context(|| {
                    format!("{} is no network namespace (ip netns list and lsns -t net show them)", path.display())
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_have_many_names() {
        for (text, path) in [("7", "/proc/7/ns/net"), ("lab", "/run/netns/lab"), ("./lab", "./lab"), ("/x/y", "/x/y")] {
            assert_eq!(text.parse(), Ok(Netns::Path(path.into())));
        }
        for (text, inode) in [("4026531840", 4_026_531_840), ("net:[4026531833]", 4_026_531_833)] {
            assert_eq!(text.parse(), Ok(Netns::Inode(inode)));
        }
        assert!("".parse::<Netns>().is_err());
    }

    #[test]
    fn the_namespace_of_a_process_has_its_inode() {
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        let named: Netns = std::process::id().to_string().parse().unwrap();
        let numbered: Netns = own.to_string().parse().unwrap();
        for netns in [named, numbered] {
            assert_eq!(u64::from(netns.inode().unwrap()), own);
        }
        for no_namespace in ["/no/such/netns", "/proc/self/exe"] {
            assert!(no_namespace.parse::<Netns>().unwrap().inode().is_err());
        }
    }
}
