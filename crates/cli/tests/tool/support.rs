//! Helpers that run the program.

use serde_json::Value;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use xdma_emulator::logic::{Logic, Memory};
use xdma_emulator::{EmulatedCard, EmulatorOptions};
pub use xdma_testkit::command::Ended;
use xdma_testkit::schema::check_output;

/// Returns the program with arguments that are separated by blanks, and without a card in the environment.
pub fn xdma(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xdma"));
    command.args(arguments.split_whitespace()).env_remove("XDMA_CARD").env("RUST_LOG", "off");
    command
}

#[track_caller]
pub fn run(arguments: &str) -> Ended {
    checked(arguments, xdma(arguments).stdin(Stdio::null()).output().unwrap().into())
}

/// Checks the JSON on standard output, if it was requested and standard output carries no data.
#[track_caller]
fn checked(arguments: &str, ended: Ended) -> Ended {
    if arguments.contains("--json") && ended.out.starts_with('{') {
        check_output("xdma", arguments, &ended.out);
    }
    ended
}

/// Runs experiments on a card that is emulated in the program. They break rules on purpose, so the card must not be strict.
pub fn run_experiments(arguments: &str) -> Ended {
    let mut command = xdma(arguments);
    checked(arguments, command.env_remove("XDMA_STRICT").stdin(Stdio::null()).output().unwrap().into())
}

/// Runs the program with `--json`, and returns its output.
#[track_caller]
pub fn json(arguments: &str) -> Value {
    let text = run(&format!("{arguments} --json")).good();
    assert!(text.starts_with('{'), "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Runs the program with `input` on standard input.
pub fn run_with(arguments: &str, input: Vec<u8>) -> Ended {
    let mut child = piped(arguments);
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // Writing fails if the program ends before it has read everything.
    let _ = writer.join().unwrap();
    output.into()
}

/// Starts the program with pipes.
pub fn piped(arguments: &str) -> Child {
    let pipes = |command: &mut Command| {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    pipes(&mut xdma(arguments))
}

/// Sends SIGINT, without the program `kill`, which may not be installed.
#[track_caller]
pub fn interrupt(child: &Child) {
    // SAFETY: the call sends a signal to a child that was not waited for, so the ID is still the child's.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) }, 0);
}

/// Starts a card that several runs of the tool can use one after the other. Returns it and the option that names it.
pub fn served(logic: Arc<dyn Logic>) -> (EmulatedCard, String) {
    let card = EmulatedCard::start(EmulatorOptions::default(), logic).unwrap();
    let option = format!("--card unix:{}", card.socket().display());
    (card, option)
}

/// Starts a card with memory, as [`served`] does.
pub fn memory() -> (EmulatedCard, String) {
    served(Arc::new(Memory::new()))
}

/// Returns bytes that differ from page to page.
pub fn pattern(len: usize) -> Vec<u8> {
    xdma_testkit::bench::pattern(len, 1)
}
