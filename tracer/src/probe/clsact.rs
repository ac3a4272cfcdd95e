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
            Err(TcError::AlreadyAttached) => false,
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
/// If something could not be removed.
pub fn guard() -> io::Result<()> {
    let orders: Vec<String> = io::stdin().lock().lines().map_while(Result::ok).collect();
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
            ["qdisc", interface] => delete_clsact(interface)?,
            _ => {}
        }
    }
    Ok(())
}

/// A netlink request to delete a qdisc: `struct nlmsghdr`, `struct tcmsg`, the attribute `TCA_KIND`.
#[repr(C)]
struct DeleteQdisc {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    family: u8,
    padding: [u8; 3],
    interface: i32,
    handle: u32,
    parent: u32,
    info: u32,
    attribute_length: u16,
    attribute_kind: u16,
    name: [u8; 8],
}

/// Deletes the `clsact` qdisc of `interface`, unless somebody else has put a filter into it since.
fn delete_clsact(interface: &str) -> io::Result<()> {
    const CLSACT: u32 = 0xffff_fff1;
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: a valid C string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Ok(());
    }
    let request = DeleteQdisc {
        length: u32::try_from(size_of::<DeleteQdisc>()).map_err(io::Error::other)?,
        kind: libc::RTM_DELQDISC,
        flags: u16::try_from(libc::NLM_F_REQUEST).map_err(io::Error::other)?,
        sequence: 1,
        port: 0,
        family: 0,
        padding: [0; 3],
        interface: index.cast_signed(),
        handle: 0xffff_0000,
        parent: CLSACT,
        info: 0,
        attribute_length: 4 + 7,
        attribute_kind: 1,
        name: *b"clsact\0\0",
    };
    // SAFETY: a new socket, closed below; the kernel reads as many bytes as it is told there are.
    unsafe {
        let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let sent = libc::send(socket, (&raw const request).cast(), size_of::<DeleteQdisc>(), 0);
        let result = if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        libc::close(socket);
        result
    }
}
