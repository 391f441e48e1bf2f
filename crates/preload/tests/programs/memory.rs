//! Programs and the memory that they allocate, map and inherit.

use crate::support::{Bench, check, library};
use std::process::Command;

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

/// The runtimes of sanitizers, for example, use the C library before this library is initialized.
#[test]
fn libraries_that_start_earlier_work() {
    let folder = tempfile::tempdir().unwrap();
    let early = folder.path().join("early.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/early.c");
    check(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&early).arg(source).output().unwrap());
    for bench in Bench::all_with_memory() {
        let preload = format!("{}:{}", library().display(), early.display());
        check(bench.command("true").env("LD_PRELOAD", preload).output().unwrap());
    }
}
