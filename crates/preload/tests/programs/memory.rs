//! Programs and the memory that they allocate, map and inherit.

use crate::support::Bench;

#[test]
fn allocations_keep_their_promises() {
    for bench in Bench::all_with_memory() {
        bench.run_checks("memory.c", &["limits", "guards", "replaced", "discarded", "locked", "threads"]);
    }
}

/// The memory of a child process is its own, whatever its parent shared with the driver.
#[test]
fn a_child_keeps_its_memory() {
    for bench in Bench::all_with_memory() {
        bench.run_checks("memory.c", &["child"]);
        bench.check_closed();
    }
}
