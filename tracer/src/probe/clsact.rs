//! `clsact`, for kernels before 6.6: its filters are not links, so a guard process removes them when their owner is
//! gone, whatever killed it.
//!
//! The guard is this binary under another name of its first argument. It reads what to remove from a pipe; the pipe
//! ends when its owner does.

use std::{
    io::{self, BufRead, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
};

use super::netlink;
use aya::programs::{
    SchedClassifier, TcAttachType,
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
};

/// The first argument that makes this binary the guard.
pub const GUARD_ARGUMENT: &str = "clsact-guard";

/// The guard process; dropping it removes everything and waits until that is done.
#[derive(Debug)]
pub struct Clsact {
    guard: Child,
    orders: Option<ChildStdin>,
}

impl Clsact {
    /// Starts the guard in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// If the process cannot be started.
    pub fn new() -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("tracer").arg(GUARD_ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::null());
        // SAFETY: both calls are safe between fork and exec. A group of its own: Ctrl-C at the terminal is not for it.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
                Ok(())
            });
        }
        let mut guard = command.spawn()?;
        let orders = guard.stdin.take();
        Ok(Self { guard, orders })
    }

    /// Attaches `program` to `interface`, adding the `clsact` qdisc if there is none.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn attach(&mut self, program: &mut SchedClassifier, interface: &str) -> anyhow::Result<()> {
        let added = match tc::qdisc_add_clsact(interface) {
            Ok(()) => true,
            // Somebody else's, who may need it after us.
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => false,
            Err(error) => return Err(error.into()),
        };
        if added {
            self.order(&format!("qdisc {interface}"))?;
        }
        let options = TcAttachOptions::Netlink(NlOptions::default());
        let id = program.attach_with_options(interface, TcAttachType::Ingress, options)?;
        let link = program.take_link(id)?;
        let (priority, handle) = (link.priority()?, u32::from(link.handle()?));
        // From here on the guard owns the filter.
        std::mem::forget(link);
        self.order(&format!("filter {interface} {priority} {handle}"))
    }

    fn order(&mut self, line: &str) -> anyhow::Result<()> {
        if let Some(pipe) = &mut self.orders {
            writeln!(pipe, "{line}")?;
        }
        Ok(())
    }
}

impl Drop for Clsact {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Err(error) = self.guard.wait() {
            log::warn!("cannot wait for the process that removes the clsact filters: {error}");
        }
    }
}

/// The guard's life: reads orders until their owner is gone, then removes what it was told, last first.
///
/// # Errors
///
/// If something could not be removed; everything else is removed all the same.
pub fn guard() -> io::Result<()> {
    let orders: Vec<String> = io::stdin().lock().lines().map_while(Result::ok).collect();
    let mut result = Ok(());
    for order in orders.iter().rev() {
        match *order.split(' ').collect::<Vec<_>>() {
            ["filter", interface, priority, handle] => {
                if let (Ok(priority), Ok(handle)) = (priority.parse(), handle.parse::<u32>())
                    && let Ok(link) = SchedClassifierLink::attached(
                        interface,
                        TcAttachType::Ingress,
                        priority,
                        TcHandle::from(handle),
                        None,
                    )
                {
                    // Gone with its interface is gone as well.
                    let _ = aya::programs::links::Link::detach(link);
                }
            }
            ["qdisc", interface] => result = result.and(netlink::delete_empty_clsact(interface)),
            _ => {}
        }
    }
    result
}
