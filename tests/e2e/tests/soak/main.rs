//! Months in minutes: more connections, peers, containers, scans and floods than any map has entries for, while real faults
//! happen. Memory and maps of tracer stay as they are, every count is exact, and each fault is named. Needs root;
//! `TRACER_BIN` names the program; `--nocapture` shows the figures of each round.
//!
//! Everything happens in network namespaces that the test has made, and goes with them.

mod containers;
mod crowd;
mod faults;
mod findings;
mod plan;
mod printed;
mod samples;
mod scene;
mod traffic;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Result, anyhow, ensure};
use lab::clock::sleep;
use lab::counters::Counters;
use lab::process::Signal;
use lab::tracer::{Tracer, binary};

use crate::containers::Lived;
use crate::crowd::Sent;
use crate::faults::{Fault, TIMES};
use crate::findings::Findings;
use crate::plan::{Plan, Run};
use crate::printed::Printed;
use crate::samples::Samples;
use crate::scene::{FULL, SERVED, Scene};
use crate::traffic::Counted;

/// Between two samples.
const PERIOD: Duration = Duration::from_secs(3);
/// How long a fault may take to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// What is known not to hold yet is shown, and is no failure.
#[test]
fn a_minute_of_everything() -> Result<()> {
    soak(Plan::SHORT)?.assert_known()
}

/// Everything has to hold.
#[test]
#[ignore = "takes eleven minutes; `cargo xtask test --all` runs it"]
fn ten_minutes_of_everything() -> Result<()> {
    soak(Plan::FULL)?.assert_none()
}

/// Watches the whole host, as an agent does.
fn watch(scene: &Scene, name: &str, arguments: &[&str]) -> Result<Tracer> {
    let mut command = Command::new(binary()?);
    command.args(["watch", "--json"]).args(arguments);
    Tracer::run(name, command, scene.lab.directory())
}

/// The two tracers, and what was seen of them.
struct Watch {
    summary: Tracer,
    json: Tracer,
    printed: Printed,
    /// Of `--summary`.
    samples: Samples,
    /// Of `--json`.
    of_json: Samples,
    findings: Findings,
}

/// What happened.
struct Happened {
    counted: Counted,
    sent: Sent,
    lived: Lived,
    made: Vec<Fault>,
    /// SYNs that the kernel dropped at listeners.
    dropped: u64,
}

fn soak(plan: Plan) -> Result<Findings> {
    let scene = Scene::new()?;
    let (summary, json) = (watch(&scene, "summary", &["--summary"])?, watch(&scene, "json", &[])?);
    let mut watch = Watch {
        printed: Printed::new(json.process.stdout_path())?,
        summary,
        json,
        samples: Samples::default(),
        of_json: Samples::default(),
        findings: Findings::default(),
    };
    sleep(Duration::from_secs(2));
    let happened = watch.everything(&scene, plan)?;
    sleep(Duration::from_secs(3));
    let figures = watch.end(&scene)?;
    let Happened { counted, sent, lived, .. } = &happened;
    println!("{counted:?} {sent:?}");
    println!("{} containers, {} numbers of namespaces", lived.containers, lived.inums.len());
    println!("--summary, the most in each round");
    watch.samples.print();
    println!("--json, the most in each round");
    watch.of_json.print();
    let Watch { printed, samples, mut findings, .. } = watch;
    hold_requests(&mut findings, &happened, &printed, &figures, u32::try_from(scene.lab.target.inum()?)?);
    hold_rejections(&mut findings, &happened, &printed, &figures);
    for (name, tracer) in [("--summary", &figures), ("--json", &printed)] {
        for (counter, count) in tracer.losses() {
            findings.add(counter, format!("{counter} of {name} is {count}"));
        }
    }
    for (topic, text) in samples.findings() {
        findings.add(&topic, text);
    }
    Ok(findings)
}

impl Watch {
    /// Does all that is planned, and looks at the tracers meanwhile.
    fn everything(&mut self, scene: &Scene, plan: Plan) -> Result<Happened> {
        let before = Counters::read(&scene.lab.target)?;
        let run = Run::new(plan);
        let (counted, sent, lived, made) = thread::scope(|scope| {
            let traffic = scope.spawn(|| run.part("traffic", || traffic::send(scene, &run)));
            let crowd = scope.spawn(|| run.part("crowd", || crowd::send(scene, &run)));
            let containers = scope.spawn(|| run.part("containers", || containers::live(scene, &run)));
            let is_over = || traffic.is_finished() && crowd.is_finished() && containers.is_finished();
            let made = run.part("faults", || self.faults(scene, &run, is_over));
            let panicked = |_| anyhow!("a part panicked");
            let counted = traffic.join().map_err(panicked)?;
            let sent = crowd.join().map_err(panicked)?;
            let lived = containers.join().map_err(panicked)?;
            anyhow::Ok((counted?, sent?, lived?, made?))
        })?;
        println!("took {:?}", run.start.elapsed());
        sleep(Duration::from_secs(1));
        let dropped = Counters::read(&scene.lab.target)?.since(&before, "TcpExtListenDrops")?;
        Ok(Happened { counted, sent, lived, made, dropped })
    }

    /// A fault per round, and samples, until everything else `is_over` and the last fault was told.
    fn faults(&mut self, scene: &Scene, run: &Run, is_over: impl Fn() -> bool) -> Result<Vec<Fault>> {
        let (mut made, mut untold): (Vec<Fault>, Option<(Fault, Instant)>) = (Vec::new(), None);
        while !is_over() || untold.is_some() {
            let round = u32::try_from(made.len())?;
            // It comes once everything else of its round is under way.
            if round < run.plan.rounds && run.start.elapsed() >= run.plan.round * round + run.plan.round / 3 {
                let fault = faults::make(scene, round)?;
                made.push(fault);
                untold = Some((fault, Instant::now()));
            }
            self.printed.read()?;
            if let Some((fault, since)) = untold {
                let told = self.printed.rejected(fault.cause, fault.local);
                let is_late = since.elapsed() > TOLD_WITHIN;
                if told != TIMES && is_late {
                    let Fault { cause, local } = fault;
                    let text = format!("{cause} at {local} was told {told} times in time, instead of {TIMES}");
                    self.findings.add("faults", text);
                }
                untold = untold.filter(|_| told != TIMES && !is_late);
            }
            if !is_over() {
                self.samples.take(run.round(), self.summary.pid())?;
                self.of_json.take(run.round(), self.json.pid())?;
            }
            sleep(PERIOD);
        }
        Ok(made)
    }

    /// Ends the tracers; returns what `--summary` printed.
    fn end(&mut self, scene: &Scene) -> Result<Printed> {
        for tracer in [&mut self.summary, &mut self.json] {
            tracer.process.signal(Signal::INT)?;
            let exit = tracer.process.wait(Duration::from_mins(1))?;
            ensure!(exit.success(), "tracer failed ({exit}): {}", tracer.process.stderr()?);
        }
        if let Some(directory) = env::var_os("KEEP_SOAK").map(PathBuf::from) {
            for name in ["summary.stdout", "summary.stderr", "json.stderr"] {
                fs::copy(scene.lab.directory().join(name), directory.join(name))?;
            }
        }
        self.printed.read()?;
        let mut figures = Printed::new(self.summary.process.stdout_path())?;
        figures.read()?;
        Ok(figures)
    }
}

fn hold_requests(findings: &mut Findings, happened: &Happened, printed: &Printed, figures: &Printed, netns: u32) {
    let server = (Some(netns), Some(SERVED));
    let of_server = |counts: &printed::Counts| counts.get(&server).copied().unwrap_or(0);
    let topic = "requests";
    findings.hold(topic, "requests to the server", of_server(&printed.requests), happened.counted.requests);
    findings.hold(topic, "connections to the server", of_server(&printed.connections), happened.counted.connections);
    let is_container = |netns: Option<u32>| netns.is_some_and(|netns| happened.lived.inums.contains(&netns));
    let of_containers = printed.requests.iter().filter(|((netns, _), _)| is_container(*netns));
    findings.hold(
        topic,
        "requests to containers",
        of_containers.map(|(_, count)| count).sum(),
        happened.lived.requests,
    );
    let all: u64 = printed.requests.values().sum();
    for (name, tracer) in [("--json", printed), ("--summary", figures)] {
        let told = tracer.summary["requests"].as_u64().unwrap_or(0);
        findings.hold(topic, &format!("requests in the figures of {name}"), told, all);
    }
}

fn hold_rejections(findings: &mut Findings, happened: &Happened, printed: &Printed, figures: &Printed) {
    let Happened { sent, lived, made, dropped, .. } = happened;
    let faults = |cause: &str| TIMES * made.iter().filter(|fault| fault.cause == cause).count() as u64;
    let topic = "rejections";
    findings.hold(topic, "SYNs that the kernel dropped", *dropped, sent.full + faults("accept_queue_full"));
    findings.hold(topic, "accept_queue_full", printed.rejected_in_all("accept_queue_full"), *dropped);
    findings.hold(
        "faults",
        "accept_queue_full at one listener",
        printed.rejected("accept_queue_full", FULL),
        sent.full,
    );
    let refused = sent.closed + lived.refused + faults("no_listener");
    findings.hold(topic, "no_listener", printed.rejected_in_all("no_listener"), refused);
    for Fault { cause, local } in made {
        findings.hold("faults", &format!("{cause} at {local}"), printed.rejected(cause, *local), TIMES);
        let rows = figures.rows(cause, *local);
        findings.hold("rows", &format!("{cause} at {local} in --summary"), rows, TIMES);
    }
}
