//! Hostile cards: any register, and any memory that the card may write, can have any value at any time.
//!
//! Each call of the driver must end within its limit and the idle limit, with an error or a result, and without a panic. `cargo
//! xtask audit` also runs these tests under AddressSanitizer and valgrind, which detect accesses out of bounds.

mod distorted;
mod random_card;
mod scribbler;
mod session;

use distorted::{Distortion, Replacement};
use proptest::prelude::*;
use session::Outcome;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use xdma::unstable::bus::Bus;
use xdma_emulator::logic::Design;
use xdma_emulator::logic::msm::MsmModelOptions;

/// Time limit of a session. It is far more than all of its deadlines together, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Time limit of each wait on a hostile card: most of them end with it.
const SHORT: Duration = Duration::from_millis(10);
/// Time limit of each wait on a card that completes everything, even on a busy machine.
const LONG: Duration = Duration::from_secs(5);

/// Runs a session with short time limits on the bus that `open` returns. Fails if the session panics or does not end.
fn survive(name: &str, seed: u64, open: impl FnOnce() -> Arc<dyn Bus> + Send + 'static) -> Outcome {
    session_with_limit(name, seed, SHORT, open)
}

fn session_with_limit(
    name: &str,
    seed: u64,
    limit: Duration,
    open: impl FnOnce() -> Arc<dyn Bus> + Send + 'static,
) -> Outcome {
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || {
        // A panic drops the sender.
        let _ = sender.send(session::run(open(), seed, limit));
    });
    match receiver.recv_timeout(LIMIT) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => panic!("{name}, seed {seed}: the driver does not stop waiting"),
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
    fn a_card_with_distorted_responses(seed: u64, distortion in distorted::distortions(), is_memory: bool) {
        let design = if is_memory { memory() } else { msm() };
        survive("distorted", seed, move || distorted::bus(distortion, design, seed));
    }
}

#[test]
fn registers_and_memory_that_change_constantly() {
    let (mut opened, sessions) = (0, 100);
    for seed in 0..sessions {
        let outcome = survive("random", seed, move || random_card::bus(seed, seed % 4 != 0));
        opened += u64::from(outcome.opened);
    }
    // Otherwise the test would cover little.
    assert!(opened > sessions / 10, "only {opened} of {sessions} cards could be opened");
}

#[test]
fn an_undistorted_card_completes_the_session() {
    let outcome =
        session_with_limit("undistorted", 1, LONG, || distorted::bus(Distortion::None, memory(), 1));
    assert_eq!(outcome, Outcome { opened: true, transferred: true, computed: false });
    let outcome = session_with_limit("undistorted", 1, LONG, || distorted::bus(Distortion::None, msm(), 1));
    assert_eq!(outcome, Outcome { opened: true, transferred: false, computed: true });
}

#[test]
fn all_ones_all_zeros_and_noise_are_not_cards() {
    for distortion in [Distortion::Constant(!0), Distortion::Constant(0), Distortion::Noise] {
        let outcome = survive("constant", 1, move || distorted::bus(distortion, memory(), 1));
        assert!(!outcome.opened, "a card with {distortion:?} could be opened");
    }
}

/// The card is undistorted for a number of reads only.
#[test]
fn a_card_that_becomes_hostile() {
    for after in [30, 45, 60, 80, 100, 150, 200, 300, 500] {
        for then in [Replacement::Ones, Replacement::Zeros, Replacement::Noise, Replacement::Busy] {
            for design in [memory(), msm()] {
                let distortion = Distortion::After { after, then };
                survive("becoming hostile", after, move || distorted::bus(distortion, design, after));
            }
        }
    }
}
