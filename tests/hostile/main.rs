//! A card that means harm: any value in any register, and in all memory that it may write, at any time.
//!
//! Whatever it does, each call of the driver ends within the time that it was given and what the card may take to become
//! idle, with an error or a result, and without a panic. (That nothing is accessed out of bounds is what AddressSanitizer and valgrind
//! see of this test: `cargo xtask audit`.)

mod distorted;
mod scribbler;
mod session;
mod wild;

use distorted::{Lie, Turn};
use proptest::prelude::*;
use session::Outcome;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use xdma::unstable::bus::Bus;
use xdma_emulator::logic::Design;
use xdma_emulator::logic::msm::MsmModelOptions;

/// Far more than all deadlines of a session together, on a crowded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a session against a card that `make` makes, and fails if it panics or does not end.
fn survive(name: &str, seed: u64, make: impl FnOnce() -> Arc<dyn Bus> + Send + 'static) -> Outcome {
    let (tell, told) = channel();
    let thread = std::thread::spawn(move || {
        // The sender is dropped when this panics.
        let _ = tell.send(session::run(make(), seed));
    });
    match told.recv_timeout(LIMIT) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => panic!("{name}, seed {seed}: the driver waits without end"),
        Err(RecvTimeoutError::Disconnected) => panic!("{name}, seed {seed}: {:?}", thread.join()),
    }
}

fn memory() -> Design {
    Design::Memory
}

fn msm() -> Design {
    Design::Msm(MsmModelOptions::default())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn answers_of_a_true_card_distorted(seed: u64, lie in distorted::lies(), is_memory: bool) {
        let design = if is_memory { memory() } else { msm() };
        survive("distorted", seed, move || distorted::bus(lie, design, seed));
    }
}

#[test]
fn registers_and_memory_that_change_all_the_time() {
    let (mut opened, sessions) = (0, 100);
    for seed in 0..sessions {
        let outcome = survive("wild", seed, move || wild::bus(seed, seed % 4 != 0));
        opened += u64::from(outcome.opened);
    }
    // Otherwise this tries little.
    assert!(opened > sessions / 10, "{opened} of {sessions} passed for a card");
}

#[test]
fn an_honest_card_is_used_to_the_end() {
    let outcome = survive("honest", 1, || distorted::bus(Lie::None, memory(), 1));
    assert_eq!(outcome, Outcome { opened: true, moved: true, multiplied: false });
    let outcome = survive("honest", 1, || distorted::bus(Lie::None, msm(), 1));
    assert_eq!(outcome, Outcome { opened: true, moved: false, multiplied: true });
}

#[test]
fn all_ones_all_zeros_and_noise() {
    for lie in [Lie::Constant(!0), Lie::Constant(0), Lie::Noise] {
        let outcome = survive("constant", 1, move || distorted::bus(lie, memory(), 1));
        assert!(!outcome.opened, "{lie:?} passed for a card");
    }
}

/// A card that turns: honest until it has been asked so often, then not.
#[test]
fn a_card_that_turns() {
    for after in [30, 45, 60, 80, 100, 150, 200, 300, 500] {
        for then in [Turn::Ones, Turn::Zeros, Turn::Noise, Turn::Busy] {
            for design in [memory(), msm()] {
                survive("turning", after, move || distorted::bus(Lie::After { after, then }, design, after));
            }
        }
    }
}
