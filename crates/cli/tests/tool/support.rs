//! Running the program.

use serde_json::Value;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use xdma_emulator::logic::{Logic, Memory};
use xdma_emulator::{EmulatedCard, Options};

/// The program with some arguments, separated by blanks, and no card from the environment.
pub fn xdma(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xdma"));
    command.args(arguments.split_whitespace()).env_remove("XDMA_CARD").env("RUST_LOG", "off");
    command
}

/// What it printed and how it ended.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().expect("it ends by itself");
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ended {
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// The end with an exit code, and what was said about it.
    #[track_caller]
    pub fn bad(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is missing: {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
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
    (0..len).map(|at| (at ^ at >> 8 ^ at >> 16).wrapping_mul(0x9d) as u8).collect()
}
