//! The tallies of accept queues: those that are used least make way while tracing.

use std::time::{Duration, Instant};

use aya::{
    Ebpf,
    maps::{HashMap, MapError},
};
use tracer_common::rejection::{ListenerKey, ListenerTally};

use super::map_mut;

/// How often the tallies are looked at. To walk over all of them takes a millisecond.
const INTERVAL: Duration = Duration::from_secs(10);
/// More than this many leave too little room for those that come until the next look.
const MOST: usize = 768;
/// How many are left then.
const LEFT: usize = 512;

/// When the tallies of accept queues were last looked at.
#[derive(Debug)]
pub struct AcceptQueues(Instant);

impl Default for AcceptQueues {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl AcceptQueues {
    /// If there are too many tallies, removes those for which no SYN has come for the longest time, and returns them. A SYN that
    /// comes for such a listener within the same microseconds may be missing in its tally.
    pub fn take(&mut self, ebpf: &mut Ebpf) -> Result<Vec<(ListenerKey, ListenerTally)>, MapError> {
        if self.0.elapsed() < INTERVAL {
            return Ok(Vec::new());
        }
        self.0 = Instant::now();
        let mut map: HashMap<_, ListenerKey, ListenerTally> = HashMap::try_from(map_mut(ebpf, "LISTENERS")?)?;
        let mut idle = least_used(map.iter().collect::<Result<_, _>>()?);
        // A tally that could not be removed is still counted in, and is looked at again.
        idle.retain(|(key, _)| map.remove(key).is_ok());
        Ok(idle)
    }
}

/// All but [`LEFT`] of `all`, if there are more than [`MOST`].
fn least_used(mut all: Vec<(ListenerKey, ListenerTally)>) -> Vec<(ListenerKey, ListenerTally)> {
    if all.len() <= MOST {
        return Vec::new();
    }
    all.sort_unstable_by_key(|(_, tally)| tally.last);
    all.truncate(all.len() - LEFT);
    all
}

#[cfg(test)]
mod tests {
    use tracer_common::endpoint::Endpoint;

    use super::*;

    fn listeners(number: usize) -> Vec<(ListenerKey, ListenerTally)> {
        let listener = |netns: usize| {
            let key = ListenerKey { netns: u32::try_from(netns).unwrap(), local: Endpoint::v4([10, 0, 0, 1], 80) };
            // In another order than the keys.
            (key, ListenerTally { last: (netns * 7919 % number) as u64, ..ListenerTally::default() })
        };
        (0..number).map(listener).collect()
    }

    #[test]
    fn those_that_were_used_last_stay() {
        assert!(least_used(listeners(MOST)).is_empty());
        let idle = least_used(listeners(MOST + 1));
        assert_eq!(idle.len(), MOST + 1 - LEFT);
        assert!(idle.iter().all(|(_, tally)| tally.last < (MOST + 1 - LEFT) as u64));
    }
}
