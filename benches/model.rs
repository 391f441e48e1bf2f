//! A million steps of the model-based test (`tests/model.rs`): random calls and faults, every byte accounted for.
//!
//! `cargo bench --bench model [-- STEPS]`

use std::process::Command;
use std::time::Instant;
use xdma_testkit::model;

const STEPS: usize = 1_000_000;
/// Steps between two lines of output. They have a process for themselves, since what they forget stays for the life of a process.
const LINE: usize = 20_000;
/// Names the steps of such a process.
const PART: &str = "XDMA_MODEL_PART";

fn main() {
    if let Some(path) = std::env::var_os("XDMA_MODEL_PLAN") {
        return model::replay(path.as_ref());
    }
    if let Some(steps) = std::env::var(PART).ok().and_then(|steps| steps.parse().ok()) {
        model::run(steps);
        return;
    }
    let steps = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(STEPS);
    let (start, mut taken) = (Instant::now(), 0);
    while taken < steps {
        let part = LINE.min(steps - taken);
        let this = std::env::current_exe().expect("this program has a path");
        let ended = Command::new(this).env(PART, part.to_string()).status().expect("it can be run again");
        if !ended.success() {
            std::process::exit(1);
        }
        taken += part;
        println!("{taken} steps in {:.0} s, none wrong", start.elapsed().as_secs_f64());
    }
}
