//! Model-based test of the driver: generates random plans and executes them on emulated cards, while a model of all memory predicts
//! every outcome.

mod card_model;
mod channel_end;
mod channel_model;
mod execute;
mod foreign_use;
mod generate;
mod host;
mod plan;
mod shadow;

use plan::Plan;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use std::cell::Cell;
use std::path::Path;

/// Plans per batch. The number of executed steps is checked after each batch.
const BATCH: u32 = 20;

/// Executes at least `steps` steps, in plans of up to 200, and returns how many were executed.
///
/// # Panics
///
/// If an outcome differs from the model. The message contains a minimal plan, for [`replay`].
pub fn run(steps: usize) -> usize {
    let config =
        Config { cases: BATCH, max_shrink_iters: 500, failure_persistence: None, ..Config::default() };
    let executed = Cell::new(0);
    while executed.get() < steps {
        let outcome = TestRunner::new(config.clone()).run(&generate::plans(200), |plan| {
            executed.set(executed.get() + plan.steps.len());
            execute::execute(&plan).map_err(TestCaseError::fail)
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(why, plan)) => {
                panic!("{why}\nthe plan: {}", serde_json::to_string(&plan).expect("a plan is plain data"))
            }
            Err(error) => panic!("{error}"),
        }
    }
    executed.get()
}

/// Executes the plan in a JSON file.
///
/// # Panics
///
/// If the file does not contain a plan, or an outcome differs from the model.
pub fn replay(path: &Path) {
    let text = std::fs::read(path).expect("the plan is readable");
    let plan: Plan = serde_json::from_slice(&text).expect("the file contains a plan");
    execute::execute(&plan).expect("every outcome is as the model predicts");
}
