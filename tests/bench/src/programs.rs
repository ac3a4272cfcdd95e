//! BPF programs and maps that a side holds, with what the kernel counts of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context as _, Result};
use aya::programs::loaded_programs;
use serde::{Deserialize, Serialize};

/// The programs and maps that a process holds through its file descriptors.
#[derive(Debug, Default)]
pub struct Held {
    programs: BTreeSet<u32>,
    /// Bytes of kernel memory, by map.
    maps: BTreeMap<u32, u64>,
}

/// What the kernel says of a program.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Program {
    /// The kernel's number of it.
    pub id: u32,
    /// Its name: as many letters as the kernel keeps, 15.
    pub name: String,
    /// How often it ran while the kernel counted.
    pub runs: u64,
    /// How long that took, nanoseconds; with two readings of the clock for each run.
    pub time_ns: u64,
    /// Instructions that the verifier looked at until it was content.
    pub verified: u32,
    /// Bytes of machine code.
    pub jitted: u32,
}

impl Held {
    /// By the process `pid`, at this moment.
    ///
    /// # Errors
    /// Where there is no such process.
    pub fn by(pid: u32) -> Result<Self> {
        let mut held = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).with_context(|| format!("no process {pid}"))?.flatten()
        {
            // It may have been closed since it was listed.
            held.add(&fs::read_to_string(entry.path()).unwrap_or_default());
        }
        Ok(held)
    }

    /// Adds what the kernel says of a file descriptor: lines of a name, a colon and a value.
    fn add(&mut self, info: &str) {
        let number = |name: &str| {
            let mut lines = info.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| *key == name)?.1.trim().parse::<u64>().ok()
        };
        let id = |name: &str| number(name).and_then(|id| u32::try_from(id).ok());
        self.programs.extend(id("prog_id"));
        if let Some(map) = id("map_id") {
            self.maps.insert(map, number("memlock").unwrap_or(0));
        }
    }

    /// The programs, with what the kernel has counted of them until now.
    pub fn programs(&self) -> Vec<Program> {
        // Another's program may go while they are listed.
        let held = loaded_programs().flatten().filter(|program| self.programs.contains(&program.id()));
        held.map(|program| Program {
            id: program.id(),
            name: program.name_as_str().unwrap_or("?").to_owned(),
            runs: program.run_count(),
            time_ns: u64::try_from(program.run_time().as_nanos()).unwrap_or(u64::MAX),
            verified: program.verified_instruction_count().unwrap_or(0),
            jitted: program.size_jitted(),
        })
        .collect()
    }

    /// Kernel memory of the maps, bytes. What the state of a connection takes is not in it: the kernel counts that with
    /// its socket.
    pub fn map_bytes(&self) -> u64 {
        self.maps.values().sum()
    }
}

/// What the programs did between two moments; those of the same name together, as long names look alike.
pub fn between(earlier: &[Program], later: Vec<Program>) -> Vec<Program> {
    let mut programs: Vec<Program> = Vec::new();
    for mut program in later {
        if let Some(before) = earlier.iter().find(|before| before.id == program.id) {
            program.runs -= before.runs;
            program.time_ns -= before.time_ns;
        }
        match programs.iter_mut().find(|it| it.name == program.name) {
            Some(other) => {
                other.runs += program.runs;
                other.time_ns += program.time_ns;
                other.verified = other.verified.max(program.verified);
                other.jitted = other.jitted.max(program.jitted);
            }
            None => programs.push(program),
        }
    }
    programs
}

#[cfg(test)]
mod tests {
    use super::{Held, Program, between};

    #[test]
    fn what_a_process_holds_is_read_from_its_descriptors() {
        let mut held = Held::default();
        held.add("pos:\t0\nprog_type:\t26\nmemlock:\t4096\nprog_id:\t7\n");
        held.add("link_type:\ttracing\nprog_id:\t7\n");
        held.add("map_type:\t1\nmemlock:\t524288\nmap_id:\t3\n");
        held.add("map_type:\t1\nmemlock:\t524288\nmap_id:\t3\n");
        held.add("pos:\t0\nflags:\t02\n");
        assert_eq!(
            (held.programs.into_iter().collect::<Vec<_>>(), held.maps.values().sum::<u64>()),
            (vec![7], 524_288)
        );
    }

    fn program(id: u32, name: &str, runs: u64, time_ns: u64) -> Program {
        Program { id, name: name.to_owned(), runs, time_ns, verified: 1, jitted: 1 }
    }

    #[test]
    fn only_what_happened_between_the_moments_counts() {
        let later = vec![program(1, "a", 15, 180), program(2, "b", 3, 30), program(3, "b", 4, 40)];
        let counted = between(&[program(1, "a", 10, 100), program(2, "b", 1, 10)], later);
        let counted: Vec<_> = counted.iter().map(|it| (&*it.name, it.runs, it.time_ns)).collect();
        assert_eq!(counted, [("a", 5, 80), ("b", 6, 60)]);
    }
}
