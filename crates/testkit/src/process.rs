//! Tests that run a part of themselves in another process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use xdma::card::{Card, CardError, CardName, CardOptions};

/// Environment variable with the role of a process.
pub const ROLE: &str = "XDMA_TEST_ROLE";

/// Returns whether this process was started by [`start`] with this role.
pub fn is(role: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|value| value == role)
}

/// Starts a test of this program in another process, with a role and the name of a card.
pub fn start(card: &CardName, test: &str, role: &str) -> Child {
    start_with(card, test, role, &[])
}

/// Like [`start`], with additional environment variables.
pub fn start_with(card: &CardName, test: &str, role: &str, environment: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env("XDMA_CARD", card.to_string()).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Reads the output of a process until a line contains `word`.
pub fn await_word(child: &mut Child, word: &str) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().contains(word)),
        "the other process ended before it printed {word:?}"
    );
}

/// Waits for a process, and returns its output and exit status.
pub fn finish(child: Child) -> (String, ExitStatus) {
    let output = child.wait_with_output().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status)
}

/// Returns the name of the card that this process was started with.
pub fn card() -> CardName {
    std::env::var("XDMA_CARD").expect("XDMA_CARD is set").parse().unwrap()
}

/// Opens that card. Unlike [`Bench`](crate::bench::Bench), this does not load an image.
pub fn open() -> Result<Card, CardError> {
    card().open(CardOptions::default())
}
