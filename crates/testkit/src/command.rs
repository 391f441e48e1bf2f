//! Programs under test, and their output.

use std::path::Path;
use std::process::{Command, Output};

/// Returns a command that runs a program as if the machine's PCI functions were those in the directory `devices`. Prints a note and returns
/// `None` if namespaces are not permitted here.
pub fn with_functions(devices: &Path, program: &Path) -> Option<Command> {
    let start = || {
        let mut command = Command::new("unshare");
        let script = r#"mount --bind "$0" /sys/bus/pci/devices && exec "$@""#;
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(devices);
        command
    };
    if start().arg("true").output().is_ok_and(|output| output.status.success()) {
        let mut command = start();
        command.arg(program).env_remove("XDMA_CARD");
        return Some(command);
    }
    println!("skipped: `unshare --user --mount` is not permitted here");
    None
}

/// The exit code and output of a program.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().expect("the program exited on its own");
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ended {
    /// Checks that the program succeeded, and returns its standard output.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// Checks the exit code, and that standard error contains all `parts`.
    #[track_caller]
    pub fn bad(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is missing: {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}
