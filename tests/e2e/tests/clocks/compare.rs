//! Differences between two clocks.

use std::fmt;

use lab::tracer::Trace;

/// Asserts that nothing was lost, nothing merged, and that the stages add up.
pub fn assert_whole(trace: &Trace, requests: usize) {
    assert_eq!(trace.requests.len(), requests, "{:#?}", trace.status);
    assert_eq!(trace.status.records_lost, Some(0), "{:#?}", trace.status);
    for request in &trace.requests {
        assert_eq!(request.total_ns, Some(request.sum_ns()), "{request:#?}");
        assert!(request.merged.is_empty() && request.completed.is_none(), "{request:#?}");
    }
}

/// The absolute differences between two clocks, nanoseconds.
#[derive(Debug)]
pub struct Differences {
    name: &'static str,
    sorted: Vec<u64>,
}

impl Differences {
    pub fn new(name: &'static str, mut differences: Vec<u64>) -> Self {
        assert!(differences.len() >= 200, "{name}: only {} were compared", differences.len());
        differences.sort_unstable();
        Self { name, sorted: differences }
    }

    pub fn percentile(&self, percent: usize) -> u64 {
        self.sorted[(self.sorted.len() - 1) * percent / 100]
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let micro = |percent| self.percentile(percent).div_ceil(1000);
        let (name, count) = (self.name, self.sorted.len());
        write!(formatter, "{name}: p50 {} us, p95 {} us, max {} us of {count}", micro(50), micro(95), micro(100))
    }
}
