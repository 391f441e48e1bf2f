//! Random sequences of calls, with faults in between, against a plain account of what must come out: every byte of host and card
//! memory, the outcome of every transfer, and no error without a cause.
//!
//! A sequence that fails is shrunk and printed as JSON; `XDMA_MODEL_PLAN=FILE cargo test --test model` carries that out.
//! `cargo bench --bench model` takes a million steps.

mod lane;
mod plan;
mod run;
mod shadow;
mod world;

#[test]
fn what_comes_out_is_what_the_account_says() {
    match std::env::var_os("XDMA_MODEL_PLAN") {
        Some(path) => run::replay(path.as_ref()),
        None => drop(run::run(10_000)),
    }
}
