//! AXI-Stream channels in loopback.

use crate::support::{Bench, check};

#[test]
fn packet_boundaries_are_preserved() {
    for bench in Bench::all_with_streams() {
        let program = bench.compile("packets.c");
        check(bench.command(program).output().unwrap());
        bench.check_closed();
    }
}
