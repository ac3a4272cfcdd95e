//! One virtual machine: QEMU without hardware acceleration, so that it runs wherever the developer is.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::image::Image;
use crate::arch::Arch;

/// How a machine ended, and all that it wrote to its console.
pub struct Run {
    /// Lines of the console, without line ends.
    pub console: Vec<String>,
    /// From the start of QEMU to the first line of the first process.
    pub boot: Option<Duration>,
    /// It was killed because it took too long.
    pub timed_out: bool,
}

/// Boots a kernel with an initramfs, calls `on_line` for each line of the console, and waits for power off.
pub fn run(arch: Arch, image: &Image, initramfs: &Path, limit: Duration, mut on_line: impl FnMut(&str)) -> Result<Run> {
    let started = Instant::now();
    let mut machine = Machine::start(command(arch, image, initramfs))?;
    let lines = machine.console()?;
    let mut run = Run { console: Vec::new(), boot: None, timed_out: false };
    loop {
        match lines.recv_timeout(limit.saturating_sub(started.elapsed())) {
            Ok(line) => {
                if run.boot.is_none() && line == "@@ booted" {
                    run.boot = Some(started.elapsed());
                }
                on_line(&line);
                run.console.push(line);
            }
            Err(RecvTimeoutError::Timeout) => {
                run.timed_out = true;
                return Ok(run);
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(run),
        }
    }
}

fn command(arch: Arch, image: &Image, initramfs: &Path) -> Command {
    let (qemu, machine, cpu, console) = match arch {
        // With cmpxchg16b (cx16) kernels crash at random under QEMU 7.2 on a busy machine: 5 of 6 boots of 6.12, and 0 of 10
        // without. The oopses show nonsense in EFLAGS; the cause in QEMU is not known.
        Arch::Amd64 => ("qemu-system-x86_64", "pc", "max,cx16=off", "ttyS0"),
        // The architected algorithm of pointer authentication is very slow to emulate.
        Arch::Arm64 => ("qemu-system-aarch64", "virt", "max,pauth-impdef=on", "ttyAMA0"),
    };
    // One thread: with one a processor, a kernel that patches its own code (static keys, such as the one for packet
    // stamps) now and then runs the half of an instruction on the other processor, and panics.
    // setpriv: QEMU dies with this process, however that ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", qemu, "-machine", machine, "-accel", "tcg,thread=single", "-cpu", cpu]);
    command.args(["-m", "1G", "-smp", "2", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    // slab_debug: from 7.0 the kernel allocates socket storage with kmalloc_nolock(), which wants either cmpxchg16b,
    // which this emulation lacks and every machine has, or slabs with debugging on.
    command.args(["-append", &format!("console={console} loglevel=1 oops=panic panic=-1 slab_debug=F")]);
    command.arg("-kernel").arg(&image.vmlinuz).arg("-initrd").arg(initramfs);
    command
}

/// A running QEMU; killed when dropped.
struct Machine(Child);

impl Machine {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn().context("cannot run setpriv and QEMU; `cargo xtask setup` installs them")?;
        Ok(Self(child))
    }

    /// The lines of the console. The channel closes when QEMU ends.
    fn console(&mut self) -> Result<mpsc::Receiver<String>> {
        let mut console = BufReader::new(self.0.stdout.take().context("the console is read already")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            while console.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
                let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
                bytes.clear();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(lines)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Fails only for a process that has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
