//! The maps: kernel memory that is taken for as long as tracer runs.

use anyhow::Result;
use lab::bpf::{self, Map};

use crate::{Bill, Scene};

const KIB: u64 = 1 << 10;

/// A map: its name, its type, the most bytes of a key and of a value, the most entries, and the most memory, KiB.
struct Budget(&'static str, &'static str, [u64; 3], u64);

/// The maps, by name. Sizes are what they are, memory is what was found on Linux 6.18, and a fifth added; that of per-CPU
/// maps does for 64 CPUs. Before 6.4 the kernel told what a map may take at most, not what it takes.
const BUDGETS: &[Budget] = &[
    Budget(".rodata", "array", [4, 640, 1], 2),
    Budget("ACCEPTS", "array", [4, 16, 32_768], 640),
    Budget("ACCEPTS_MORE", "hash", [8, 8, 65_536], 1250),
    Budget("ANSWERED", "lru_hash", [40, 16, 1024], 146),
    Budget("ARRIVALS", "hash", [20, 72, 256], 6),
    Budget("ARRIVED_PORTS", "array", [4, 8, 1024], 11),
    Budget("AT_LIMIT", "lru_hash", [8, 24, 256], 48),
    Budget("AYA_LOGS", "ringbuf", [0, 0, 128 << 10], 170),
    Budget("BY_PROCESS", "percpu_array", [4, 16, 1], 2),
    Budget("CLOSED", "array", [4, 112, 8192], 1100),
    Budget("CLOSED_LATEST", "array", [4, 8, 1], 2),
    Budget("CONNECTIONS", "sk_storage", [4, 344, 0], 2),
    Budget("COUNTERS", "percpu_array", [4, 8, 20], 12),
    Budget("GENERATION", "array", [4, 4, 1], 2),
    Budget("HANDSHAKES", "array", [4, 96, 32_768], 3700),
    Budget("INTERFACES", "hash", [4, 4, 64], 3),
    Budget("LISTENERS", "hash", [24, 32, 1024], 21),
    Budget("NAMESPACES", "hash", [4, 16, 1024], 21),
    Budget("PASSING", "array", [4, 72, 2048], 180),
    Budget("PEERS", "lpm_trie", [20, 4, 1024], 0),
    Budget("PORTS", "array", [4, 8, 1024], 11),
    Budget("REALTIME_OFFSET", "array", [4, 8, 1], 2),
    Budget("REASONS", "array", [4, 1, 256], 4),
    Budget("RECORDS", "ringbuf", [0, 0, 4 << 20], 4950),
    Budget("REJECTIONS", "hash", [56, 88, 4096], 78),
    Budget("REJECTIONS_BY_E", "hash", [56, 88, 256], 6),
    Budget("REJECTIONS_BY_L", "hash", [56, 88, 1024], 21),
    Budget("SCRATCH", "percpu_array", [4, 384, 3], 86),
    Budget("STRAY_SYNS", "array", [4, 8, 3], 2),
    Budget("WANTED_PORTS", "array", [4, 8, 1024], 11),
];

/// The most memory of all maps together, KiB.
const TOTAL: u64 = 10 << 10;

#[test]
fn maps_are_within_the_budget() -> Result<()> {
    let scene = Scene::new()?;
    let tracer = scene.trace(&[])?;
    let maps = bpf::maps(tracer.pid())?;
    tracer.stop()?;
    // An empty map that takes memory as it is filled takes some only where the kernel tells what may come.
    let is_known = maps.iter().any(|map| map.name == "PEERS" && map.memory == 0);
    if !is_known {
        println!("this kernel tells no memory of maps as it is");
        return Ok(());
    }
    let mut bill = Bill::default();
    for map in &maps {
        let Some(budget) = BUDGETS.iter().find(|budget| budget.0 == map.name) else {
            bill.objection(format!("no budget for {map:?}"));
            continue;
        };
        hold(map, budget, &mut bill);
    }
    let total = maps.iter().map(|map| map.memory).sum::<u64>();
    assert!(total > 0, "the kernel does not tell the maps' memory");
    bill.item("all maps, KiB", total.div_ceil(KIB), TOTAL);
    bill.assert_within();
    Ok(())
}

fn hold(map: &Map, &Budget(name, kind, [key, value, entries], memory): &Budget, bill: &mut Bill) {
    if map.kind != kind {
        bill.objection(format!("{name} is of type {}, its budget is for {kind}", map.kind));
    }
    bill.item(format_args!("{name}, bytes of a key"), map.key, key);
    bill.item(format_args!("{name}, bytes of a value"), map.value, value);
    bill.item(format_args!("{name}, entries"), map.entries, entries);
    bill.item(format_args!("{name}, KiB"), map.memory.div_ceil(KIB), memory);
}
