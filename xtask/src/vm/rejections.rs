//! The end-to-end tests of rejections, as they run in a machine: the test program and the target's are built static, the
//! lab's tools come from this host.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    host,
    initramfs::File,
    kernel::{Kernel, Series},
};
use crate::{arch::Arch, build, sh};

/// The test target of the package `e2e`.
const TARGET: &str = "rejections";
/// Where it is in the machine; the target's program is looked for next to it.
const DIRECTORY: &str = "/lab";
/// The tools of the lab that the tests below use. Others, such as nginx, are not in the machine.
const TOOLS: [&str; 2] = ["ip", "nft"];

/// Those whose evidence differs by kernel, and that a slow machine can keep the time of.
const TESTS: [&str; 12] = [
    "broken::the_application_closes_before_it_has_read_everything",
    "broken::the_application_is_killed_before_it_responds",
    "broken::the_application_resets_before_it_responds",
    "broken::the_application_resets_in_the_middle_of_the_response",
    "firewall::a_rule_drops",
    "firewall::a_rule_rejects_with_a_reset",
    "firewall::the_conntrack_table_is_full",
    "keep_alive::a_request_comes_after_the_close",
    "keep_alive::a_request_crosses_the_close",
    "queues::the_accept_queue_is_full_at_the_final_ack",
    "queues::the_accept_queue_is_full_at_the_syn",
    "routes::nothing_listens",
];

/// The tests for this kernel: all for the oldest and the newest, which show the two kinds of evidence; they are slow.
pub fn tests_for(kernel: Kernel) -> &'static [&'static str] {
    match kernel {
        Kernel { arch: Arch::Amd64, series: Series::V6_1 | Series::Newest } => &TESTS,
        _ => &[],
    }
}

/// Builds the tests and returns all that machines of this architecture need for them: nothing where none run.
pub fn files(arch: Arch) -> Result<Vec<File>> {
    // The tools are this host's.
    if arch != Arch::Amd64 {
        return Ok(Vec::new());
    }
    let mut files = host::programs(&TOOLS)?;
    let programs = build_tests(arch)?;
    check_names(&programs[0])?;
    for (from, name) in programs.into_iter().zip([TARGET, "lab-target"]) {
        files.push(File { from, to: Path::new(DIRECTORY).join(name) });
    }
    Ok(files)
}

/// The test program and the target's.
fn build_tests(arch: Arch) -> Result<[PathBuf; 2]> {
    let mut cargo = build::cargo("test", arch);
    cargo.args(["-p", "e2e", "--test", TARGET, "--no-run", "--message-format=json-render-diagnostics"]);
    // They are copied into every machine: without debug information they are a tenth of the size.
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "false").env("CARGO_PROFILE_DEV_STRIP", "debuginfo");
    let messages = sh::read(cargo.stderr(Stdio::inherit()))?;
    let programs = [
        executable(&messages, "test", TARGET).context("cargo built no test program")?,
        executable(&messages, "bin", "lab-target").context("cargo built no lab-target")?,
    ];
    programs.iter().try_for_each(|program| build::check(program, arch))?;
    Ok(programs)
}

/// The program that cargo's messages tell of.
fn executable(messages: &str, kind: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ours = messages.filter(|message| message["target"]["kind"][0] == kind && message["target"]["name"] == name);
    ours.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// An error where a test of the list is not in the program: by its own, it would not be missed.
fn check_names(program: &Path) -> Result<()> {
    let listed = sh::read(Command::new(program).args(["--list", "--format", "terse"]))?;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let missing: Vec<&str> = TESTS.into_iter().filter(|name| !names.contains(name)).collect();
    ensure!(missing.is_empty(), "no such tests for virtual machines: {missing:?}; there are {names:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_messages_of_cargo() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"lab"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"lab-target"},"executable":"/t/lab-target"}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"rejections"},"executable":"/t/deps/rejections-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "test", "rejections").unwrap(), Path::new("/t/deps/rejections-1"));
        assert_eq!(executable(messages, "bin", "lab-target").unwrap(), Path::new("/t/lab-target"));
        assert_eq!(executable(messages, "bin", "rejections"), None);
        assert_eq!(executable(messages, "lib", "lab"), None);
    }

    #[test]
    fn only_the_oldest_and_the_newest_kernel_run_them() {
        let count = |arch, series| tests_for(Kernel { arch, series }).len();
        assert_eq!(count(Arch::Amd64, Series::V6_1), TESTS.len());
        assert_eq!(count(Arch::Amd64, Series::Newest), TESTS.len());
        assert_eq!(count(Arch::Amd64, Series::V6_12), 0);
        assert_eq!(count(Arch::Arm64, Series::V6_1), 0);
    }
}
