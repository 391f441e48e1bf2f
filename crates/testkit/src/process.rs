//! Tests that need a process of their own, beside the one that asks for it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use xdma::card::{Card, CardError, CardName, CardOptions};

/// Names the part that a process plays.
const ROLE: &str = "XDMA_TEST_ROLE";

/// Whether this process was started by [`start`] to play `role`.
pub fn is(role: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|of| of == role)
}

/// Starts this test once more, in a process that plays `role` with this card.
pub fn start(card: &CardName, test: &str, role: &str) -> Child {
    start_with(card, test, role, &[])
}

/// The same with more in its environment.
pub fn start_with(card: &CardName, test: &str, role: &str, environment: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env("XDMA_CARD", card.to_string()).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Reads what a process says until it says `word`.
pub fn await_word(child: &mut Child, word: &str) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().contains(word)),
        "the other process ended before it said {word:?}"
    );
}

/// All that a process says, and how it ended.
pub fn finish(child: Child) -> (String, ExitStatus) {
    let output = child.wait_with_output().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status)
}

/// The card that this process was told of.
pub fn card() -> CardName {
    std::env::var("XDMA_CARD").expect("the card is named").parse().unwrap()
}

/// Opens that card; no image is loaded.
pub fn open() -> Result<Card, CardError> {
    card().open(CardOptions::default())
}
