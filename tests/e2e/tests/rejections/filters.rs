//! Each filter, with every cause: what is outside is neither shown nor counted, and `report` agrees with `watch`.
//!
//! One scene for all of them: several tracers, each with another filter, watch the same traffic. Each cause is made once per
//! entry of [`EVENTS`], so that every filter lets through some of them, and not all.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::Lab;
use lab::client::{Client, Connection, Request};
use lab::clock::sleep;
use lab::fault::{Hook, Rules};
use lab::target::{Options, Target};
use lab::topology::{TARGET_V4, TARGET_V6};
use lab::tracer::{Output, Trace, Tracer, binary};

use crate::scene::{ONE_SYN, ms, settle};

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The load balancer, over IPv4 and `eth0`.
    V4,
    /// The load balancer, over IPv6 and `eth0`.
    V6,
    /// The target itself, over IPv4 and `lo`.
    Lo,
}

/// The events of each cause: where they come from, and which of the two applications they are for.
const EVENTS: [(Source, usize); 4] = [(Source::V4, 0), (Source::V4, 1), (Source::V6, 0), (Source::Lo, 0)];

/// A port of each application.
type Ports = [u16; 2];
/// Served.
const SERVED: Ports = [8080, 8180];
/// Served, but a rule drops what comes for them.
const DROPPED: Ports = [8081, 8181];
/// The accept queue is full.
const FULL: Ports = [8082, 8182];
/// Nothing listens.
const CLOSED: Ports = [8083, 8183];

/// What happens before a process takes part.
const BEFORE: [&str; 3] = ["accept_queue_full", "firewall_drop", "no_listener"];
/// What happens to connections that a process has read from.
const READ: [&str; 2] = ["closed_before_response", "keepalive_race"];

/// A filter, and which events it lets through.
struct Case {
    name: &'static str,
    arguments: Vec<String>,
    passes: fn(Source, usize) -> bool,
    /// What happens before a process takes part is let through.
    before: bool,
}

impl Case {
    fn new(name: &'static str, arguments: &[&str], passes: fn(Source, usize) -> bool) -> Self {
        let arguments = arguments.iter().map(|&it| it.to_owned()).collect();
        Self { name, arguments, passes, before: true }
    }

    fn count(&self) -> u64 {
        EVENTS.iter().filter(|(source, application)| (self.passes)(*source, *application)).count() as u64
    }

    fn causes(&self) -> BTreeMap<&str, u64> {
        let before = if self.before { &BEFORE[..] } else { &[] };
        before.iter().chain(&READ).map(|&cause| (cause, self.count())).filter(|(_, count)| *count != 0).collect()
    }
}

fn cases(first: u32) -> Vec<Case> {
    let ports = [SERVED, DROPPED, FULL, CLOSED].map(|ports| format!("--port={}", ports[0]));
    let ports: Vec<_> = ports.iter().map(String::as_str).collect();
    vec![
        Case::new("all", &[], |_, _| true),
        Case::new("port", &ports, |_, application| application == 0),
        Case::new("peer", &["--peer=10.77.0.1"], |source, _| source == Source::V4),
        Case::new("interface", &["-i", "eth0"], |source, _| source != Source::Lo),
        Case { before: false, ..Case::new("pid", &["--pid", &first.to_string()], |_, application| application == 0) },
        // The last one counts: the load balancer's, where nothing is served.
        Case::new("netns", &[], |_, _| false),
    ]
}

/// Declared in the order in which they are dropped.
struct Scene {
    /// In the full queues.
    _waiting: Vec<Connection>,
    applications: [Target; 2],
    _full: Target,
    lab: Lab,
}

impl Scene {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let any = |port: u16| SocketAddr::from(([0_u16; 8], port));
        let start = |index: usize| {
            let options = Options::listen(&[any(SERVED[index]), any(DROPPED[index])]);
            Target::start(&lab, ["first", "second"][index], &options)
        };
        let applications = [start(0)?, start(1)?];
        let mut options = Options::listen(&FULL.map(any));
        (options.backlog, options.before_accept) = (1, Duration::from_hours(1));
        let full = Target::start(&lab, "full", &options)?;
        let client = Client::new(&lab.lb);
        let mut waiting = Vec::new();
        for port in FULL {
            // Linux takes one more than the backlog.
            waiting.extend(client.connect_many((TARGET_V4, port).into(), 2)?);
        }
        Ok(Self { _waiting: waiting, applications, _full: full, lab })
    }

    fn watch(&self, case: &Case) -> Result<Tracer> {
        let mut command = Command::new(binary()?);
        let netns = if case.name == "netns" { &self.lab.lb } else { &self.lab.target };
        command.args(["watch", "--json", "--netns", netns.name()]).args(&case.arguments);
        command.arg("--write").arg(self.recording(case));
        Tracer::run(case.name, command, self.lab.directory())
    }

    fn recording(&self, case: &Case) -> PathBuf {
        self.lab.directory().join(case.name).with_extension("tracer")
    }

    /// Makes each cause once, from there.
    fn make(&self, source: Source, application: usize) -> Result<()> {
        let namespace = if source == Source::Lo { &self.lab.target } else { &self.lab.lb };
        let client = Client::new(namespace);
        let to = |ports: Ports| match source {
            Source::V4 => (TARGET_V4, ports[application]).into(),
            Source::V6 => (TARGET_V6, ports[application]).into(),
            Source::Lo => SocketAddr::from((Ipv4Addr::LOCALHOST, ports[application])),
        };
        for ports in [DROPPED, FULL, CLOSED] {
            ensure!(client.timeout(ONE_SYN).connect(to(ports)).is_err(), "{} can be reached", to(ports));
        }
        let unanswered = Request::get("/").header("X-Read-Bytes-Then-Close", 100_000);
        let mut connection = client.connect(to(SERVED))?;
        connection.request(&Request::get("/"))?;
        ensure!(connection.request(&unanswered).is_err(), "it is answered");
        let mut connection = client.connect(to(SERVED))?;
        connection.request(&Request::get("/").header("X-Close", 1))?;
        // What comes sooner may be the rest of an upload.
        sleep(ms(300));
        connection.send(&Request::get("/"))?;
        Ok(())
    }

    fn report(&self, case: &Case, arguments: &[String]) -> Result<String> {
        let output =
            Command::new(binary()?).args(["report", "--json"]).args(arguments).arg(self.recording(case)).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Warnings are about several events at once.
fn without_warnings(mut causes: BTreeMap<&str, u64>) -> BTreeMap<&str, u64> {
    causes.retain(|cause, _| !["accept_queue_filling", "keepalive_too_short", "nothing_arrived"].contains(cause));
    causes
}

/// Lines of requests may come later or sooner in a report, compared with those of rejections.
fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[track_caller]
fn assert_filtered(case: &Case, trace: &Trace) {
    let name = case.name;
    assert_eq!(without_warnings(trace.causes()), case.causes(), "{name}: {:#?}", trace.rejections);
    let connections = trace.requests.iter().map(|it| &it.connection).collect::<std::collections::BTreeSet<_>>();
    assert_eq!((trace.requests.len() as u64, connections.len() as u64), (3 * case.count(), 2 * case.count()), "{name}");
    let Trace { status, summary, .. } = trace;
    let totals = (status.requests, status.connections);
    assert_eq!(totals, (Some(3 * case.count()), Some(2 * case.count())), "{name}: {status:#?}");
    let begun = status.counters["requests_begun"];
    assert_eq!((begun, status.counters["connections_closed"]), (3 * case.count(), 2 * case.count()), "{name}");
    for lost in ["handshakes_lost", "rejections_uncounted", "storage_failed"] {
        assert_eq!(status.counters[lost], 0, "{name}: {status:#?}");
    }
    // The kernel counts for the whole namespace.
    let is_whole = ["all", "netns"].contains(&name);
    assert!(!status.reconciliation.is_empty(), "{name}: {status:#?}");
    assert!(status.reconciliation.iter().all(|it| it.filtered != is_whole), "{name}: {:#?}", status.reconciliation);
    let mut rows = BTreeMap::<&str, u64>::new();
    for row in summary.more["rejections"].as_array().into_iter().flatten() {
        *rows.entry(row["cause"].as_str().unwrap_or_default()).or_default() += row["count"].as_u64().unwrap_or(0);
    }
    assert_eq!(without_warnings(rows), case.causes(), "{name}: {summary:#?}");
}

#[test]
fn what_is_outside_a_filter_is_neither_shown_nor_counted() -> Result<()> {
    let scene = &Scene::new()?;
    let rule = format!("tcp dport {{ {}, {} }} drop", DROPPED[0], DROPPED[1]);
    let rules = Rules::start(&scene.lab.target, Hook::Input, &[&rule])?;
    let cases = cases(scene.applications[0].pid());
    let tracers = thread::scope(|scope| {
        let starting: Vec<_> = cases.iter().map(|case| scope.spawn(|| scene.watch(case))).collect();
        let started = starting.into_iter().map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        started.collect::<Result<Vec<_>>>()
    })?;
    sleep(ms(100));
    thread::scope(|scope| {
        let making: Vec<_> = EVENTS.map(|(source, index)| scope.spawn(move || scene.make(source, index))).into();
        making.into_iter().try_for_each(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    // Until the verdicts that wait for more are made.
    sleep(ms(1500));
    let printed: Vec<_> = tracers.iter().map(|tracer| tracer.process.stdout_path().to_owned()).collect();
    let watched = tracers.into_iter().map(settle).collect::<Result<Vec<_>>>()?;
    for (case, (trace, printed)) in cases.iter().zip(watched.iter().zip(&printed)) {
        assert_filtered(case, trace);
        let (printed, reported) = (fs::read_to_string(printed)?, scene.report(case, &[])?);
        assert_eq!(lines(&reported), lines(&printed), "{}", case.name);
        if !matches!(case.name, "port" | "peer") {
            continue;
        }
        let again = scene.report(case, &case.arguments)?;
        assert_eq!(lines(&again), lines(&printed), "{}: the same filter once more", case.name);
        // The recording of everything, filtered afterwards. Its totals are of everything.
        let filtered = Output::parse(&scene.report(&cases[0], &case.arguments)?)?;
        assert_eq!(without_warnings(filtered.causes()), case.causes(), "{}: {filtered:#?}", case.name);
        assert_eq!(filtered.requests.len(), trace.requests.len(), "{}", case.name);
        let status = filtered.status.context("no status")?;
        assert_eq!((status.requests, status.connections), (None, None), "{}: {status:#?}", case.name);
        assert!(status.reconciliation.iter().all(|it| it.filtered), "{}: {status:#?}", case.name);
    }
    drop(rules);
    Ok(())
}
