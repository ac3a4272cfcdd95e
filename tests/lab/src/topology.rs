//! The lab itself: which namespaces there are and how they are joined.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::netns::{self, End, Namespace, PREFIX};

/// The load balancer's address on the side of the target (/24).
pub const LB_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The target's address (/24).
pub const TARGET_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The load balancer's address on the side of the target (/64).
pub const LB_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// The target's address (/64).
pub const TARGET_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// The load balancer's address on the side of the client (/24).
pub const FRONT_V4: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
/// The client's address (/24).
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
/// The load balancer's address on the side of the client (/64).
pub const FRONT_V6: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 1);
/// The client's address (/64).
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 2);

/// The namespaces and a directory for files. Interfaces: `eth0` in `target` and `client`; in `lb`, `eth0` towards the
/// target and `eth1` towards the client. Nothing is routed between the two networks.
#[derive(Debug)]
pub struct Lab {
    /// Where the load balancer stands.
    pub lb: Namespace,
    /// Where the traced server stands.
    pub target: Namespace,
    client: Option<Namespace>,
    directory: TempDir,
}

impl Lab {
    /// Raises `lb` and `target`, after a [`Lab::sweep_stale`].
    ///
    /// # Errors
    /// Where the process is not root, or `ip` is not installed.
    pub fn new() -> Result<Self> {
        Self::sweep_stale()?;
        let name = unique_name();
        let directory = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir();
        let directory = directory.context("cannot make a directory for the lab's files")?;
        let lb = Namespace::new(&format!("{name}-lb"))?;
        let target = Namespace::new(&format!("{name}-target"))?;
        netns::join(
            End { namespace: &lb, interface: "eth0", addresses: &[(LB_V4.into(), 24), (LB_V6.into(), 64)] },
            End { namespace: &target, interface: "eth0", addresses: &[(TARGET_V4.into(), 24), (TARGET_V6.into(), 64)] },
        )?;
        Ok(Self { lb, target, client: None, directory })
    }

    /// Raises the lab with the third namespace, `client`, joined to `lb`.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn with_client() -> Result<Self> {
        let mut lab = Self::new()?;
        let client = Namespace::new(&lab.lb.name().replace("-lb", "-client"))?;
        netns::join(
            End { namespace: &lab.lb, interface: "eth1", addresses: &[(FRONT_V4.into(), 24), (FRONT_V6.into(), 64)] },
            End { namespace: &client, interface: "eth0", addresses: &[(CLIENT_V4.into(), 24), (CLIENT_V6.into(), 64)] },
        )?;
        lab.client = Some(client);
        Ok(lab)
    }

    /// Has the load balancer acknowledge what the target sends at once, as delayed acknowledgements (RFC 1122) would hold
    /// a response's last byte unacknowledged for 40 ms.
    ///
    /// # Errors
    /// Where the routes cannot be set.
    pub fn acknowledge_at_once(&self) -> Result<()> {
        for (family, address) in [("-4", format!("{TARGET_V4}/32")), ("-6", format!("{TARGET_V6}/128"))] {
            self.lb.run("ip", &[family, "route", "add", &address, "dev", "eth0", "quickack", "1"])?;
        }
        Ok(())
    }

    /// Where the client stands: its own namespace if the lab has one, else the load balancer's.
    #[must_use]
    pub fn client(&self) -> &Namespace {
        self.client.as_ref().unwrap_or(&self.lb)
    }

    /// A directory for files, removed with the lab.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Removes what labs of dead processes (killed before they could clean up) have left: namespaces and directories.
    ///
    /// # Errors
    /// Where the namespaces or the directory for temporary files cannot be listed.
    pub fn sweep_stale() -> Result<()> {
        Namespace::delete_stale()?;
        for entry in fs::read_dir(std::env::temp_dir()).context("cannot list the temporary files")?.flatten() {
            if entry.file_name().to_str().is_some_and(netns::has_dead_owner) {
                // Another lab may be sweeping the same directory at this moment.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }
}

/// The target's socket address in each family.
#[must_use]
pub fn target_addresses(port: u16) -> [SocketAddr; 2] {
    [SocketAddr::new(IpAddr::V4(TARGET_V4), port), SocketAddr::new(IpAddr::V6(TARGET_V6), port)]
}

/// `trl`, the pid, and a counter: no two labs on the host share it.
fn unique_name() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}
