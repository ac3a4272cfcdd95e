//! A host that does not answer: nothing is lost, and nobody waits.

use std::path::PathBuf;
use std::time::Instant;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use lab::client::{Client, Request};
use lab::clock::sleep;
use lab::topology::target_addresses;
use lab::tracer::Tracer;

use crate::{Scene, ms};

/// A thread of another process that is stopped until this is dropped.
struct Stopped(libc::pid_t);

impl Stopped {
    /// Stops the thread of the process `pid` that is called `name`.
    fn new(pid: u32, name: &str) -> Result<Self> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))?;
        let is_it = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        let task = tasks.flatten().map(|task| task.path()).find(is_it).context("no such thread")?;
        let tid: libc::pid_t =
            task.file_name().and_then(|tid| tid.to_str()?.parse().ok()).context("a thread's number")?;
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: neither request touches memory of this process.
        let stopped = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, tid, nothing, nothing) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, tid, nothing, nothing) == 0
                && libc::waitpid(tid, std::ptr::null_mut(), libc::__WALL) == tid
        };
        ensure!(stopped, "cannot stop the thread {tid}: {}", std::io::Error::last_os_error());
        Ok(Self(tid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the request touches no memory of this process.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, nothing, nothing) };
    }
}

/// The thread that asks the host is stopped for ten seconds under load, while connections are refused. No record is lost, all
/// of it is counted, and what is refused is shown while the thread still stands.
#[test]
fn a_host_that_does_not_answer_loses_nothing() -> Result<()> {
    const REFUSED: usize = 40;
    let scene = Scene::new()?;
    let mut tracer = Tracer::start(&scene.lab, "tracer", &[])?;
    let stopped = Stopped::new(tracer.pid(), "host")?;
    let until = Instant::now() + ms(10_000);
    let address = target_addresses(8080)[0];
    let sent: usize = thread::scope(|scope| {
        let load = |_| {
            let mut connection = Client::new(&scene.lab.lb).connect(address)?;
            let mut sent = 0;
            while Instant::now() < until {
                connection.requests(20, ms(0), &Request::get("/"))?;
                sent += 20;
                sleep(ms(1));
            }
            Ok::<_, anyhow::Error>(sent)
        };
        let workers: Vec<_> = (0..4).map(|worker| scope.spawn(move || load(worker))).collect();
        for _ in 0..REFUSED {
            let nobody = Client::new(&scene.lab.lb).connect(target_addresses(8081)[0]);
            ensure!(nobody.is_err(), "something listens");
            sleep(ms(100));
        }
        let told = |output: &lab::tracer::Output| {
            output.rejections.iter().filter(|it| it.cause == "no_listener").map(|it| it.count).sum::<u64>() != 0
        };
        tracer.wait_for(ms(15_000), told)?;
        workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?).sum()
    })?;
    drop(stopped);
    sleep(ms(500));
    let trace = tracer.stop()?;
    let status = &trace.status;
    assert_eq!((status.records_lost, status.records_undecodable), (Some(0), 0), "{status:?}");
    assert_eq!(trace.requests.len(), sent, "{status:?}");
    let refused: u64 = trace.rejections_of("no_listener").iter().map(|it| it.count).sum();
    assert_eq!(refused, REFUSED as u64, "{:#?}", trace.rejections);
    let unanswered = status.counters.get("host_unanswered").copied().unwrap_or(0);
    assert!(unanswered != 0, "{:?}", status.counters);
    Ok(())
}
