//! What the host says of itself before anything is attached: kernel, lockdown, privileges.

use super::ProbeError;
use std::{fs, io};

/// The facts that decide whether tracing can work at all.
#[derive(Debug, Clone)]
pub struct HostCheck {
    /// `uname -r`.
    pub release: String,
    /// `uname -m`.
    pub machine: &'static str,
    /// The kernel lockdown mode: `none`, `integrity`, `confidentiality`; `None` where it cannot be read.
    pub lockdown: Option<String>,
    /// The capabilities that are missing.
    pub missing_capabilities: Vec<&'static str>,
}

/// Capabilities by their bit in `/proc/self/status`, as in include/uapi/linux/capability.h.
const CAP_NET_ADMIN: (u32, &str) = (12, "CAP_NET_ADMIN");
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: (u32, &str) = (38, "CAP_PERFMON");
const CAP_BPF: (u32, &str) = (39, "CAP_BPF");

/// Reads them.
///
/// # Errors
///
/// If `/proc` is not there.
pub fn facts() -> io::Result<HostCheck> {
    let status = fs::read_to_string("/proc/self/status")?;
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").ok();
    Ok(HostCheck {
        release: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        machine: std::env::consts::ARCH,
        lockdown: lockdown.as_deref().and_then(chosen).map(ToOwned::to_owned),
        missing_capabilities: missing(effective(&status).unwrap_or(0)),
    })
}

/// An error that says what to do, unless this process may trace.
///
/// # Errors
///
/// [`ProbeError::Privileges`].
pub fn require_privileges() -> Result<(), ProbeError> {
    let facts = facts().map_err(|error| ProbeError::Host { what: "reading /proc", error })?;
    if facts.missing_capabilities.is_empty() {
        Ok(())
    } else {
        Err(ProbeError::Privileges(facts.missing_capabilities.join(", ")))
    }
}

/// The word in brackets of `none [integrity] confidentiality`.
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective >> bit & 1 == 1;
    let may = |bit: u32| has(bit) || (bit != CAP_NET_ADMIN.0 && has(CAP_SYS_ADMIN));
    [CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN].into_iter().filter(|(bit, _)| !may(*bit)).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::{chosen, effective, missing};

    #[test]
    fn lockdown_and_capabilities_are_read() {
        assert_eq!(chosen("none [integrity] confidentiality\n"), Some("integrity"));
        assert_eq!(chosen("garbage"), None);
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert!(missing(0x1ff_ffff_ffff).is_empty());
        assert_eq!(missing(0), ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
        // Before Linux 5.8 there was only CAP_SYS_ADMIN.
        assert_eq!(missing(1 << 21), ["CAP_NET_ADMIN"]);
        assert!(missing(1 << 39 | 1 << 38 | 1 << 12).is_empty());
    }
}
