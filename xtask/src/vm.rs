//! `vm`: the release binary on other kernels. Boots Debian's cloud kernels under QEMU, without hardware acceleration,
//! runs a script or a command in each and reads the result from the serial console.

mod apt;
mod host;
mod image;
mod initramfs;
mod kernel;
mod modules;
mod qemu;
mod rejections;
mod transcript;
mod verdict;

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use self::{
    image::Image,
    initramfs::File,
    kernel::{Kernel, Series},
    verdict::Verdict,
};
use crate::{arch::Arch, build, elf, paths, setup};

/// The test that runs in the machine.
const TEST: &str = include_str!("vm/guest.sh");

/// Seconds that a machine may take, unless told: three times what the slowest needs on a host that does nothing else.
const LIMIT: u64 = 420;

/// Arguments of `vm`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Only this kernel; may be repeated
    #[arg(long, value_enum)]
    kernel: Vec<Series>,
    /// Only this architecture; may be repeated
    #[arg(long, value_enum)]
    arch: Vec<Arch>,
    /// Also put this static program into /bin of the machines; may be repeated
    #[arg(long, value_name = "FILE")]
    put: Vec<PathBuf>,
    /// Keep each console as target/kernels/<arch>-<kernel>.log
    #[arg(long)]
    keep_log: bool,
    /// Look for newer kernels in Debian's archive
    #[arg(long)]
    update: bool,
    /// Seconds after which a machine is killed
    #[arg(long, default_value_t = LIMIT, value_name = "SECONDS")]
    timeout: u64,
    /// Run this shell command in each machine instead of the test, and print what it prints
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Args {
    /// The kernels that a quick test run boots: the oldest and the newest.
    pub fn ends() -> Self {
        Self { kernel: vec![Series::V6_1, Series::Newest], arch: vec![Arch::Amd64], timeout: LIMIT, ..Self::default() }
    }

    fn kernels(&self) -> Vec<Kernel> {
        let wanted = |kernel: &&Kernel| {
            (self.kernel.is_empty() || self.kernel.contains(&kernel.series))
                && (self.arch.is_empty() || self.arch.contains(&kernel.arch))
        };
        kernel::ALL.iter().filter(wanted).copied().collect()
    }
}

/// Boots each kernel that the arguments ask for and returns how many there were. An error when one of them failed.
pub fn run(args: &Args) -> Result<usize> {
    let kernels = args.kernels();
    ensure!(!kernels.is_empty(), "no such kernel: {}", kernel::ALL.map(|kernel| kernel.to_string()).join(", "));
    setup::run()?;
    image::fetch(&kernels, args.update)?;
    let mut failed = 0;
    for arch in Arch::ALL {
        let of_arch: Vec<Kernel> = kernels.iter().copied().filter(|kernel| kernel.arch == arch).collect();
        if of_arch.is_empty() {
            continue;
        }
        let files = files_for(arch, args)?;
        for kernel in of_arch {
            let boot = || boot(kernel, &files, args).with_context(|| format!("kernel {kernel}"));
            let mut passed = boot()?;
            if !passed && args.command.is_empty() {
                // The emulation is slow, and its clock is the busy host's: what is wrong is wrong twice.
                println!("once more:");
                passed = boot()?;
            }
            failed += usize::from(!passed);
        }
    }
    if failed > 0 {
        bail!("{failed} of {} kernels failed", kernels.len());
    }
    Ok(kernels.len())
}

/// What to put into machines of one architecture: tracer, the tests, and what the arguments name.
fn files_for(arch: Arch, args: &Args) -> Result<Vec<File>> {
    let given = env::var_os("TRACER_BIN").map(PathBuf::from);
    let tracer = match given {
        Some(path) if is_for(arch, &path)? => path,
        _ => build::release(arch)?,
    };
    let mut files = rejections::files(arch)?;
    files.push(File { from: tracer, to: "/bin/tracer".into() });
    for path in &args.put {
        if is_for(arch, path)? {
            let name = path.file_name().with_context(|| format!("{} is not a file", path.display()))?;
            files.push(File { from: path.clone(), to: Path::new("/bin").join(name) });
        }
    }
    Ok(files)
}

/// Whether a program is for this architecture. An error when it can run in no machine at all.
fn is_for(arch: Arch, program: &Path) -> Result<bool> {
    let elf = elf::read(program)?;
    ensure!(elf.is_static, "{} is not static: the machine has no libraries for it", program.display());
    Ok(elf.machine == arch.elf_machine())
}

/// Boots one kernel, prints its line, and tells whether it passed.
fn boot(kernel: Kernel, files: &[File], args: &Args) -> Result<bool> {
    let image = Image::open(kernel)?;
    let temporary = tempfile::tempdir_in(paths::kernels())?;
    let limit = Duration::from_secs(args.timeout);
    let boot = |job: &str, on_line: &mut dyn FnMut(&str)| {
        let initramfs = initramfs::pack(&image, files, job, temporary.path())?;
        qemu::run(kernel.arch, &image, &initramfs, limit, on_line)
    };
    let (run, verdict);
    if args.command.is_empty() {
        let suites = rejections::suites_for(kernel);
        run = boot(&test_job(suites), &mut |_| {})?;
        verdict = Verdict::of_test(&run, kernel, suites.iter().map(|(_, tests)| tests.len()).sum());
    } else {
        println!("--- {}", image.release);
        let mut output = transcript::Output::of("command");
        run = boot(&command_job(&args.command.join(" ")), &mut |line| {
            output.lines(line).for_each(|line| println!("{line}"));
        })?;
        verdict = Verdict::of_command(&run);
    }
    println!("{}", verdict.line(&image.release));
    if args.keep_log || !verdict.passed() {
        let log = paths::kernels().join(format!("{}-{}.log", kernel.arch.debian(), kernel.series));
        fs::write(&log, run.console.join("\n") + "\n").with_context(|| format!("cannot write {}", log.display()))?;
        println!("    console: {}", log.display());
    }
    Ok(verdict.passed())
}

/// A job that runs the test, and in it these tests of rejections.
fn test_job(suites: &[rejections::Suite]) -> String {
    let lines = suites.iter().map(|(name, tests)| format!("{name} {}\n", tests.join(" ")));
    format!("SUITES='{}'\n{TEST}", lines.collect::<String>())
}

/// A job that runs one command of the shell.
fn command_job(command: &str) -> String {
    format!("section command sh -c '{}'\n", command.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_chosen_by_series_and_architecture() {
        let chosen = |kernel: &[Series], arch: &[Arch]| {
            Args { kernel: kernel.to_vec(), arch: arch.to_vec(), ..Args::default() }.kernels().len()
        };
        assert_eq!(chosen(&[], &[]), 6);
        assert_eq!(chosen(&[Series::V6_1], &[]), 2);
        assert_eq!(chosen(&[Series::V6_1, Series::Newest], &[Arch::Amd64]), 2);
        assert_eq!(chosen(&[Series::Newest], &[Arch::Arm64]), 0);
        assert_eq!(Args::ends().kernels().len(), 2);
    }

    #[test]
    fn a_command_reaches_the_shell_as_typed() {
        assert_eq!(command_job("echo 'a b'; id"), "section command sh -c 'echo '\\''a b'\\''; id'\n");
    }
}
