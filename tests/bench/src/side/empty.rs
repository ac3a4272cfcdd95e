//! The floor: programs that do nothing, at the hooks of tracer.

use std::{io, net::UdpSocket, os::fd::AsRawFd as _, path::Path, thread};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{
    Btf, Ebpf, EbpfLoader, include_bytes_aligned,
    programs::{BtfTracePoint, LinkOrder, SchedClassifier, TcAttachType, TracePoint, tc::TcAttachOptions},
};
use lab::Lab;
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::UnshareFlags,
};

use super::{Attached, Told};

/// Each typed tracepoint, and the programs at it.
const TYPED: [(&str, &[&str]); 10] = [
    ("inet_sock_set_state", &["state_changed", "state_changed_by_process"]),
    ("tcp_probe", &["tcp_probe"]),
    ("tcp_rcv_space_adjust", &["tcp_rcv_space_adjust"]),
    ("tcp_sendmsg_locked", &["tcp_sendmsg_locked"]),
    ("net_dev_start_xmit", &["net_dev_start_xmit"]),
    ("tcp_retransmit_skb", &["tcp_retransmit_skb"]),
    ("tcp_retransmit_synack", &["tcp_retransmit_synack"]),
    ("kfree_skb", &["kfree_skb"]),
    ("tcp_send_reset", &["tcp_send_reset"]),
    ("tcp_receive_reset", &["tcp_receive_reset"]),
];
const SYSTEM_CALL_EXITS: [&str; 2] = ["sys_exit_accept4", "sys_exit_accept"];
/// The interfaces of the target.
const INTERFACES: [&str; 2] = ["lo", "eth0"];

const INGRESS: &str = "tc_ingress";

/// The names of all programs.
pub fn programs() -> impl Iterator<Item = &'static str> {
    let typed = TYPED.iter().flat_map(|(_, programs)| programs.iter().copied());
    typed.chain(SYSTEM_CALL_EXITS).chain([INGRESS])
}

/// The programs, attached.
pub struct Floor {
    _programs: Ebpf,
    _timestamps: UdpSocket,
}

impl Floor {
    /// Attaches them all. What the kernel does not have is left out, as tracer leaves it out.
    pub fn attach(lab: &Lab) -> Result<Self> {
        let btf = Btf::from_sys_fs().context("cannot read the kernel's types")?;
        let object = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/empty"));
        let mut ebpf = EbpfLoader::new().load(object).context("cannot load the empty programs")?;
        let mut refused = Vec::new();
        for (tracepoint, programs) in TYPED {
            for name in programs {
                if let Err(error) = typed(&mut ebpf, name, tracepoint, &btf) {
                    refused.push(format!("{name}: {error:#}"));
                }
            }
        }
        for outcome in [system_call_exits(&mut ebpf), ingress(&mut ebpf, lab)] {
            refused.extend(outcome.err().map(|error| format!("{error:#}")));
        }
        ensure!(refused.len() < TYPED.len(), "the empty programs are refused: {}", refused.join("; "));
        for reason in refused {
            eprintln!("bench: without the empty program {reason}");
        }
        Ok(Self { _programs: ebpf, _timestamps: timestamps()? })
    }
}

impl Attached for Floor {
    fn detach(self: Box<Self>) -> Result<Told> {
        Ok(Told::default())
    }
}

fn typed(ebpf: &mut Ebpf, name: &str, tracepoint: &str, btf: &Btf) -> Result<()> {
    let program: &mut BtfTracePoint = ebpf.program_mut(name).context("not in the object")?.try_into()?;
    program.load(tracepoint, btf)?;
    program.attach()?;
    Ok(())
}

/// On a thread of its own, which gives itself a mount namespace with tracefs, where the tracepoints' numbers are.
fn system_call_exits(ebpf: &mut Ebpf) -> Result<()> {
    let attach = || {
        if !Path::new("/sys/kernel/tracing/events").exists() {
            // SAFETY: the thread is new: it shares nothing that depends on its mounts, nor a table of descriptors after.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.context("no mount namespace to be had")?;
            mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
            mount("tracefs", "/sys/kernel/tracing", "tracefs", MountFlags::empty(), None)?;
        }
        for name in SYSTEM_CALL_EXITS {
            let program: &mut TracePoint = ebpf.program_mut(name).context("not in the object")?.try_into()?;
            program.load()?;
            program.attach("syscalls", name).with_context(|| name.to_owned())?;
        }
        Ok(())
    };
    thread::scope(|scope| scope.spawn(attach).join()).map_err(|_| anyhow!("a thread panicked"))?
}

fn ingress(ebpf: &mut Ebpf, lab: &Lab) -> Result<()> {
    let program: &mut SchedClassifier = ebpf.program_mut(INGRESS).context("not in the object")?.try_into()?;
    program.load()?;
    lab.target.enter(|| {
        for interface in INTERFACES {
            let order = TcAttachOptions::TcxOrder(LinkOrder::first());
            program.attach_with_options(interface, TcAttachType::Ingress, order).context(INGRESS)?;
        }
        Ok(())
    })
}

/// A socket that asks for receive timestamps: the kernel then stamps every packet, as it does for tracer.
fn timestamps() -> Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("cannot make a socket")?;
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on))?;
    // SAFETY: an open socket and an int of the length given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, (&raw const on).cast(), length)
    };
    ensure!(result == 0, "no receive timestamps: {}", io::Error::last_os_error());
    Ok(socket)
}
