//! The probe: loads the BPF object, attaches its hooks, and gives what the kernel reports.

mod accept_queues;
mod attach;
mod btf;
pub mod clsact;
pub mod diagnostics;
mod filters;
mod follow;
mod hooks;
pub mod host;
mod link;
pub mod listeners;
pub mod namespace;
mod qdisc;
mod sweep;
mod tallies;
mod tcx;
mod timestamps;

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapError, PerCpuArray, RingBuf},
    programs::{Program, ProgramError},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use thiserror::Error;
use tracer_common::{
    counter::Counter,
    offsets::Offsets,
    record::RequestRecord,
    rejection::{Key, ListenerKey, ListenerTally, Tally},
    settings::Settings,
};
use tracer_core::{explain::reasons, model::tallies::Tallies, units::Plural};

use crate::clock;

use self::{
    accept_queues::AcceptQueues,
    attach::{Host, Keep},
    btf::{BtfError, KernelBtf},
    follow::{Filter, Follower, Scope},
    namespace::Interfaces,
    tallies::Generations,
};
pub use self::{
    attach::{HookStatus, Ways},
    filters::Filters,
    follow::Untraced,
    hooks::{SYN, optional},
};

/// The kernel's description of its own types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why this host cannot be traced.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The kernel's types are not known.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The kernel refused the BPF object.
    #[error("the kernel refuses BPF: {0}")]
    Load(#[source] Box<aya::EbpfError>),
    /// A hook without which nothing can be traced did not attach.
    #[error("hook {name} cannot be attached: {reason}")]
    Essential {
        /// The hook.
        name: &'static str,
        /// The kernel's reasons.
        reason: String,
    },
    /// A map could not be read or written.
    #[error("BPF map: {0}")]
    Map(#[from] MapError),
    /// There is no such network namespace.
    #[error("{0:#}")]
    Namespace(anyhow::Error),
    /// There is no such interface.
    #[error("{0}")]
    Interface(io::Error),
    /// Neither root nor the capabilities that make up for it.
    #[error(
        "tracing needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; missing: {0}\nrun it with sudo"
    )]
    Privileges(String),
    /// Something outside BPF.
    #[error("{what}: {error}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
}

/// Members of the registers that only the other architecture has.
const OTHER_ARCHITECTURE: [&str; 2] = if cfg!(target_arch = "x86_64") {
    ["pt_regs.syscallno", "pt_regs.regs"]
} else {
    ["pt_regs.orig_ax", "pt_regs.si"]
};

/// A running probe. Dropping it detaches everything.
pub struct Probe {
    // Fields drop in this order: the hooks first, then the process that cleans up after them.
    ebpf: Ebpf,
    keep: Keep,
    hooks: Vec<HookStatus>,
    missing: Vec<&'static str>,
    ports: Vec<u16>,
    reasons: Vec<(String, u64)>,
    generations: Generations,
    accept_queues: AcceptQueues,
    /// The hooks without which nothing passes the filters.
    needed: Vec<&'static str>,
}

impl ProbeError {
    /// What the program's exit code says of it: 2 for wrong use, 3 for a host that cannot be traced.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Namespace(_) | Self::Interface(_) => 2,
            Self::Btf(_) | Self::Load(_) | Self::Essential { .. } => 3,
            Self::Privileges(_) | Self::Map(_) | Self::Host { .. } => 1,
        }
    }
}

impl Probe {
    /// Loads the BPF object and attaches every hook that this host allows.
    ///
    /// # Errors
    ///
    /// If the object cannot be loaded. Hooks that do not attach are in [`Probe::hooks`];
    /// [`Probe::require_essential`] makes an error of those that cannot be done without.
    pub fn attach(filters: &Filters, ways: Ways, kernel_log: bool) -> Result<Self, ProbeError> {
        let failed = |what| move |error| ProbeError::Host { what, error };
        raise_memory_limit();
        let kernel_btf = KernelBtf::load(KERNEL_BTF)?;
        let offsets = Offsets::resolve(|kernel_struct, member| kernel_btf.offset(kernel_struct, member));
        let settings = settings(filters, &kernel_btf);
        let level: u8 = if kernel_log { 5 } else { 0 };
        let interfaces = Interfaces::find(&filters.interfaces, filters.netns).map_err(ProbeError::Interface)?;
        let mut ebpf = EbpfLoader::new()
            .override_global("OFFSETS", &offsets, true)
            .override_global("SETTINGS", &settings, true)
            .override_global(aya_log::LEVEL, &level, false)
            .load(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracer-ebpf")))
            .map_err(|error| ProbeError::Load(Box::new(error)))?;
        let ports = filters.served_ports().map_err(failed("listing the listeners"))?;
        filters.fill(&mut ebpf, &ports, &interfaces)?;
        let reasons = kernel_btf.enumeration("skb_drop_reason");
        fill_reasons(&mut ebpf, &reasons)?;
        let loader_btf = Btf::from_sys_fs().map_err(|error| ProbeError::Load(Box::new(error.into())))?;
        let (netns, pid) = (filters.netns, filters.pid.unwrap_or(0));
        let home = netns.map_or_else(namespace::own, Ok).map_err(failed("reading /proc"))?;
        let host = Host { btf: &kernel_btf, loader_btf: &loader_btf, interfaces: &interfaces, netns, home, pid };
        let (mut hooks, mut keep) = attach::attach_all(&mut ebpf, &host, ways, &filters.without);
        // It is in the network namespace, which is not to be held.
        drop(interfaces);
        if ways == Ways::Best {
            let scope = Scope { netns, names: filters.interfaces.clone() };
            let filter = if filters.interfaces.is_empty() { None } else { ebpf.take_map("INTERFACES") };
            let filter = filter.map(HashMap::try_from).transpose()?;
            let follower = follow(scope, home, filter, &mut keep, &mut hooks);
            keep.follower = follower.map_err(failed("following the interfaces"))?;
        }
        // The programs begin here: with some hooks only, a request would be seen in part.
        set_realtime_offset(&mut ebpf)?;
        let missing = offsets.missing().filter(|member| !OTHER_ARCHITECTURE.contains(member)).collect();
        let (generations, accept_queues) = (Generations::default(), AcceptQueues::default());
        Ok(Self { ebpf, keep, hooks, missing, ports, reasons, generations, accept_queues, needed: filters.needed() })
    }

    /// Whether the kernel tells its types; needs no privileges.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn supports_btf() -> Result<(), ProbeError> {
        KernelBtf::load(KERNEL_BTF)?;
        Ok(())
    }

    /// What became of each hook.
    pub fn hooks(&self) -> &[HookStatus] {
        &self.hooks
    }

    /// Kernel struct members that were not found, as `struct.member`.
    pub fn missing_members(&self) -> &[&'static str] {
        &self.missing
    }

    /// The ports whose connections were adopted, or are traced if ports were asked for.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The running kernel's drop reasons, by name and number.
    pub fn drop_reasons(&self) -> &[(String, u64)] {
        &self.reasons
    }

    /// What was counted by keys until now.
    ///
    /// # Errors
    ///
    /// If a map cannot be read.
    pub fn tallies(&self) -> Result<Tallies, ProbeError> {
        Ok(tallies::read(&self.ebpf)?)
    }

    /// Takes tallies of rejections out of the kernel's maps, so that there is room for others. The records of what they
    /// counted are in the ring buffer or were read before. To be called a few times per second.
    ///
    /// # Errors
    ///
    /// If a map cannot be read or written.
    pub fn take_tallies(&mut self) -> Result<Vec<(Key, Tally)>, ProbeError> {
        Ok(self.generations.take(&mut self.ebpf)?)
    }

    /// If the kernel's map holds many tallies of accept queues, removes those that were unused for the longest time, and returns
    /// them.
    ///
    /// # Errors
    ///
    /// If a map cannot be read.
    pub fn take_accept_queues(&mut self) -> Result<Vec<(ListenerKey, ListenerTally)>, ProbeError> {
        Ok(self.accept_queues.take(&mut self.ebpf)?)
    }

    /// An error if a hook is missing without which nothing can be traced.
    ///
    /// # Errors
    ///
    /// With the kernel's reasons.
    pub fn require_essential(&self) -> Result<(), ProbeError> {
        if let Some(member) = self.missing.iter().find(|member| ESSENTIAL_MEMBERS.contains(member)) {
            let reason = format!("this kernel's types have no {member}");
            return Err(ProbeError::Essential { name: "receive", reason });
        }
        let is_essential = |hook: &HookStatus| hook.essential || self.needed.contains(&hook.name);
        match self.hooks.iter().find(|hook| is_essential(hook) && hook.through.is_none()) {
            Some(hook) => {
                let reasons: Vec<_> = hook.refused.iter().map(|(way, reason)| format!("{way}: {reason}")).collect();
                Err(ProbeError::Essential { name: hook.name, reason: reasons.join("; ") })
            }
            None => Ok(()),
        }
    }

    /// Takes the stream of records; it can be taken once.
    ///
    /// # Errors
    ///
    /// If it was taken before.
    pub fn records(&mut self) -> Result<RingBuf<aya::maps::MapData>, ProbeError> {
        let map = self.ebpf.take_map("RECORDS").ok_or(MapError::IoError(io::ErrorKind::NotFound.into()))?;
        Ok(RingBuf::try_from(map)?)
    }

    /// The sum of a counter over all CPUs.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn count(&self, counter: Counter) -> Result<u64, ProbeError> {
        let map = self.ebpf.map("COUNTERS").ok_or(MapError::IoError(io::ErrorKind::NotFound.into()))?;
        let counters: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
        Ok(counters.get(&(counter as u32), 0)?.iter().sum())
    }

    /// All counters, in the order of [`Counter::ALL`].
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn counts(&self) -> Result<[u64; Counter::ALL.len()], ProbeError> {
        let mut counts = [0; Counter::ALL.len()];
        for (value, counter) in counts.iter_mut().zip(Counter::ALL) {
            *value = self.count(counter)?;
        }
        Ok(counts)
    }

    /// Events that the kernel did not pass on: while a program runs and is interrupted, it is not entered again on that
    /// CPU (`recursion_misses` of `struct bpf_prog_info`, Linux 5.12). Events that another program is there for do not
    /// count.
    pub fn events_missed(&self) -> u64 {
        let misses = |descriptor: i32| -> Option<u64> {
            // aya 0.14 does not pass the number on; the descriptor's own file has it.
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
            info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
        };
        let loaded = self.ebpf.programs().filter_map(|(_, program)| program.fd().ok());
        let all: u64 = loaded.filter_map(|descriptor| misses(descriptor.as_fd().as_raw_fd())).sum();
        all.saturating_sub(self.events_passed().unwrap_or(0))
    }

    /// Events that `state_changed_by_process` was kept from, but that were for `state_changed`.
    fn events_passed(&self) -> Result<u64, ProbeError> {
        let map = self.ebpf.map("BY_PROCESS").ok_or(MapError::IoError(io::ErrorKind::NotFound.into()))?;
        let by_cpu: PerCpuArray<_, [u64; 2]> = PerCpuArray::try_from(map)?;
        Ok(by_cpu.get(&0, 0)?.iter().map(|[_, passed]| passed).sum())
    }

    /// The interfaces and network namespaces whose SYNs are not seen, because there were too many or the kernel refused.
    pub fn untraced(&self) -> Untraced {
        self.keep.follower.as_ref().map(|follower| follower.progress.untraced()).unwrap_or_default()
    }

    /// Detaches the programs that watch events. The sweep and the counters stay.
    pub fn stop(&mut self) -> Result<(), ProbeError> {
        drop(self.keep.follower.take());
        for (_, program) in self.ebpf.programs_mut() {
            let unloaded = match program {
                Program::BtfTracePoint(program) => program.unload(),
                Program::FEntry(program) => program.unload(),
                Program::FExit(program) => program.unload(),
                Program::KProbe(program) => program.unload(),
                Program::TracePoint(program) => program.unload(),
                Program::SchedClassifier(program) => program.unload(),
                // The sweep.
                _ => Ok(()),
            };
            match unloaded {
                Ok(()) | Err(ProgramError::NotLoaded) => {}
                Err(error) => return Err(ProbeError::Host { what: "detaching", error: io::Error::other(error) }),
            }
        }
        Ok(())
    }

    /// Tells the programs what the wall clock says; to be called several times a second, because it may be set.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn keep_time(&mut self) -> Result<(), ProbeError> {
        set_realtime_offset(&mut self.ebpf)
    }

    /// Calls `each` with a record for every request that waits, or that was answered further since it
    /// was reported. Nothing if the hook is missing.
    pub fn sweep(&self, each: impl FnMut(RequestRecord)) -> Result<(), ProbeError> {
        match &self.keep.sweep {
            Some(sweep) => {
                sweep.run(&self.ebpf, each).map_err(|error| ProbeError::Host { what: "listing the requests", error })
            }
            None => Ok(()),
        }
    }

    /// The programs' own diagnostics, to be passed to `log`.
    ///
    /// # Errors
    ///
    /// If the log cannot be opened.
    pub fn kernel_log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>, aya_log::Error> {
        aya_log::EbpfLogger::init(&mut self.ebpf)
    }
}

/// Follows the interfaces from here on, if they have a program, and says in the status of that hook how many of other
/// namespaces have it now.
fn follow(
    scope: Scope,
    home: u32,
    filter: Option<Filter>,
    keep: &mut Keep,
    hooks: &mut [HookStatus],
) -> io::Result<Option<Follower>> {
    let Some((through, attached)) = keep.interfaces.take() else { return Ok(None) };
    let follower = Follower::start(scope, through, home, &attached, filter)?;
    let (namespaces, interfaces) = follower.progress.elsewhere();
    if namespaces != 0 {
        let number = Plural(interfaces.into(), "interface");
        let of = Plural(namespaces.into(), "other network namespace");
        for hook in hooks.iter_mut().filter(|hook| hook.name == SYN) {
            hook.through = hook.through.take().map(|through| format!("{through} and {number} of {of}"));
        }
    }
    Ok(Some(follower))
}

/// Without these members nothing that the programs say would be true.
const ESSENTIAL_MEMBERS: [&str; 9] = [
    "sock.__sk_common.skc_num",
    "tcp_sock.rcv_nxt",
    "tcp_sock.write_seq",
    "tcp_sock.snd_una",
    "sk_buff.cb",
    "tcp_skb_cb.seq",
    "tcp_skb_cb.end_seq",
    "tcp_skb_cb.ack_seq",
    "tcp_skb_cb.tcp_flags",
];

fn settings(filters: &Filters, btf: &KernelBtf) -> Settings {
    let mut bits = filters.bits();
    if filters.without.iter().any(|name| name == hooks::ACCEPT) {
        bits |= Settings::ACCEPT_UNSEEN;
    }
    if btf.tracepoint_arguments("tcp_retransmit_skb").is_some_and(|arguments| arguments > 2) {
        bits |= Settings::RETRANSMIT_ERRORS;
    }
    // Numbers of system calls are small.
    let call = |number: libc::c_long| u32::try_from(number).unwrap_or(u32::MAX);
    Settings {
        filters: bits,
        pid: filters.pid.unwrap_or(0),
        netns: filters.netns.unwrap_or(0),
        reads: [call(libc::SYS_read), call(libc::SYS_recvfrom)],
        vector_read: call(libc::SYS_readv),
        message_read: call(libc::SYS_recvmsg),
    }
}

/// Before Linux 5.11 (commit 97306be45fbe) BPF memory counts against the limit on locked memory. RHEL and Amazon
/// kernels took the change back to older ones, so it is raised wherever that is allowed.
fn raise_memory_limit() {
    // Failure shows when a map is created.
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
}

fn fill_reasons(ebpf: &mut Ebpf, reasons: &[(String, u64)]) -> Result<(), ProbeError> {
    let mut map: Array<_, u8> = Array::try_from(map_mut(ebpf, "REASONS")?)?;
    let classes = reasons.iter().map(|(name, number)| (number, reasons::class(name)));
    for (&number, class) in classes.filter(|(_, class)| *class != 0) {
        // The subsystems' own reasons are beyond: none of them is about TCP.
        if let Ok(number) = u32::try_from(number)
            && number < map.len()
        {
            map.set(number, class, 0)?;
        }
    }
    Ok(())
}

fn set_realtime_offset(ebpf: &mut Ebpf) -> Result<(), ProbeError> {
    let mut map: Array<_, u64> = Array::try_from(map_mut(ebpf, "REALTIME_OFFSET")?)?;
    let offset = clock::now().offset;
    map.set(0, offset.cast_unsigned(), 0)?;
    Ok(())
}

/// The map of that name.
fn map_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::maps::Map, MapError> {
    ebpf.map_mut(name).ok_or_else(|| MapError::IoError(io::ErrorKind::NotFound.into()))
}
