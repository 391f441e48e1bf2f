//! Makes plans and carries them out.

mod ending;
mod foreign;
mod generate;
mod host;
mod lane;
mod plan;
mod shadow;
mod site;
mod world;

use plan::Plan;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use std::cell::Cell;
use std::path::Path;

/// Sequences between two looks at how many steps were taken.
const BATCH: u32 = 20;

/// Takes at least so many steps, in sequences of up to 200; how many they were. Panics with a plan to replay.
pub fn run(steps: usize) -> usize {
    let config =
        Config { cases: BATCH, max_shrink_iters: 500, failure_persistence: None, ..Config::default() };
    let taken = Cell::new(0);
    while taken.get() < steps {
        let outcome = TestRunner::new(config.clone()).run(&generate::plans(200), |plan| {
            taken.set(taken.get() + plan.steps.len());
            world::carry_out(&plan).map_err(TestCaseError::fail)
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(why, plan)) => {
                panic!("{why}\nthe plan: {}", serde_json::to_string(&plan).expect("a plan is plain data"))
            }
            Err(error) => panic!("{error}"),
        }
    }
    taken.get()
}

/// Carries out the plan in a file.
pub fn replay(path: &Path) {
    let plan: Plan =
        serde_json::from_slice(&std::fs::read(path).expect("the plan is there")).expect("it is a plan");
    world::carry_out(&plan).expect("all is as it should be");
}
