//! One sample: a side attached, the load on, everything read at the begin and the end of a span of time.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::{clock, interrupt};
use serde::{Deserialize, Serialize};

use crate::{
    cpu::{self, HostClock, HostTime},
    memory, others,
    programs::{Held, Program, between},
    side::{Attached, Side, count_runs},
    statistics::{float, percentile},
    workload::{Load, Scene, scene::PORT},
};

/// For how long after the load the side may still be at work: what it records comes a little later.
const SETTLE: Duration = Duration::from_millis(150);

/// What is measured with one attachment.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The side.
    pub side: Side,
    /// The side that it is while the kernel counts the runs of its programs: a second span, if that is wanted.
    pub counted: Option<Side>,
    /// Which round it belongs to.
    pub round: u32,
    /// How long it is measured.
    pub span: Duration,
}

/// What was measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Sample {
    /// The side.
    pub side: Side,
    /// Which round: the samples of a round are compared with each other.
    pub round: u32,
    /// How long it was measured, nanoseconds.
    pub elapsed_ns: u64,
    /// What was done meanwhile: requests answered, SYNs sent, or milliseconds of idleness.
    pub done: f64,
    /// Median latency, nanoseconds; absent while the kernel counts.
    pub p50_ns: Option<u64>,
    /// 99th percentile of latency, nanoseconds.
    pub p99_ns: Option<u64>,
    /// What the CPUs did.
    pub host: HostTime,
    /// CPU time of the side's process, nanoseconds.
    pub own_ns: Option<u64>,
    /// Resident memory of the side's process at the end, KiB.
    pub resident_kib: Option<u64>,
    /// The most that was resident, KiB.
    pub peak_kib: Option<u64>,
    /// Kernel memory of the side's maps, bytes.
    pub map_bytes: u64,
    /// By how much the objects in the kernel's slabs grew when the connections were opened, bytes.
    pub object_bytes: i64,
    /// The side's BPF programs, with what they did where the kernel counted.
    pub programs: Vec<Program>,
    /// Requests answered, SYNs sent, or connections open, over the whole time for which the side was attached.
    pub all_done: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that the side recorded over the whole time.
    pub recorded: Option<u64>,
    /// What the side lost, as it says itself.
    pub lost: Option<u64>,
}

/// Attaches the side, raises the load, and measures: a sample, and another one where the kernel is to count.
///
/// # Errors
/// Where anything does not work, or Ctrl-C came.
pub fn take(scene: &Scene, turn: Turn) -> Result<Vec<Sample>> {
    let port = (!scene.workload.is_idle()).then_some(PORT);
    let attached = turn.side.attach(scene.lab, port)?;
    let objects = memory::kernel_objects()?;
    let mut load = scene.load()?;
    let object_bytes = i64::try_from(memory::kernel_objects()?)? - i64::try_from(objects)?;
    let holder = attached.pid().unwrap_or_else(std::process::id);
    let held = Held::by(holder)?;
    pause(scene.workload.warm_up())?;
    load.keep_latencies(true);
    let measured = measure(&*load, &*attached, &held, turn.span)?;
    load.keep_latencies(false);
    let counted = turn.counted.map(|side| {
        let _counting = count_runs()?;
        anyhow::Ok((side, measure(&*load, &*attached, &held, turn.span)?))
    });
    let counted = counted.transpose()?;
    let map_bytes = Held::by(holder)?.map_bytes();
    let memory = |name| attached.pid().map(|pid| memory::of_process(pid, name)).transpose();
    let (resident_kib, peak_kib) = (memory("VmRSS:")?, memory("VmHWM:")?);
    let finished = load.finish()?;
    if attached.pid().is_some() {
        pause(SETTLE)?;
    }
    let told = attached.detach()?;
    drop(load);
    ensure!(finished.done > 0, "nothing was answered");
    let sample = |side: Side, measured: Measured| Sample {
        side,
        round: turn.round,
        elapsed_ns: measured.elapsed_ns,
        done: if scene.workload.is_idle() { float(measured.elapsed_ns) / 1e6 } else { float(measured.done) },
        p50_ns: None,
        p99_ns: None,
        host: measured.host,
        own_ns: measured.own_ns,
        resident_kib,
        peak_kib,
        map_bytes,
        object_bytes,
        programs: measured.programs,
        all_done: finished.done,
        failed: finished.failed,
        recorded: told.recorded,
        lost: told.lost,
    };
    let [p50_ns, p99_ns] = [50, 99].map(|percent| percentile(&finished.latencies_ns, percent));
    let plain = Sample { p50_ns, p99_ns, ..sample(turn.side, measured) };
    Ok([Some(plain), counted.map(|(side, measured)| sample(side, measured))].into_iter().flatten().collect())
}

/// What happened in a span of time.
struct Measured {
    elapsed_ns: u64,
    host: HostTime,
    done: u64,
    own_ns: Option<u64>,
    programs: Vec<Program>,
}

/// Reads everything at the begin and the end of `span`.
fn measure(load: &dyn Load, attached: &dyn Attached, held: &Held, span: Duration) -> Result<Measured> {
    let read = || {
        let own_ns = attached.pid().map(cpu::of_process).transpose()?;
        anyhow::Ok((HostClock::now()?, load.done(), own_ns, held.programs()))
    };
    let others = others::cpu_ns()?;
    let begin = read()?;
    pause(span)?;
    let end = read()?;
    let others_ns = others::cpu_ns()?.saturating_sub(others);
    Ok(Measured {
        elapsed_ns: end.0.elapsed_ns(&begin.0),
        host: end.0.since(&begin.0, others_ns),
        done: end.1 - begin.1,
        own_ns: end.2.zip(begin.2).map(|(end, begin)| end - begin),
        programs: between(&begin.3, end.3),
    })
}

/// Sleeps, unless Ctrl-C comes.
fn pause(time: Duration) -> Result<()> {
    let end = clock::monotonic_ns() + clock::duration_ns(time);
    while !interrupt::came() {
        let left = end.saturating_sub(clock::monotonic_ns());
        if left == 0 {
            return Ok(());
        }
        clock::sleep(Duration::from_nanos(left).min(Duration::from_millis(100)));
    }
    anyhow::bail!("interrupted")
}

impl Sample {
    /// Requests a second.
    pub fn per_second(&self) -> f64 {
        self.done * 1e9 / float(self.elapsed_ns)
    }

    /// A time or a count, for each request.
    pub fn per_request(&self, number: u64) -> f64 {
        float(number) / self.done
    }
}
