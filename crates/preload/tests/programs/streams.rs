//! AXI-Stream channels, looped back.

use crate::support::{Bench, check};

#[test]
fn packets_keep_their_ends() {
    let bench = Bench::streams();
    let program = bench.compile("packets");
    check(bench.command(program).output().unwrap());
    assert_eq!(bench.broker.open_files(), 0);
}
