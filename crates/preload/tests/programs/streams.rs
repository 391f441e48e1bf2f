//! AXI-Stream channels in loopback.

use crate::support::{Bench, check};

#[test]
fn packet_boundaries_are_preserved() {
    let bench = Bench::streams();
    let program = bench.compile("packets.c");
    check(bench.command(program).output().unwrap());
    assert_eq!(bench.broker.open_files(), 0);
}
