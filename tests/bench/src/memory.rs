//! Memory: of a process, and of the kernel's objects.

use std::fs;

use anyhow::{Context as _, Result};

/// A figure of `/proc/PID/status` such as `VmHWM:`, KiB.
pub fn of_process(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("no process {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    line.split_whitespace().next().context("no number")?.parse().with_context(|| format!("{name} is no number"))
}

/// The bytes of all objects in use in the kernel's slabs for general use: what hangs on sockets is there, but not the
/// sockets themselves, which have slabs of their own.
pub fn kernel_objects() -> Result<u64> {
    let text = fs::read_to_string("/proc/slabinfo").context("cannot read /proc/slabinfo")?;
    // Fields: name, objects in use, objects, bytes of an object.
    let bytes = text.lines().filter(|line| line.starts_with("kmalloc-")).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (used, size) = (fields.next()?.parse::<u64>().ok()?, fields.nth(1)?.parse::<u64>().ok()?);
        Some(used * size)
    });
    Ok(bytes.sum())
}

#[cfg(test)]
mod tests {
    use super::{kernel_objects, of_process};

    #[test]
    fn this_process_has_memory() {
        let own = std::process::id();
        assert!(of_process(own, "VmHWM:").unwrap() >= of_process(own, "VmRSS:").unwrap() / 2);
        assert!(of_process(own, "VmNone:").is_err());
    }

    #[test]
    fn the_kernel_has_objects() {
        // Only root may look.
        if rustix::process::geteuid().is_root() {
            assert!(kernel_objects().unwrap() > 1 << 20);
        }
    }
}
