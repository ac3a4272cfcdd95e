//! End-to-end tests of rejections, as they run in a machine: the test programs and the target's are built static, the lab's
//! tools come from this host.

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

/// Where it is in the machine; the target's program is looked for next to it.
const DIRECTORY: &str = "/lab";
/// The tools of the lab that the tests below use. Others, such as nginx, are not in the machine.
const TOOLS: [&str; 2] = ["ip", "nft"];

/// A test program of the package `e2e`, and the tests of it.
pub type Suite = (&'static str, &'static [&'static str]);

/// Those whose evidence differs by kernel, and that a slow machine can keep the time of.
const SUITES: [Suite; 2] = [("rejections", &REJECTIONS), ("hosts", &HOSTS)];

const REJECTIONS: [&str; 13] = [
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
    "queues::the_firewall_drops_syns_while_the_accept_queue_is_full",
    "routes::nothing_listens",
];

const HOSTS: [&str; 6] = [
    "listeners::a_full_queue_is_answered_with_a_reset",
    "listeners::a_program_steers_around_the_socket_that_is_full",
    "listeners::a_program_steers_to_the_socket_that_is_full",
    "listeners::one_of_several_workers_is_stuck",
    "listeners::the_queue_is_full_behind_syn_cookies",
    "silence::a_syn_with_an_old_timestamp_is_named",
];

/// The tests for this kernel: all for the oldest and the newest, which show the two kinds of evidence; they are slow.
pub fn suites_for(kernel: Kernel) -> &'static [Suite] {
    match kernel {
        Kernel { arch: Arch::Amd64, series: Series::V6_1 | Series::Newest } => &SUITES,
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
    let mut place = |from, name| files.push(File { from, to: Path::new(DIRECTORY).join(name) });
    let messages = build_tests(arch)?;
    for (name, tests) in SUITES {
        let program = executable(&messages, "test", name).with_context(|| format!("cargo built no {name}"))?;
        build::check(&program, arch)?;
        check_names(&program, tests)?;
        place(program, name);
    }
    let target = executable(&messages, "bin", "lab-target").context("cargo built no lab-target")?;
    build::check(&target, arch)?;
    place(target, "lab-target");
    Ok(files)
}

/// Builds the test programs and the target's, and returns what cargo says of that.
fn build_tests(arch: Arch) -> Result<String> {
    let mut cargo = build::cargo("test", arch);
    cargo.args(["-p", "e2e", "--no-run", "--message-format=json-render-diagnostics"]);
    cargo.args(SUITES.iter().flat_map(|(name, _)| ["--test", name]));
    // They are copied into every machine: without debug information they are a tenth of the size.
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "false").env("CARGO_PROFILE_DEV_STRIP", "debuginfo");
    sh::read(cargo.stderr(Stdio::inherit()))
}

/// The program that cargo's messages tell of.
fn executable(messages: &str, kind: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ours = messages.filter(|message| message["target"]["kind"][0] == kind && message["target"]["name"] == name);
    ours.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// An error where a test of the list is not in the program: by its own, it would not be missed.
fn check_names(program: &Path, tests: &[&str]) -> Result<()> {
    let listed = sh::read(Command::new(program).args(["--list", "--format", "terse"]))?;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let missing: Vec<&str> = tests.iter().copied().filter(|name| !names.contains(name)).collect();
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
        let count = |arch, series| suites_for(Kernel { arch, series }).len();
        assert_eq!(count(Arch::Amd64, Series::V6_1), SUITES.len());
        assert_eq!(count(Arch::Amd64, Series::Newest), SUITES.len());
        assert_eq!(count(Arch::Amd64, Series::V6_12), 0);
        assert_eq!(count(Arch::Arm64, Series::V6_1), 0);
    }
}
