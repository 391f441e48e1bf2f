//! Every function has a test of success and one of misuse, and is called at random.

use crate::support::root;
use std::fs;

/// Functions without errors.
const INFALLIBLE: [&str; 3] = ["xdma_last_error", "xdma_status_name", "xdma_version"];

/// Functions that are not among the random calls: they take no handle.
const UNRANDOM: [&str; 3] = ["xdma_log", "xdma_status_name", "xdma_version"];

#[test]
fn every_function_is_tested_with_success_and_with_misuse() {
    let map = fs::read_to_string(root().join("xdma.map")).unwrap();
    let functions: Vec<&str> = map
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';'))
        .filter(|name| name.starts_with("xdma_"))
        .collect();
    assert!(functions.len() > 60, "{functions:?}");
    let sources = ["memory", "streams", "msm", "threads", "diagnosis"];
    let text =
        sources.map(|name| fs::read_to_string(root().join(format!("tests/programs/{name}.c"))).unwrap());
    let text = text.concat();
    let random = fs::read_to_string(root().join("tests/programs/random.c")).unwrap();
    for name in functions {
        let call = format!("{name}(");
        assert!(UNRANDOM.contains(&name) || random.contains(&call), "{name} is not among the random calls");
        if INFALLIBLE.contains(&name) {
            assert!(text.contains(&call), "{name} is not called");
            continue;
        }
        // The status of a poll is stored, then checked.
        let succeeds = ["OK(", "status = "].iter().any(|before| text.contains(&format!("{before}{call}")));
        assert!(succeeds, "{name} has no test of success");
        let fails =
            text.lines().any(|line| line.trim().starts_with("FAILS(") && line.contains(&format!(", {call}")));
        assert!(fails, "{name} has no test of misuse");
    }
}
