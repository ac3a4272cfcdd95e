//! The lab with a target and a tracer on it, and what must hold of everything that the tracer prints.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::client::sent_ns;
use lab::clock::{MS, duration_ns, sleep};
use lab::target::{Options, Served, Target};
use lab::topology::{TARGET_V4, TARGET_V6};
use lab::tracer::{Request, Trace};
use lab::{Busy, Lab, Tracer};

pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The ways to reach the target: IPv4, IPv6, and IPv4 to the dual-stack wildcard.
pub fn ways() -> [SocketAddr; 3] {
    [(TARGET_V4, 8081).into(), (TARGET_V6, 8082).into(), (TARGET_V4, 8080).into()]
}

/// Declared in the order in which they are dropped.
pub struct Bench {
    pub tracer: Tracer,
    pub target: Target,
    pub lab: Lab,
}

impl Bench {
    /// A target that listens on all [`ways`], traced from before its first connection.
    pub fn start(change: impl FnOnce(&mut Options)) -> Result<Self> {
        let lab = precise_lab()?;
        let [v4, v6, _] = ways();
        let mut options = Options::listen(&[v4, v6, "[::]:8080".parse()?]);
        change(&mut options);
        let target = Target::start(&lab, "target", &options)?;
        let tracer = start_tracer(&lab)?;
        Ok(Self { tracer, target, lab })
    }

    /// Ends the trace once `requests` were served and `connections` have closed, asserts what holds of every trace, and
    /// has `check` look at the times. Where that fails although the host was late by itself, the host was [`Busy`].
    pub fn finish(
        mut self,
        requests: usize,
        connections: usize,
        check: impl FnOnce(&Trace, &[Served]) -> Result<()>,
    ) -> Result<()> {
        let served = self.target.wait_for(requests)?;
        self.tracer.wait_for(ms(5000), |output| output.connections.len() >= connections)?;
        let trace = self.tracer.stop()?;
        // What the kernel left out, as tracer itself says, cannot be in the trace.
        let missed = trace.status.counters.get("events_missed").copied().unwrap_or(0);
        ensure!(missed == 0, Busy(format!("the kernel left {missed} events out")));
        assert_eq!(served.len(), requests, "{served:?}");
        assert_eq!((trace.requests.len(), trace.connections.len()), (requests, connections), "{trace:#?}");
        // The same port may be chosen towards two of the target's ports; the connections are told apart by it here.
        let peers: HashSet<SocketAddr> = trace.connections.iter().map(|connection| connection.peer).collect();
        ensure!(peers.len() == connections, "two connections came from the same port");
        for request in &trace.requests {
            let name = (request.pid, request.comm.as_deref());
            assert_eq!(name, (Some(self.target.pid()), Some("lab-target")), "{request:#?}");
            let served = served_of(&served, request)?;
            assert_eq!(served.local, Some(request.local), "{request:#?}");
            if served.error.is_none() {
                assert_eq!((request.bytes_in, request.bytes_out), (served.bytes_in, served.bytes_out), "{request:#?}");
            }
        }
        assert_exact(&trace);
        check(&trace, &served).or_else(|error| {
            served.iter().try_for_each(check_prompt).with_context(|| format!("{error:#}"))?;
            Err(error)
        })
    }
}

/// Checks that the target was woken as soon as the client had sent the request, or as soon as it was ready to wait for
/// it. Otherwise this host's scheduler was late, which is in the stages too, rightly.
fn check_prompt(served: &Served) -> Result<()> {
    let (Some(peer), Some(accepted_ns), Some(readable_ns)) = (served.peer, served.accepted_ns, served.readable_ns)
    else {
        bail!("the target does not tell when it was woken: {served:?}");
    };
    let sent_ns = sent_ns(peer, usize::try_from(served.sequence)?).context("the client has not sent it")?;
    let late_ns = readable_ns.saturating_sub(sent_ns.max(accepted_ns));
    ensure!(late_ns <= MS, Busy(format!("woken {} us after the request was sent: {served:?}", late_ns / 1000)));
    Ok(())
}

/// A tracer, once packets are stamped: the kernel begins with it a moment after the tracer has asked for it.
pub fn start_tracer(lab: &Lab) -> Result<Tracer> {
    let tracer = Tracer::start(lab, "tracer", &[])?;
    sleep(ms(100));
    Ok(tracer)
}

/// A lab without delayed acknowledgements, which would be part of `drain`, rightly.
pub fn precise_lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.acknowledge_at_once()?;
    Ok(lab)
}

/// Asserts what holds of every trace on a kernel with all hooks: sums, sequences, nothing merged, nothing lost.
pub fn assert_exact(trace: &Trace) {
    for request in &trace.requests {
        assert_eq!(request.total_ns, Some(request.sum_ns()), "the stages add up to the total: {request:#?}");
        assert!(request.merged.is_empty(), "{request:#?}");
        assert_eq!(request.adopted, None, "{request:#?}");
    }
    for connection in &trace.connections {
        let of_it = trace.requests_of(connection.peer);
        let sequences: Vec<u32> = of_it.iter().map(|request| request.sequence).collect();
        assert_eq!(sequences, (1..=connection.requests).collect::<Vec<_>>(), "{of_it:#?}");
        assert!(of_it.iter().all(|request| request.connection == connection.connection), "{of_it:#?}");
        assert!(of_it.iter().skip(1).all(|request| request.accept_ns.is_none()), "{of_it:#?}");
    }
    assert!(trace.waiting.is_empty(), "{:#?}", trace.waiting);
    let count = trace.requests.len() as u64;
    assert_eq!((trace.summary.requests, trace.status.requests), (count, Some(count)), "{:#?}", trace.status);
    let status = &trace.status;
    let missing = (status.records_lost, status.records_undecodable, status.reports_unmatched);
    assert_eq!(missing, (Some(0), 0, 0), "{status:#?}");
    let refused: Vec<_> = status.hooks.iter().filter(|hook| hook.attached.is_none()).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// Checks that each stage was measured and lasted as long as was injected into it, or not at all.
pub fn check(stages: &[(&str, Option<u64>)], injected: &[(&str, u64)]) -> Result<()> {
    for (name, time) in stages {
        let injected = injected.iter().find(|(stage, _)| stage == name).map_or(0, |(_, time)| *time);
        let time = time.with_context(|| format!("{name} was not measured: {stages:?}"))?;
        check_time(name, time, injected).with_context(|| format!("{stages:?}"))?;
    }
    Ok(())
}

/// The request as the target logged it.
pub fn served_of<'a>(served: &'a [Served], request: &Request) -> Result<&'a Served> {
    let of_it = |it: &&Served| (it.peer, it.sequence) == (Some(request.peer), u64::from(request.sequence));
    served.iter().find(of_it).with_context(|| format!("the target did not serve {request:?}"))
}

/// How long the delays lasted by the target's clock: at least as long as asked for, unless the host was busy.
pub fn by_target<'a>(served: &Served, asked: &[(&'a str, u64)]) -> Result<Vec<(&'a str, u64)>> {
    let lasted = |&(stage, asked_ms): &(&'a str, u64)| {
        let lasted = match stage {
            "accept" => served.accept_ns(),
            "pickup" => served.pickup_ns(),
            "upload" => served.upload_ns(),
            "service" => served.service_ns(),
            "download" => served.writing_ns(),
            _ => None,
        };
        let lasted = lasted.with_context(|| format!("the target does not tell {stage}: {served:?}"))?;
        // A body's first piece is not read at the very moment at which it is sent.
        let long_enough = lasted + MS >= asked_ms * MS;
        ensure!(long_enough, Busy(format!("{stage} was asked to last {asked_ms} ms: {served:?}")));
        Ok((stage, lasted))
    };
    asked.iter().map(lasted).collect()
}

/// [`check`] for a request that was answered.
pub fn check_request(request: &Request, injected: &[(&str, u64)]) -> Result<()> {
    ensure!(request.completed.is_none() && request.retransmits == 0, "{request:?}");
    check(&request.stages_ns.named(), injected).with_context(|| format!("request {}", request.sequence))
}

/// Checks a time against the injected one, both in nanoseconds.
pub fn check_time(name: &str, time: u64, injected: u64) -> Result<()> {
    let tolerance = (2 * MS).max(injected / 20);
    let micro = |nanoseconds: u64| nanoseconds / 1000;
    let (shown, wanted) = (micro(time), micro(injected));
    ensure!(time.abs_diff(injected) <= tolerance, "{name} lasted {shown} us instead of {wanted} us");
    Ok(())
}

/// A duration in nanoseconds.
pub fn ns(duration: Duration) -> u64 {
    duration_ns(duration)
}
