//! Random sequences of calls to several cards, with faults in between, against a plain account of what must come out: every byte of
//! host and card memory, the outcome of every transfer, and no error without a cause.
//!
//! Channels, buffers, programs and cards are closed, dropped, forgotten and opened again at any point, under any fault. What an
//! engine may still do after its channel ended blindly stays possible in the account, until the engine is seen idle.
//!
//! A sequence that fails is shrunk and printed as JSON; `XDMA_MODEL_PLAN=FILE cargo test --test model` carries that out.
//! `cargo bench --bench model` takes a million steps.

use xdma_testkit::model;

#[test]
fn what_comes_out_is_what_the_account_says() {
    match std::env::var_os("XDMA_MODEL_PLAN") {
        Some(path) => model::replay(path.as_ref()),
        None => drop(model::run(10_000)),
    }
}
