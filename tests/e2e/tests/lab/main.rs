//! The lab does what it says: servers answer in both address families, injected delays are where they were asked for, and
//! nothing is left behind. Needs root. Upper bounds are loose: the host may be busy with other things.

mod cleanup;
mod peers;
mod target;

use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::target::{Options, Target};

/// A delay that is injected, and how much longer a busy host may make it: less, so that a delay shows in its place only.
const DELAY: Duration = Duration::from_millis(200);
const SLACK: Duration = Duration::from_millis(150);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Asserts that a measured time is the injected one, and not much more.
#[track_caller]
fn assert_injected(what: &str, measured_ns: Option<u64>, injected: Duration) {
    let measured = Duration::from_nanos(measured_ns.unwrap_or_else(|| panic!("{what} was not measured")));
    assert!(measured >= injected && measured < injected + SLACK, "{what}: {measured:?} instead of {injected:?}");
}

/// A target on port 8080 of the dual-stack wildcard.
fn start_target(lab: &Lab, change: impl FnOnce(&mut Options)) -> Result<Target> {
    let mut options = Options::listen(&["[::]:8080".parse()?]);
    change(&mut options);
    Target::start(lab, "target", &options)
}
