//! Attaching: tries each hook's ways in order and keeps every reason.

use std::{error::Error, io, thread};

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, FEntry, FExit, KProbe, LinkOrder, ProgramError, SchedClassifier, TcAttachType, TracePoint,
        tc::TcAttachOptions,
    },
};

use tracer_core::model::status;

use super::{
    btf::KernelBtf,
    clsact::Clsact,
    diagnostics::Diagnostics,
    follow::{Follower, Through},
    hooks::{Attach, HOOKS, Hook},
    namespace::{self, Interfaces},
    sweep::{Iteration, Sweep},
    timestamps::ReceiveTimestamps,
};

/// What became of a hook.
#[derive(Debug, Clone)]
pub struct HookStatus {
    /// The hook's name.
    pub name: &'static str,
    /// The way that attached; `None` if none did.
    pub through: Option<String>,
    /// The ways that attached beside it, if every way was asked for.
    pub also: Vec<String>,
    /// The ways that were tried before, each with the kernel's reason.
    pub refused: Vec<(&'static str, String)>,
    /// No way was tried: it was not wanted.
    pub unwanted: bool,
    /// What is lost if none attached.
    pub lost: &'static str,
    /// Without it nothing can be traced.
    pub essential: bool,
}

impl From<&HookStatus> for status::Hook {
    fn from(status: &HookStatus) -> Self {
        let refused: Vec<_> = status.refused.iter().map(|(way, reason)| format!("{way}: {reason}")).collect();
        Self {
            hook: status.name.to_owned(),
            attached: status.through.clone(),
            also: status.also.clone(),
            refused: (!refused.is_empty()).then(|| refused.join("; ")),
            unwanted: status.unwanted,
            lost: status.through.is_none().then(|| status.lost.to_owned()),
        }
    }
}

/// What has to be kept for as long as tracing lasts, beside the BPF object itself, whose links die with it.
#[derive(Default)]
pub struct Keep {
    /// Asks the kernel to stamp packets.
    pub timestamps: Option<ReceiveTimestamps>,
    /// How the interfaces got their program, and those that did, by their indices.
    pub interfaces: Option<(Through, Vec<u32>)>,
    /// Removes the filters of `clsact`, unless [`Keep::interfaces`] does.
    pub clsact: Option<Clsact>,
    /// Attaches to the interfaces that appear.
    pub follower: Option<Follower>,
    /// Lists requests.
    pub sweep: Option<Sweep>,
}

/// Why a way was refused.
struct Refusal(String);

impl From<ProgramError> for Refusal {
    fn from(error: ProgramError) -> Self {
        Self(match &error {
            ProgramError::LoadError { io_error, verifier_log } => {
                verifier_complaint(io_error, &verifier_log.to_string())
            }
            other => with_causes(other),
        })
    }
}

fn verifier_complaint(error: &io::Error, log: &str) -> String {
    log::debug!("the verifier's log:\n{log}");
    // The complaint is followed by statistics.
    let is_statistic = |line: &&str| {
        ["processed ", "stack depth ", "verification time ", "subprog "].iter().any(|start| line.starts_with(start))
    };
    match log.lines().rev().find(|line| !line.is_empty() && !is_statistic(line)) {
        Some(complaint) => format!("{error}: {complaint}"),
        None => error.to_string(),
    }
}

/// The error and what caused it, without what the error's own text says already.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// What attaching asks of the host.
pub struct Host<'a> {
    /// The kernel's types, for what `tracer` asks of them.
    pub btf: &'a KernelBtf,
    /// The kernel's types, for loading programs.
    pub loader_btf: &'a Btf,
    /// Where packets arrive.
    pub interfaces: &'a Interfaces,
    /// The one network namespace that is watched, by inode number.
    pub netns: Option<u32>,
    /// The network namespace of `interfaces`, by inode number.
    pub home: u32,
    /// The one process that is watched; 0: all.
    pub pid: u32,
}

/// Which ways to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// Of each hook the first that attaches.
    Best,
    /// All that attach, to see which ones this host has.
    Every,
}

impl HookStatus {
    /// Of a hook for which no way was tried yet.
    const fn untried(hook: &Hook, unwanted: bool) -> Self {
        let (name, lost, essential) = (hook.name, hook.lost, hook.essential);
        Self { name, through: None, also: Vec::new(), refused: Vec::new(), unwanted, lost, essential }
    }
}

/// Attaches every hook but those in `without`, as well as this host lets it. Never fails: the reasons are in the result.
pub fn attach_all(ebpf: &mut Ebpf, host: &Host<'_>, ways: Ways, without: &[String]) -> (Vec<HookStatus>, Keep) {
    let mut keep = Keep::default();
    let attach = |hook: &Hook| {
        if without.iter().any(|name| name == hook.name) {
            HookStatus::untried(hook, true)
        } else {
            attach(hook, ways, ebpf, host, &mut keep)
        }
    };
    let hooks = HOOKS.iter().map(attach).collect();
    (hooks, keep)
}

fn attach(hook: &Hook, ways: Ways, ebpf: &mut Ebpf, host: &Host<'_>, keep: &mut Keep) -> HookStatus {
    let mut status = HookStatus::untried(hook, false);
    for way in hook.ways {
        if status.through.is_some() && ways == Ways::Best {
            break;
        }
        match attach_way(way.attach, ebpf, host, keep) {
            Ok(where_to) => {
                let name =
                    where_to.map_or_else(|| way.name.to_owned(), |where_to| format!("{} on {where_to}", way.name));
                match status.through {
                    None => status.through = Some(name),
                    Some(_) => status.also.push(name),
                }
            }
            Err(Refusal(reason)) => status.refused.push((way.name, reason)),
        }
    }
    status
}

/// Attaches one way; says where to, if it is not everywhere.
fn attach_way(way: Attach, ebpf: &mut Ebpf, host: &Host<'_>, keep: &mut Keep) -> Result<Option<String>, Refusal> {
    let btf = host.loader_btf;
    match way {
        Attach::TypedTracepoint(tracepoint, _) if !host.btf.has_tracepoint(tracepoint) => {
            return Err(Refusal("this kernel has no such tracepoint".to_owned()));
        }
        Attach::TypedTracepoint(tracepoint, programs) => {
            for name in programs {
                let program: &mut BtfTracePoint = program(ebpf, name)?;
                program.load(tracepoint, btf)?;
                program.attach()?;
            }
        }
        Attach::FunctionEntry(function, other) => {
            function_entry(ebpf, btf, function)?;
            // Some kernels have the other function too; without it the first is still worth having.
            if let Some(Err(Refusal(reason))) = other.map(|other| function_entry(ebpf, btf, other)) {
                log::debug!("fentry {}: {reason}", other.unwrap_or_default());
            }
        }
        Attach::FunctionExit(function) => {
            let arguments = host
                .btf
                .function_arguments(function)
                .ok_or_else(|| Refusal("this kernel has no such function".to_owned()))?;
            let program: &mut FExit = program(ebpf, &format!("{function}_{arguments}"))?;
            program.load(function, btf)?;
            program.attach()?;
        }
        Attach::ReturnProbe(name, function) => {
            let program: &mut KProbe = program(ebpf, name)?;
            program.load()?;
            program.attach(function, 0)?;
        }
        Attach::SystemCallExits(names) => {
            thread::scope(|scope| scope.spawn(|| system_call_exits(ebpf, names)).join())
                .map_err(|_| Refusal("the attaching thread panicked".into()))??;
        }
        Attach::Tcx(name) => {
            let program = classifier(ebpf, name)?;
            let mut indices = Vec::new();
            let attached = host.interfaces.for_each(|interface| {
                // First: what another program does not pass on is to be seen as well. This one passes everything on.
                let order = TcAttachOptions::TcxOrder(LinkOrder::first());
                let index = namespace::index(interface);
                program.attach_with_options(interface, TcAttachType::Ingress, order).map_err(Refusal::from)?;
                indices.extend(index);
                Ok(())
            })?;
            let program = program.fd()?.try_clone()?;
            keep.interfaces.get_or_insert((Through::Tcx(program), indices));
            return Ok(Some(attached));
        }
        Attach::Clsact(name) => {
            let program = classifier(ebpf, name)?;
            let (mut clsact, mut indices) = (None, Vec::new());
            let netns = host.home;
            let attached = host.interfaces.for_each(|interface| {
                let guard = match &mut clsact {
                    Some(guard) => guard,
                    none => none.insert(Clsact::new()?),
                };
                let index = namespace::index(interface);
                guard.attach(program, netns, interface).map_err(|error| Refusal(error.to_string()))?;
                indices.extend(index);
                Ok(())
            });
            keep.clsact = clsact;
            if keep.interfaces.is_none() {
                // Another handle to the same program, for another thread: the kernel gives it to root only.
                let again = program.info().and_then(|info| SchedClassifier::from_program_info(info, name.into()));
                match again {
                    Ok(again) => {
                        keep.interfaces = Some((Through::Clsact(Box::new(again), keep.clsact.take()), indices));
                    }
                    Err(error) => log::debug!("interfaces that appear get no program: {error}"),
                }
            }
            return attached.map(Some);
        }
        Attach::SocketStorageIterator(name) => keep.sweep = Some(Sweep::Iterator(Iteration::new(ebpf, btf, name)?)),
        Attach::SocketDiagnostics => {
            let diagnostics =
                Diagnostics::new(ebpf, host.netns, host.pid).map_err(|error| Refusal(error.to_string()))?;
            keep.sweep.get_or_insert(Sweep::Diagnostics(diagnostics));
        }
        Attach::ReceiveTimestamps => keep.timestamps = Some(ReceiveTimestamps::new()?),
    }
    Ok(None)
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, Refusal>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or_else(|| Refusal(format!("the BPF object has no program {name}")))?;
    Ok(program.try_into()?)
}

fn function_entry(ebpf: &mut Ebpf, btf: &Btf, function: &str) -> Result<(), Refusal> {
    let program: &mut FEntry = program(ebpf, function)?;
    program.load(function, btf)?;
    program.attach()?;
    Ok(())
}

/// The classifier, loaded: `tcx` may have loaded it before it was refused.
fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, Refusal> {
    let program: &mut SchedClassifier = program(ebpf, name)?;
    match program.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(program),
        Err(error) => Err(error.into()),
    }
}

/// Runs on a thread of its own, which gives itself a mount namespace: the tracepoints' numbers are in tracefs, which
/// is often not mounted, for example under `ip netns exec`; the host's mounts are not touched.
fn system_call_exits(ebpf: &mut Ebpf, names: &[&str]) -> Result<(), Refusal> {
    namespace::mount_tracefs_privately()?;
    for name in names {
        let program: &mut TracePoint = program(ebpf, name)?;
        program.load()?;
        program.attach("syscalls", name)?;
    }
    Ok(())
}

impl Interfaces {
    /// Calls `attach` for each interface, in their namespace. Says to which it attached; an error if none let it. Those that refused
    /// are tried again, and counted, by the thread that follows the interfaces.
    fn for_each(&self, mut attach: impl FnMut(&str) -> Result<(), Refusal> + Send) -> Result<String, Refusal> {
        let names = self.names();
        self.inside(|| {
            let (mut attached, mut refusal) = (Vec::new(), None);
            for name in names {
                match attach(name) {
                    Ok(()) => attached.push(name.as_str()),
                    // It went away meanwhile, as those of containers do.
                    Err(_) if !namespace::exists(name) => {}
                    Err(Refusal(reason)) => {
                        log::debug!("{name}: {reason}");
                        refusal.get_or_insert(format!("{name}: {reason}"));
                    }
                }
            }
            match refusal {
                Some(reason) if attached.is_empty() => Err(Refusal(reason)),
                _ => Ok(attached.join(", ")),
            }
        })?
    }
}
