//! Model-based test: executes random calls on several cards, with random faults, and compares the results with a simple model. The
//! model predicts every byte of host and card memory and the outcome of every transfer. No error may occur without a cause.
//!
//! Channels, buffers, programs and cards are closed, dropped, forgotten and opened again at any time and under any fault. If a
//! channel ends before its engine was seen idle, the model allows later writes of that engine until it is seen idle.
//!
//! A failing sequence is minimised and printed as JSON; `XDMA_MODEL_PLAN=FILE cargo test --test model` executes it again.
//! `cargo bench --bench model` executes a million steps.

use xdma_testkit::model;

#[test]
fn random_calls_and_faults_match_the_model() {
    match std::env::var_os("XDMA_MODEL_PLAN") {
        Some(path) => model::replay(path.as_ref()),
        None => drop(model::run(10_000)),
    }
}
