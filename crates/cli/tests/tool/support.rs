//! Running the program.

use serde_json::Value;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use xdma_emulator::logic::{Logic, Memory};
use xdma_emulator::{EmulatedCard, Options};
pub use xdma_testkit::command::Ended;

/// The program with some arguments, separated by blanks, and no card from the environment.
pub fn xdma(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xdma"));
    command.args(arguments.split_whitespace()).env_remove("XDMA_CARD").env("RUST_LOG", "off");
    command
}

pub fn run(arguments: &str) -> Ended {
    xdma(arguments).stdin(Stdio::null()).output().unwrap().into()
}

/// Its answer to a program.
#[track_caller]
pub fn json(arguments: &str) -> Value {
    let text = run(&format!("{arguments} --json")).good();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Runs it with something on standard input.
pub fn run_with(arguments: &str, input: Vec<u8>) -> Ended {
    let mut child = piped(arguments);
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // It may end before it has read everything.
    let _ = writer.join().unwrap();
    output.into()
}

/// Starts it with pipes.
pub fn piped(arguments: &str) -> Child {
    let pipes = |command: &mut Command| {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    pipes(&mut xdma(arguments))
}

/// Ctrl-C. There may be no program `kill`.
#[track_caller]
pub fn interrupt(child: &Child) {
    // SAFETY: it sends a signal to a child that was not waited for.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) }, 0);
}

/// A card that outlives commands, and the option that names it.
pub fn served(logic: Arc<dyn Logic>) -> (EmulatedCard, String) {
    let card = EmulatedCard::start(Options::default(), logic).unwrap();
    let option = format!("--card unix:{}", card.socket().display());
    (card, option)
}

pub fn memory() -> (EmulatedCard, String) {
    served(Arc::new(Memory::new()))
}

/// Bytes that differ from page to page.
pub fn pattern(len: usize) -> Vec<u8> {
    xdma_testkit::bench::pattern(len, 1)
}
