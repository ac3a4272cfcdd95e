//! `clsact`, for kernels before 6.6: its filters are not links, so a guard process removes them when their owner is
//! gone, whatever killed it. It enters the network namespaces of other interfaces for that, so that it holds none of them.
//!
//! The guard is this binary under another name of its first argument. It reads what to remove from a pipe; the pipe
//! ends when its owner does.

use std::{
    io::{self, BufRead, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
};

use rustix::{io::Errno, process::setsid};

use super::{
    namespace::{self, Netns},
    qdisc,
};
use aya::programs::{
    SchedClassifier, TcAttachType,
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
};

/// The first argument that makes this binary the guard.
pub const GUARD_ARGUMENT: &str = "clsact-guard";

/// Takes the order before it back.
const TAKE_BACK: &str = "take-back";
/// The priority that the kernel chooses where there is no filter.
const LAST_PRIORITY: u16 = 0xc000;

/// The guard process; dropping it removes everything and waits until that is done.
#[derive(Debug)]
pub struct Clsact {
    guard: Child,
    orders: Option<ChildStdin>,
}

impl Clsact {
    /// Starts the guard in the calling thread's network namespace.
    pub fn new() -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("tracer").arg(GUARD_ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::null());
        // SAFETY: both calls are safe between fork and exec. A group of its own: Ctrl-C at the terminal is not for it.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
                Ok(())
            });
        }
        let mut guard = command.spawn()?;
        let orders = guard.stdin.take();
        Ok(Self { guard, orders })
    }

    /// Attaches `program` to `interface` of the network namespace that the calling thread is in, `netns` by its inode number,
    /// adding the `clsact` qdisc if there is none. The guard is told first, so that a kill at any moment leaves nothing. It knows the
    /// interface by its index, which a new name does not change.
    pub fn attach(&mut self, program: &mut SchedClassifier, netns: u32, interface: &str) -> anyhow::Result<()> {
        let index = namespace::index(interface).ok_or(Errno::NODEV)?;
        // Somebody else's qdisc stays, also an empty one.
        if !qdisc::has_clsact(index)? {
            self.order(&format!("{netns} {index} qdisc"))?;
            tc::qdisc_add_clsact(interface)?;
        }
        // In front of all others, where the kernel would put it, too.
        let priority = qdisc::first_priority(index)?.map_or(LAST_PRIORITY, |first| first.saturating_sub(1).max(1));
        // Unique among the tracers of this host.
        let handle = std::process::id();
        self.order(&format!("{netns} {index} filter {priority} {handle}"))?;
        let options = NlOptions { priority, handle: TcHandle::from(handle), ..NlOptions::default() };
        match program.attach_with_options(interface, TcAttachType::Ingress, TcAttachOptions::Netlink(options)) {
            Ok(id) => {
                // The guard owns the filter.
                std::mem::forget(program.take_link(id)?);
                Ok(())
            }
            Err(error) => {
                // What has this number is somebody else's.
                self.order(TAKE_BACK)?;
                Err(error.into())
            }
        }
    }

    /// Forgets what was attached to an interface that is gone.
    pub fn forget(&mut self, netns: u32, index: u32) {
        if let Err(error) = self.order(&format!("{netns} {index} gone")) {
            log::debug!("clsact: {error}");
        }
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

/// What the guard has to remove: the network namespace by its inode number, the interface by its index, and what to remove there.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    netns: u32,
    index: u32,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    /// The qdisc, if nothing is left in it.
    Qdisc,
    /// The filter with this priority and handle.
    Filter(u16, u32),
}

/// The guard's life: reads orders until their owner is gone, then removes what it was told, last first.
///
/// # Errors
///
/// If something could not be removed; everything else is removed all the same.
pub fn guard() -> io::Result<()> {
    let orders = orders(io::stdin().lock().lines().map_while(Result::ok));
    let mut result = Ok(());
    // Those of one namespace came together.
    for of_namespace in orders.chunk_by(|one, other| one.netns == other.netns).rev() {
        let remove = || of_namespace.iter().rev().map(Order::remove).fold(Ok(()), io::Result::and);
        // A namespace that vanished has no filters any more.
        if let Some(Ok(netns)) = of_namespace.first().map(|order| Netns::open(order.netns)) {
            result = result.and(netns.inside(remove).flatten());
        }
    }
    result
}

impl Order {
    /// Removes it, in the calling thread's network namespace.
    fn remove(&self) -> io::Result<()> {
        match self.what {
            What::Qdisc => qdisc::delete_empty_clsact(self.index),
            What::Filter(priority, handle) => {
                // A filter vanishes with its interface.
                let Some(interface) = namespace::name(self.index) else { return Ok(()) };
                let handle = TcHandle::from(handle);
                let direction = TcAttachType::Ingress;
                if let Ok(link) = SchedClassifierLink::attached(&interface, direction, priority, handle, None) {
                    // Or just now.
                    let _ = aya::programs::links::Link::detach(link);
                }
                Ok(())
            }
        }
    }
}

/// What the guard was told to remove, in that order, and not told to forget. A last line that was not written whole is no order.
fn orders(lines: impl Iterator<Item = String>) -> Vec<Order> {
    let mut orders: Vec<Order> = Vec::new();
    for line in lines {
        let (netns, index, what) = match *line.split(' ').collect::<Vec<_>>() {
            [TAKE_BACK] => {
                orders.pop();
                continue;
            }
            [netns, index, "gone"] => {
                let is_gone = |order: &Order| netns.parse() == Ok(order.netns) && index.parse() == Ok(order.index);
                orders.retain(|order| !is_gone(order));
                continue;
            }
            [netns, index, "qdisc"] => (netns, index, Some(What::Qdisc)),
            [netns, index, "filter", priority, handle] => {
                let numbers = priority.parse().ok().zip(handle.parse().ok());
                (netns, index, numbers.map(|(priority, handle)| What::Filter(priority, handle)))
            }
            _ => continue,
        };
        if let (Ok(netns), Ok(index), Some(what)) = (netns.parse(), index.parse(), what) {
            orders.push(Order { netns, index, what });
        }
    }
    orders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_removes_what_was_not_taken_back() {
        let lines =
            ["7 2 qdisc", "7 2 filter 49152 42", "8 2 qdisc", "7 3 filter 3 42", "take-back", "8 2 gone", "7 4 filt"];
        let orders = orders(lines.into_iter().map(str::to_owned));
        let of = |what| Order { netns: 7, index: 2, what };
        assert_eq!(orders, [of(What::Qdisc), of(What::Filter(49152, 42))]);
    }
}
