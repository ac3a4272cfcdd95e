//! CPU time: of the host, and of one process.

use std::{fs, io, mem::MaybeUninit};

use anyhow::{Context as _, Result, ensure};
use lab::clock::monotonic_ns;
use serde::{Deserialize, Serialize};

/// The time of all CPUs together since the host started, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    at_ns: u64,
    cpus: u64,
    user_ns: u64,
    system_ns: u64,
    softirq_ns: u64,
    idle_ns: u64,
    stolen_ns: u64,
}

/// What the CPUs of the host did between two moments, nanoseconds of all of them together.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[expect(clippy::struct_field_names, reason = "the unit of each")]
pub struct HostTime {
    /// They worked for the benchmark: by the clock, less what the kernel counts as idle, which it does to the nanosecond,
    /// and less what others took. Ten milliseconds are one unit of the files that tell it.
    pub busy_ns: u64,
    /// Processes that have nothing to do with the benchmark ran.
    pub others_ns: u64,
    /// In user space; like the two others from samples at the timer's tick.
    pub user_ns: u64,
    /// In the kernel for a process.
    pub system_ns: u64,
    /// In the kernel for packets and timers, whichever process that interrupted.
    pub softirq_ns: u64,
    /// The hypervisor ran something else.
    pub stolen_ns: u64,
}

impl HostClock {
    /// Reads it.
    pub fn now() -> Result<Self> {
        let at_ns = monotonic_ns();
        let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("cpu"));
        let all = lines.next().context("/proc/stat tells of no CPU")?;
        let unit_ns = tick_ns()?;
        let fields: Vec<u64> =
            all.split_whitespace().filter_map(|field| Some(field.parse::<u64>().ok()? * unit_ns)).collect();
        let [user, nice, system, idle, waiting, irq, softirq, stolen, ..] = fields[..] else {
            anyhow::bail!("/proc/stat tells less than expected: {all}");
        };
        Ok(Self {
            at_ns,
            cpus: lines.count() as u64,
            user_ns: user + nice,
            system_ns: system,
            softirq_ns: irq + softirq,
            idle_ns: idle + waiting,
            stolen_ns: stolen,
        })
    }

    /// What happened from `earlier` to this moment; `others_ns` is what others took of it.
    pub fn since(&self, earlier: &Self, others_ns: u64) -> HostTime {
        let stolen_ns = self.stolen_ns.saturating_sub(earlier.stolen_ns);
        let all_ns = (self.at_ns - earlier.at_ns) * self.cpus;
        let not_ours = self.idle_ns.saturating_sub(earlier.idle_ns) + stolen_ns + others_ns;
        HostTime {
            busy_ns: all_ns.saturating_sub(not_ours),
            others_ns,
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
            softirq_ns: self.softirq_ns.saturating_sub(earlier.softirq_ns),
            stolen_ns,
        }
    }

    /// Nanoseconds from `earlier` to this moment.
    pub fn elapsed_ns(&self, earlier: &Self) -> u64 {
        self.at_ns - earlier.at_ns
    }
}

/// The unit in which the kernel's files tell times, nanoseconds.
pub fn tick_ns() -> Result<u64> {
    // SAFETY: the call has no precondition.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let ticks =
        u64::try_from(ticks).ok().filter(|ticks| *ticks > 0).context("the kernel's unit of time is not known")?;
    Ok(1_000_000_000 / ticks)
}

/// The CPU time of all threads of a process since its start, in user space and in the kernel, nanoseconds.
pub fn of_process(pid: u32) -> Result<u64> {
    let pid = i32::try_from(pid)?;
    let (mut clock, mut time) = (0, MaybeUninit::<libc::timespec>::uninit());
    // SAFETY: the call writes the clock's number.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    ensure!(error == 0, "no process {pid}: {}", io::Error::from_raw_os_error(error));
    // SAFETY: the call writes the time, or fails.
    let result = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    ensure!(result == 0, "cannot read the CPU time of {pid}: {}", io::Error::last_os_error());
    // SAFETY: written by the call that succeeded.
    let time = unsafe { time.assume_init() };
    Ok(u64::try_from(time.tv_sec)? * 1_000_000_000 + u64::try_from(time.tv_nsec)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lab::clock::monotonic_ns;

    use super::{HostClock, of_process};

    #[test]
    fn a_busy_loop_is_seen_on_the_host_and_in_the_process() {
        let (host, own, start) = (HostClock::now().unwrap(), of_process(std::process::id()).unwrap(), monotonic_ns());
        while monotonic_ns() - start < 200_000_000 {}
        let (later, own_later) = (HostClock::now().unwrap(), of_process(std::process::id()).unwrap());
        let busy = later.since(&host, 0).busy_ns;
        // The kernel may have given the CPU to others; but not the whole time.
        assert!(own_later - own > 20_000_000, "{} ns", own_later - own);
        // The kernel counts idle time of a CPU that is not idle in ticks.
        assert!(2 * busy > own_later - own, "{busy} ns");
        assert!(busy <= later.elapsed_ns(&host) * later.cpus, "{busy} ns");
    }

    #[test]
    fn a_sleep_takes_no_time_of_the_process() {
        let child = std::process::Command::new("sleep").arg("1").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let before = of_process(child.id()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        // Its start may have been late.
        assert!(of_process(child.id()).unwrap() - before < 20_000_000);
        { child }.wait().unwrap();
    }
}
