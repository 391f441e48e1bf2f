//! Executes a million steps of the model-based test (`tests/model.rs`).
//!
//! `cargo bench --bench model [-- STEPS]`

use std::process::Command;
use std::time::Instant;
use xdma_testkit::model;

const STEPS: usize = 1_000_000;
/// Steps between two lines of output. They run in a separate process, because forgotten handles occupy memory for the life of a
/// process.
const BATCH: usize = 20_000;
/// Environment variable with the number of steps for such a process.
const STEPS_OF_BATCH: &str = "XDMA_MODEL_PART";

fn main() {
    if let Some(path) = std::env::var_os("XDMA_MODEL_PLAN") {
        return model::replay(path.as_ref());
    }
    if let Some(steps) = std::env::var(STEPS_OF_BATCH).ok().and_then(|steps| steps.parse().ok()) {
        model::run(steps);
        return;
    }
    let steps = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(STEPS);
    let (start, mut executed) = (Instant::now(), 0);
    while executed < steps {
        let batch = BATCH.min(steps - executed);
        let program = std::env::current_exe().expect("the path of this program is known");
        let ended = Command::new(program)
            .env(STEPS_OF_BATCH, batch.to_string())
            .status()
            .expect("this program can be started again");
        if !ended.success() {
            std::process::exit(1);
        }
        executed += batch;
        println!("{executed} steps in {:.0} s, all correct", start.elapsed().as_secs_f64());
    }
}
