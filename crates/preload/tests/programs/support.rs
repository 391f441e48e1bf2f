//! The test bench: a broker on an emulated card, and programs with the preload library.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use xdma::card::{CardName, CardOptions};
use xdma_chardev::{
    BROKER_PID_VARIABLE, BROKER_VARIABLE, Broker, Device, DeviceOptions, EXCLUSIVE_VARIABLE, Exclusive,
};
use xdma_emulated_card::emulator::logic::{Design, Logic, Memory};
use xdma_emulated_card::emulator::{EmulatedCard, EmulatorOptions};

/// Timeout of transfers, short enough for tests of transfers that hang.
pub const TIMEOUT: Duration = Duration::from_secs(2);

pub struct Bench {
    service: Service,
    pub emulated: EmulatedCard,
    pub folder: TempDir,
}

/// What serves the programs.
enum Service {
    Broker(Broker),
    /// Each program opens the card itself.
    Exclusive(Exclusive),
}

impl Bench {
    /// A card with memory.
    pub fn memory() -> Self {
        Self::with_broker(EmulatorOptions::default(), Arc::new(Memory::new()))
    }

    /// Cards with memory, one for each kind of service.
    pub fn all_with_memory() -> [Self; 2] {
        [Self::memory(), Self::exclusive_memory()]
    }

    /// Cards whose H2C streams are looped back to their C2H streams.
    pub fn all_with_streams() -> [Self; 2] {
        let options = || EmulatorOptions::default().with_streams();
        [
            Self::with_broker(options(), Design::Loopback.build()),
            Self::exclusive(options(), Design::Loopback.build()),
        ]
    }

    fn with_broker(options: EmulatorOptions, logic: Arc<dyn Logic>) -> Self {
        let emulated = EmulatedCard::start(options, logic).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start(device(&emulated), &folder.path().join("broker")).unwrap();
        Self { service: Service::Broker(broker), emulated, folder }
    }

    /// A card with memory that each program opens itself.
    pub fn exclusive_memory() -> Self {
        Self::exclusive(EmulatorOptions::default(), Arc::new(Memory::new()))
    }

    fn exclusive(options: EmulatorOptions, logic: Arc<dyn Logic>) -> Self {
        let emulated = EmulatedCard::start(options, logic).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (name, lock) = (CardName::Socket(emulated.socket().into()), folder.path().join("lock"));
        let exclusive = Exclusive::new(name, &device(&emulated), OPTIONS, lock);
        Self { service: Service::Exclusive(exclusive), emulated, folder }
    }

    /// Returns the path of the broker's socket.
    pub fn broker(&self) -> &Path {
        match &self.service {
            Service::Broker(broker) => broker.path(),
            Service::Exclusive(_) => panic!("this test has no broker"),
        }
    }

    /// Checks that all files are closed, or that the card was closed in its original state.
    pub fn check_closed(&self) {
        match &self.service {
            Service::Broker(broker) => assert_eq!(broker.open_files(), 0),
            Service::Exclusive(_) => assert_eq!(self.emulated.violations(), []),
        }
    }

    /// Returns a command that runs a program with the preload library.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", library()).current_dir(self.folder.path());
        match &self.service {
            Service::Broker(broker) => command
                .env(BROKER_VARIABLE, broker.path())
                .env(BROKER_PID_VARIABLE, std::process::id().to_string()),
            Service::Exclusive(exclusive) => command.env(EXCLUSIVE_VARIABLE, exclusive.to_string()),
        };
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

    /// Runs the named checks of a C program of this directory.
    pub fn run_checks(&self, source: &str, names: &[&str]) {
        let program = self.compile(source);
        for name in names {
            println!("{name}: {}", check(self.command(&program).arg(name).output().unwrap()));
        }
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

const OPTIONS: DeviceOptions = DeviceOptions { h2c_timeout: TIMEOUT, c2h_timeout: TIMEOUT };

fn device(emulated: &EmulatedCard) -> Device {
    let card = xdma_emulated_card::connect(emulated, CardOptions::default()).unwrap();
    Device::new(card, OPTIONS).unwrap()
}

/// Returns the path of the Python executable. `python3` may be a script that starts it.
pub fn python() -> Option<String> {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The message of tests that are skipped because Python is not installed.
pub const NO_PYTHON: &str = "skipped: python3 is not installed; run: sudo apt-get install -y python3";

/// Returns the path of the library, which cargo builds together with this test.
pub fn library() -> PathBuf {
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

/// Returns whether a program is installed.
pub fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}
