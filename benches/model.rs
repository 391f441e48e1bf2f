//! A million steps of the model-based test (`tests/model`): random calls and faults, every byte accounted for.
//!
//! `cargo bench --bench model [-- STEPS]`

#[path = "../tests/model/controls.rs"]
mod controls;
#[path = "../tests/model/ending.rs"]
mod ending;
#[path = "../tests/model/foreign.rs"]
mod foreign;
#[path = "../tests/model/generate.rs"]
mod generate;
#[path = "../tests/model/host.rs"]
mod host;
#[path = "../tests/model/lane.rs"]
mod lane;
#[path = "../tests/model/plan.rs"]
mod plan;
#[path = "../tests/model/run.rs"]
mod run;
#[path = "../tests/model/shadow.rs"]
mod shadow;
#[path = "../tests/model/site.rs"]
mod site;
#[path = "../tests/model/world.rs"]
mod world;

use std::time::Instant;

const STEPS: usize = 1_000_000;
/// Steps between two lines of output.
const LINE: usize = 50_000;

fn main() {
    if let Some(path) = std::env::var_os("XDMA_MODEL_PLAN") {
        return run::replay(path.as_ref());
    }
    let steps = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(STEPS);
    let (start, mut taken) = (Instant::now(), 0);
    while taken < steps {
        taken += run::run(LINE.min(steps - taken));
        println!("{taken} steps in {:.0} s, none wrong", start.elapsed().as_secs_f64());
    }
}
