//! A kernel that does not tell its types cannot be traced: exit code 3, and what to do. Each run has a mount namespace of
//! its own in which something else lies over `/sys/kernel/btf`.

use std::process::Command;

use anyhow::Result;

use crate::{Run, binary, run};

/// Runs tracer after the shell command `mount`, which only it can see.
fn behind(mount: &str, arguments: &[&str]) -> Result<Run> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec"]);
    command.arg(format!("{mount}; exec \"$@\"")).arg("sh").arg(binary()?).args(arguments);
    run(command)
}

const NONE: &str = "mount -t tmpfs none /sys/kernel/btf";
const EMPTY: &str = "mount --bind /dev/null /sys/kernel/btf/vmlinux";
/// The memory of the process itself, of which the first bytes cannot be read, also by root.
const UNREADABLE: &str = "mount --bind /proc/$$/mem /sys/kernel/btf/vmlinux";

#[test]
fn watch_says_why_and_what_to_do() -> Result<()> {
    for (mount, told) in [
        (NONE, ["does not exist", "CONFIG_DEBUG_INFO_BTF", "Boot a kernel that has it"]),
        (EMPTY, ["/sys/kernel/btf/vmlinux", "not BTF", "report"]),
        (UNREADABLE, ["cannot read", "/sys/kernel/btf/vmlinux", "/sys mounted"]),
    ] {
        behind(mount, &["watch", "-d", "1s"])?.assert_refused(3, &told);
    }
    Ok(())
}

#[test]
fn check_says_why_and_exits_with_3() -> Result<()> {
    for mount in [NONE, EMPTY, UNREADABLE] {
        let told = behind(mount, &["check"])?;
        assert_eq!(told.code, Some(3), "{told:#?}");
        told.assert_calm();
        assert!(told.stdout.contains("This host cannot be traced: "), "{told:#?}");
        assert!(told.stdout.contains("/sys/kernel/btf/vmlinux"), "{told:#?}");
        let json = behind(mount, &["check", "--json"])?;
        assert_eq!(json.code, Some(3), "{json:#?}");
        let object: serde_json::Value = serde_json::from_str(&json.stdout)?;
        assert_eq!(object["can_be_traced"], false);
        assert!(object["error"].as_str().is_some_and(|error| error.contains("/sys/kernel/btf/vmlinux")), "{object}");
    }
    Ok(())
}

#[test]
fn damaged_types_are_no_reason_to_panic() -> Result<()> {
    // The kernel's own, cut short, and with its string section gone.
    for cut in ["head -c 100", "head -c 1000000", "head -c 24"] {
        let mount = format!(
            "mount -t tmpfs none /mnt; {cut} /sys/kernel/btf/vmlinux > /mnt/btf; mount --bind /mnt/btf /sys/kernel/btf/vmlinux"
        );
        behind(&mount, &["watch", "-d", "1s"])?.assert_refused(3, &["/sys/kernel/btf/vmlinux"]);
    }
    Ok(())
}
