//! Namespaces: how they are entered, and that nothing is left behind.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use lab::capture::Capture;
use lab::haproxy::{self, Haproxy};
use lab::nginx::{self, Nginx};
use lab::process::Signal;
use lab::topology::{FRONT_V4, target_addresses};
use lab::{Lab, Namespace, Process, wait_until};

use crate::{ms, start_target};

/// What a lab has made, to be looked for after its end.
struct Traces {
    inum: u64,
    names: Vec<String>,
    pids: Vec<u32>,
    directory: PathBuf,
}

fn raise_everything(panics: bool, traces: &mut Option<Traces>) -> Result<()> {
    let lab = Lab::with_client()?;
    let target = start_target(&lab, |_| {})?;
    let nginx = Nginx::start(&lab, "nginx", &nginx::Options::listen(&target_addresses(80)))?;
    let haproxy = haproxy::Options::new(&[(FRONT_V4, 80).into()], target_addresses(80)[0]);
    let haproxy = Haproxy::start(&lab, "haproxy", &haproxy)?;
    let _capture = Capture::start(&lab.lb, lab.directory(), "all", "eth0", "tcp")?;
    target.process.signal(Signal::STOP)?;
    let mut pids = vec![target.pid(), nginx.pid(), haproxy.process.pid()];
    pids.extend(nginx.workers());
    let names = [&lab.lb, &lab.target, lab.client()].map(|namespace| namespace.name().to_owned()).to_vec();
    *traces = Some(Traces { inum: lab.target.inum()?, names, pids, directory: lab.directory().to_owned() });
    assert!(!panics, "on purpose");
    Ok(())
}

#[test]
fn nothing_is_left_behind() -> Result<()> {
    for panics in [false, true] {
        let mut traces = None;
        let outcome = catch_unwind(AssertUnwindSafe(|| raise_everything(panics, &mut traces)));
        assert_eq!(outcome.is_err(), panics);
        outcome.unwrap_or(Ok(()))?;
        let traces = traces.context("the lab was not raised")?;
        assert!(traces.inum > 0 && traces.pids.len() == 4);
        for name in traces.names {
            assert!(!Path::new("/run/netns").join(&name).exists(), "{name} is left");
        }
        for pid in traces.pids {
            wait_until("the process to be gone", ms(1000), || !Path::new(&format!("/proc/{pid}")).exists())?;
        }
        assert!(!traces.directory.exists(), "files are left");
    }
    Ok(())
}

#[test]
fn only_the_dead_are_swept() -> Result<()> {
    let mut dead = Command::new("true").spawn()?;
    dead.wait()?;
    let stale = Namespace::new(&format!("trl{}-9-lb", dead.id()))?;
    let directory = std::env::temp_dir().join(format!("trl{}-9-x", dead.id()));
    fs::create_dir(&directory)?;
    let lab = Lab::new()?;
    assert!(!stale.path().exists() && !directory.exists(), "what the dead left is gone");
    assert!(lab.lb.path().exists() && lab.directory().exists(), "what the living have stays");
    // Its own drop would report that it is gone.
    std::mem::forget(stale);
    Ok(())
}

#[test]
fn a_namespace_is_entered_by_threads_and_by_processes() -> Result<()> {
    let lab = Lab::new()?;
    let inum = |link: &Path| Ok(format!("{}", fs::read_link(link)?.display()));
    let expected = format!("net:[{}]", lab.target.inum()?);
    let own = inum(Path::new("/proc/self/ns/net"))?;
    assert_eq!(lab.target.enter(|| inum(Path::new("/proc/thread-self/ns/net")))?, expected);
    assert_eq!(inum(Path::new("/proc/thread-self/ns/net"))?, own, "the caller stays where it is");
    let mut command = lab.target.command("sleep")?;
    command.arg("60");
    let mut process = Process::start("sleep", command, lab.directory())?;
    assert_eq!(inum(Path::new(&format!("/proc/{}/ns/net", process.pid())))?, expected);
    assert!(lab.target.run("ls", &["/sys/fs/cgroup"])?.lines().count() > 0, "/sys is the host's");
    assert!(lab.target.run("ip", &["-6", "address"])?.contains("fd77::2/64"));
    assert!(lab.target.run("false", &[]).is_err());
    let panic = catch_unwind(AssertUnwindSafe(|| lab.lb.enter(|| -> Result<()> { panic!("on purpose") })));
    assert!(panic.is_err(), "a panic inside goes on outside");
    process.signal(Signal::KILL)?;
    assert_eq!(process.wait(ms(2000))?.code(), None);
    lab.target.sysctl("net.ipv4.tcp_syncookies", "0")?;
    assert_eq!(lab.target.run("cat", &["/proc/sys/net/ipv4/tcp_syncookies"])?.trim(), "0");
    Ok(())
}
