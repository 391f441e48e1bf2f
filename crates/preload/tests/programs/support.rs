//! The test bench: a broker on an emulated card, and programs with the preload library.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use xdma::card::CardOptions;
use xdma_chardev::{BROKER_PID_VARIABLE, BROKER_VARIABLE, Broker, Device, DeviceOptions};
use xdma_emulated_card::emulator::logic::{Design, Logic, Memory};
use xdma_emulated_card::emulator::{EmulatedCard, EmulatorOptions};

/// Timeout of transfers, short enough for tests of transfers that hang.
pub const TIMEOUT: Duration = Duration::from_secs(2);

pub struct Bench {
    pub broker: Broker,
    pub emulated: EmulatedCard,
    pub folder: TempDir,
}

impl Bench {
    /// A card with memory.
    pub fn memory() -> Self {
        Self::new(EmulatorOptions::default(), Arc::new(Memory::new()))
    }

    /// A card whose H2C streams are looped back to its C2H streams.
    pub fn streams() -> Self {
        Self::new(EmulatorOptions::default().with_streams(), Design::Loopback.build())
    }

    pub fn new(options: EmulatorOptions, logic: Arc<dyn Logic>) -> Self {
        let emulated = EmulatedCard::start(options, logic).unwrap();
        let card = xdma_emulated_card::connect(&emulated, CardOptions::default()).unwrap();
        let options = DeviceOptions { h2c_timeout: TIMEOUT, c2h_timeout: TIMEOUT };
        let folder = tempfile::tempdir().unwrap();
        let broker =
            Broker::start(Device::new(card, options).unwrap(), &folder.path().join("broker")).unwrap();
        Self { broker, emulated, folder }
    }

    /// Returns a command that runs a program with the preload library.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", library()).env(BROKER_VARIABLE, self.broker.path());
        command.env(BROKER_PID_VARIABLE, std::process::id().to_string()).current_dir(self.folder.path());
        command
    }

    /// Runs a shell script, which must succeed. Returns its output.
    pub fn shell(&self, script: &str) -> String {
        check(self.command("sh").args(["-e", "-c", script]).output().unwrap())
    }

    /// Runs a Python program, which must succeed. Returns its output.
    pub fn python(&self, program: &str) -> String {
        let python = python().expect("Python is installed");
        check(self.command(python).args(["-c", program]).output().unwrap())
    }

    /// Compiles a C or C++ source file of this directory.
    pub fn compile(&self, source: &str) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(source);
        let program = self.folder.path().join(source.file_stem().unwrap());
        let compiler =
            if source.extension().is_some_and(|extension| extension == "cpp") { "c++" } else { "cc" };
        let options = ["-O2", "-D_FORTIFY_SOURCE=2", "-Wall", "-Werror", "-pthread", "-o"];
        check(Command::new(compiler).args(options).arg(&program).arg(&source).output().unwrap());
        program
    }
}

/// Returns the path of the Python executable. `python3` may be a script that starts it.
pub fn python() -> Option<String> {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The message of tests that are skipped because Python is not installed.
pub const NO_PYTHON: &str = "skipped: python3 is not installed; run: sudo apt-get install -y python3";

/// Returns the path of the library, which cargo builds together with this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.with_file_name("libxdma_preload.so");
    assert!(library.is_file(), "{} is not built: cargo build --package xdma-preload", library.display());
    library
}

/// Returns the standard output of a program that succeeded.
pub fn check(output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
    text
}
