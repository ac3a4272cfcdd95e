//! The kernel side's tallies, read from its maps, and taken out of them while tracing.

use std::{
    hash::Hash,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, MapError},
};
use tracer_common::{
    rejection::{Key, Stray, Tally},
    settings::port_bit,
};
use tracer_core::model::tallies::Tallies;

use super::map_mut;

/// Reads all tallies.
pub fn read(ebpf: &Ebpf) -> Result<Tallies, MapError> {
    Ok(Tallies {
        rejections: REJECTIONS.into_iter().try_fold(Vec::new(), |mut all, name| {
            all.extend(entries(ebpf, name)?);
            Ok::<_, MapError>(all)
        })?,
        listeners: entries(ebpf, "LISTENERS")?,
        arrivals: entries(ebpf, "ARRIVALS")?,
        unheard: has_stray(ebpf, Stray::Nobody)?,
        resent: has_stray(ebpf, Stray::Connection)?,
        arrived: ports(ebpf, "ARRIVED_PORTS")?,
        namespaces: entries(ebpf, "NAMESPACES")?,
    })
}

/// The maps that hold tallies of rejections.
const REJECTIONS: [&str; 3] = ["REJECTIONS", "REJECTIONS_BY_LISTENER", "REJECTIONS_BY_EVENT"];
/// From this many keys on, a generation ends at once: there has to be room for the next ones.
const CROWD: usize = 256;
/// A generation with fewer keys ends after this time.
const LONGEST: Duration = Duration::from_secs(30);

/// The generations of the tallies of rejections: the current one is counted, the one before is taken out of the maps.
#[derive(Debug)]
pub struct Generations {
    current: u8,
    began: Instant,
}

impl Default for Generations {
    fn default() -> Self {
        Self { current: 0, began: Instant::now() }
    }
}

impl Generations {
    /// Takes out what the generation before the current one has counted, and begins a new one if it is time. To be called
    /// a few times per second: between two calls every program that still counted in the old generation has ended.
    pub fn take(&mut self, ebpf: &mut Ebpf) -> Result<Vec<(Key, Tally)>, MapError> {
        let mut taken = Vec::new();
        match self.take_into(&mut taken, ebpf) {
            // What is no longer in the maps must not be lost. The next call says the same.
            Err(error) if taken.is_empty() => Err(error),
            _ => Ok(taken),
        }
    }

    fn take_into(&mut self, taken: &mut Vec<(Key, Tally)>, ebpf: &mut Ebpf) -> Result<(), MapError> {
        let mut counted = 0;
        for name in REJECTIONS {
            let mut map: HashMap<_, Key, Tally> = HashMap::try_from(map_mut(ebpf, name)?)?;
            let keys = map.keys().collect::<Result<Vec<_>, _>>()?;
            for key in keys {
                if key.generation() == self.current {
                    counted += 1;
                } else {
                    let tally = map.get(&key, 0)?;
                    map.remove(&key)?;
                    taken.push((key, tally));
                }
            }
        }
        // One generation at most waits to be taken out.
        if taken.is_empty() && (counted >= CROWD || (counted != 0 && self.began.elapsed() >= LONGEST)) {
            self.begin(ebpf)?;
        }
        Ok(())
    }

    fn begin(&mut self, ebpf: &mut Ebpf) -> Result<(), MapError> {
        let next = self.current.wrapping_add(1);
        let mut map: Array<_, u32> = Array::try_from(map_mut(ebpf, "GENERATION")?)?;
        map.set(0, u32::from(next), 0)?;
        (self.current, self.began) = (next, Instant::now());
        Ok(())
    }
}

/// Whether a SYN came that no listener got.
fn has_stray(ebpf: &Ebpf, stray: Stray) -> Result<bool, MapError> {
    let map = ebpf.map("STRAY_SYNS").ok_or_else(|| MapError::IoError(std::io::ErrorKind::NotFound.into()))?;
    Ok(Array::<_, u64>::try_from(map)?.get(&(stray as u32), 0)? != 0)
}

/// The ports in a set of bits.
fn ports(ebpf: &Ebpf, name: &str) -> Result<Vec<u16>, MapError> {
    let map = ebpf.map(name).ok_or_else(|| MapError::IoError(std::io::ErrorKind::NotFound.into()))?;
    let words = Array::<_, u64>::try_from(map)?.iter().collect::<Result<Vec<_>, _>>()?;
    let is_in = |port: &u16| {
        let (word, bit) = port_bit(*port);
        words.get(word as usize).is_some_and(|bits| bits & bit != 0)
    };
    Ok((0..=u16::MAX).filter(is_in).collect())
}

fn entries<K: Pod + Eq + Hash, V: Pod>(ebpf: &Ebpf, name: &str) -> Result<Vec<(K, V)>, MapError> {
    let map = ebpf.map(name).ok_or_else(|| MapError::IoError(std::io::ErrorKind::NotFound.into()))?;
    HashMap::<_, K, V>::try_from(map)?.iter().collect()
}
