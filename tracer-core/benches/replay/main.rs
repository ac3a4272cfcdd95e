//! How fast a recording is replayed: ten million records through what `tracer report --summary` does, on one core.
//!
//! `cargo bench -p tracer-core --bench replay [-- --records N]` leaves its figures in `bench/replay.json` in the target
//! directory. The recording is a file without a name, so nothing of it stays, whatever ends this program.

#[path = "../common/traffic.rs"]
mod traffic;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::{
    env,
    ffi::CString,
    fs::{self, File},
    io::{self, BufReader},
    num::NonZeroU32,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tracer_core::{
    model::selection::Selection,
    output::terminal::Terminal,
    pipeline::{Events, Format, View},
    recording::write::Recorder,
    replay::{Show, replay},
};
use traffic::{CLOCK, Traffic, bytes, facts};

/// Connections at once.
const CONNECTIONS: u32 = 1_000;
/// Requests on each.
const REQUESTS: u32 = 100;
/// More than a record takes in a recording, in bytes.
const BYTES_A_RECORD: u64 = 256;

#[derive(Parser)]
struct Args {
    /// Records in the recording
    #[arg(long, default_value = "10000000")]
    records: NonZeroU32,
    /// `cargo bench` adds it
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(serde::Serialize)]
struct Figures {
    records: u32,
    records_per_second: u64,
    nanoseconds_per_record: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.bench {
        println!("nothing is measured without --bench, which cargo bench adds");
        return Ok(());
    }
    let records = args.records.get();
    let directory = target().join("bench");
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    ensure_space(&directory, u64::from(records) * BYTES_A_RECORD)?;
    let file = tempfile::tempfile_in(&directory).with_context(|| format!("a file in {}", directory.display()))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    eprintln!("writing a recording of {records} records to {}", directory.display());
    let time = record(&path, records)?;
    eprintln!("written in {:.1} s, {} MB; replaying it", time.as_secs_f64(), size(&file)? / 1_000_000);
    let (wall, processor) = measure(&path)?;
    let nanoseconds_per_record = u64::try_from(wall.as_nanos() / u128::from(records))?;
    let records_per_second = u64::try_from(u128::from(records) * 1_000_000_000 / wall.as_nanos().max(1))?;
    println!(
        "{records} records in {:.2} s ({:.2} s of processor time): {records_per_second} a second, {nanoseconds_per_record} ns each",
        wall.as_secs_f64(),
        processor.as_secs_f64()
    );
    let json = serde_json::to_string(&Figures { records, records_per_second, nanoseconds_per_record })?;
    let result = directory.join("replay.json");
    fs::write(&result, json + "\n").with_context(|| format!("writing {}", result.display()))
}

/// Where cargo builds.
fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// An error where `directory` has no room for `needed` bytes.
fn ensure_space(directory: &Path, needed: u64) -> Result<()> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: zeros are a valid value for a struct of integers.
    let mut space: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a path that ends with NUL, and a struct that is valid for writes; both outlive the call.
    let result = unsafe { libc::statvfs(path.as_ptr(), &raw mut space) };
    ensure!(result == 0, "looking for space in {}: {}", directory.display(), io::Error::last_os_error());
    let free = space.f_bavail * space.f_frsize;
    ensure!(
        free >= needed,
        "the recording needs {} MB in {}, which has {} MB: set CARGO_TARGET_DIR, or ask for fewer --records",
        needed / 1_000_000,
        directory.display(),
        free / 1_000_000
    );
    Ok(())
}

/// Writes the recording; returns what that took.
fn record(path: &Path, records: u32) -> Result<Duration> {
    let began = Instant::now();
    let mut recorder = Recorder::create(path, CLOCK)?;
    facts().try_for_each(|fact| recorder.fact(&fact))?;
    Traffic::new(CONNECTIONS, REQUESTS)
        .take(records as usize)
        .try_for_each(|record| recorder.record(bytes(&record)))?;
    recorder.end(None)?;
    Ok(began.elapsed())
}

fn size(file: &File) -> Result<u64> {
    Ok(file.metadata().context("the size of the recording")?.len())
}

/// Replays the recording; returns what that took: of time, and of this thread's time on a processor.
fn measure(path: &Path) -> Result<(Duration, Duration)> {
    let (began, processor) = (Instant::now(), thread_time()?);
    let view = View { events: Events::None, format: Format::Text(Terminal::default()) };
    let show = Show { selection: Selection::default(), view, min: 0, limits: None };
    replay(BufReader::with_capacity(1 << 16, File::open(path)?), &show, io::stdout().lock())?;
    let (wall, processor) = (began.elapsed(), thread_time()?.saturating_sub(processor));
    Ok((wall, processor))
}

fn thread_time() -> Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes for the duration of the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    ensure!(result == 0, "reading the thread's clock: {}", io::Error::last_os_error());
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}
