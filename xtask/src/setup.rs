//! `setup`: installs what the other tasks need. Looks first what is missing, names it, and installs nothing else. The demo
//! needs less than the tests.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    arch::{Arch, FOREIGN},
    paths, sh,
};

/// Links BPF programs.
const BPF_LINKER: &str = "0.10.0";

/// Servers from `PyPI`, which Debian has too old or not at all.
const PYTHON: [&str; 3] = ["hypercorn==0.17.3", "uvicorn==0.34.0", "waitress==3.0.2"];

/// Debian packages of the demo: the lab with its namespaces, a firewall, a load balancer, a server.
const DEMO: [&str; 4] = ["iproute2", "nftables", "haproxy", "nginx-light"];

/// Debian packages of tests and benchmarks, beside those.
const PACKAGES: [&str; 24] = [
    // The lab: another firewall, servers, load, independent clocks and views.
    "iptables",
    "nodejs",
    "gunicorn",
    // More servers of the lab: Go's and the JDK's are compiled by the tests, those of Python come from PyPI.
    "apache2-bin",
    "default-jdk-headless",
    "golang-go",
    "openssl",
    "php-fpm",
    "puma",
    "python3-venv",
    "redis-server",
    "wrk",
    // Clients that speak HTTP/2.
    "curl",
    "nghttp2-client",
    "tcpdump",
    "bpftool",
    // Beside tracer in benchmarks.
    "bpftrace",
    // Virtual machines: emulators, and tools to take kernels and modules out of packages.
    "qemu-system-x86",
    "qemu-system-arm",
    "debian-archive-keyring",
    "kmod",
    "cpio",
    "xz-utils",
    "zstd",
];

/// Installs what is missing for every task. Quick and silent when nothing is.
pub fn run() -> Result<()> {
    packages(&[&DEMO[..], &PACKAGES].concat())?;
    python()?;
    components("stable toolchain", &[], &["rustfmt", "clippy"])?;
    // For the BPF target: its `core` is compiled from source, and its crate is linted.
    components("nightly toolchain", &["--toolchain", "nightly"], &["rust-src", "clippy"])?;
    targets(&[Arch::Amd64.target(), Arch::Arm64.target(), FOREIGN])?;
    bpf_linker()
}

/// Installs what is missing for the demo, and for the build of the program that it shows.
pub fn demo() -> Result<()> {
    packages(&DEMO)?;
    components("nightly toolchain", &["--toolchain", "nightly"], &["rust-src"])?;
    targets(&[Arch::Amd64.target()])?;
    bpf_linker()
}

fn packages(wanted: &[&str]) -> Result<()> {
    let known = sh::read(&mut sh::command("dpkg-query", ["-W", "-f", "${db:Status-Status} ${Package}\n"]))
        .context("cannot ask dpkg what is installed; these tasks need Debian or a relative of it")?;
    let installed: Vec<&str> = known.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
    let missing: Vec<&str> = wanted.iter().copied().filter(|name| !installed.contains(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("Debian packages {}", missing.join(" ")));
    let install = paths::root().join("xtask/src/setup/install.sh");
    sh::run(sh::as_root("sh", [install])?.args(missing))
}

/// An environment of Python below `target`, with the servers of the lab. A list in it says what is complete.
fn python() -> Result<()> {
    let (folder, wanted) = (paths::root().join("target/python"), PYTHON.join("\n"));
    let complete = folder.join("complete");
    // Its programs name their interpreter by an absolute path, so a moved environment is of no use.
    let expected = format!("{}\n{wanted}\n", folder.display());
    if fs::read_to_string(&complete).is_ok_and(|installed| installed == expected) {
        return Ok(());
    }
    say(&format!("{} from PyPI, into target/python", PYTHON.join(" ")));
    sh::run(sh::command("python3", ["-m", "venv", "--clear"]).arg(&folder))?;
    let mut pip = sh::command(&folder.join("bin/python").to_string_lossy(), ["-m", "pip", "install", "--quiet"]);
    sh::run(pip.arg("--disable-pip-version-check").args(PYTHON))?;
    fs::write(&complete, expected).with_context(|| format!("cannot write {}", complete.display()))
}

fn components(place: &str, toolchain: &[&str], names: &[&str]) -> Result<()> {
    let listed = sh::read(rustup(&["component", "list", "--installed"]).args(toolchain)).with_context(|| {
        format!("cannot ask rustup about the {place}; `rustup toolchain list` shows those there are")
    })?;
    // A component is listed as `rust-src` or, of one host, as `clippy-x86_64-unknown-linux-gnu`.
    let is =
        |line: &str, name: &str| line.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    let missing: Vec<&str> = names.iter().copied().filter(|name| !listed.lines().any(|line| is(line, name))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("components {} of the {place}", missing.join(" ")));
    sh::run(rustup(&["component", "add"]).args(toolchain).args(missing))
}

fn targets(wanted: &[&str]) -> Result<()> {
    let listed = sh::read(&mut rustup(&["target", "list", "--installed"]))?;
    let missing: Vec<&str> =
        wanted.iter().copied().filter(|target| !listed.lines().any(|line| line == *target)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("standard library for {}", missing.join(" ")));
    sh::run(rustup(&["target", "add"]).args(missing))
}

fn bpf_linker() -> Result<()> {
    let version = sh::read(&mut sh::command("bpf-linker", ["--version"])).unwrap_or_default();
    if version.split_whitespace().nth(1) == Some(BPF_LINKER) {
        return Ok(());
    }
    say(&format!("bpf-linker {BPF_LINKER} from crates.io (this compiles for some minutes)"));
    let mut cargo = sh::command("cargo", ["+stable", "install", "bpf-linker", "--version", BPF_LINKER, "--locked"]);
    // Not into this workspace's target directory.
    sh::run(cargo.env_remove("CARGO_TARGET_DIR"))
}

fn rustup(args: &[&str]) -> Command {
    sh::command("rustup", args)
}

fn say(what: &str) {
    eprintln!("setup: installing {what}");
}
