//! The programs that suites need, and the command that would install missing ones. This module installs nothing.

use rustix::process::geteuid;
use std::collections::BTreeSet;
use std::net::{TcpStream, ToSocketAddrs};
use std::process::Command;
use std::time::Duration;

const APT: &str = "apt-get install -y";
const RUSTUP: &str = "rustup component add";
const CARGO: &str = "cargo install --locked";

/// Each program, its installer, and the name of its package there.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("bc", APT, "bc"),
    ("c++", APT, "g++"),
    ("cargo-clippy", RUSTUP, "clippy"),
    ("cargo-deny", CARGO, "cargo-deny"),
    ("cargo-fmt", RUSTUP, "rustfmt"),
    ("cargo-fuzz", CARGO, "cargo-fuzz"),
    ("cc", APT, "gcc"),
    ("iverilog", APT, "iverilog"),
    (LIBCLANG, APT, "libclang-dev"),
    (LIBELF, APT, "libelf1"),
    (LIBPYTHON, APT, "libpython3-dev"),
    ("make", APT, "make"),
    ("mpicc", APT, "libopenmpi-dev"),
    ("mpirun", APT, "openmpi-bin"),
    ("python3", APT, "python3"),
    (VENV, APT, "python3-venv"),
    ("strace", APT, "strace"),
    ("strip", APT, "binutils"),
    ("valgrind", APT, "valgrind"),
    ("verilator", APT, "verilator"),
    ("xz", APT, "xz-utils"),
];

/// Requirements that are not programs: libraries for MPI's bindings, the kernel's objtool and cocotb, and Python's module `venv`.
pub const LIBCLANG: &str = "libclang";
pub const LIBELF: &str = "libelf";
pub const LIBPYTHON: &str = "libpython3";
pub const VENV: &str = "python3-venv";
/// A command that finds the library and its headers.
const CLANG: &str = "ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/llvm-*/lib/clang/*/include/stddef.h";
/// A Python script that exits with 0 if the interpreter's shared library is installed.
const FIND_LIBPYTHON: &str = "import os, sysconfig as s; v = s.get_config_var; \
     os.stat(os.path.join(v('LIBDIR'), v('INSTSONAME')))";

/// Returns which of `programs` are missing and how to install them, or `None` if all are installed.
pub fn describe_missing(programs: &[&str]) -> Option<String> {
    let programs = BTreeSet::from_iter(programs.iter().copied());
    let missing: Vec<&str> = programs.into_iter().filter(|program| !is_installed(program)).collect();
    let command = install_command(&missing);
    (!missing.is_empty()).then(|| format!("missing: {}; to install: {command}", missing.join(", ")))
}

/// Returns a shell command that installs all of `programs`.
fn install_command(programs: &[&str]) -> String {
    let packages = |installer: &str| -> Vec<&str> {
        let rows = PROGRAMS.iter().filter(|(name, by, _)| *by == installer && programs.contains(name));
        rows.map(|(_, _, package)| *package).collect()
    };
    let commands = [APT, RUSTUP, CARGO].map(|installer| (installer, packages(installer)));
    let needed = commands.into_iter().filter(|(_, packages)| !packages.is_empty());
    let lines = needed.map(|(installer, packages)| {
        let sudo = if installer == APT && !geteuid().is_root() { "sudo " } else { "" };
        format!("{sudo}{installer} {}", packages.join(" "))
    });
    lines.collect::<Vec<_>>().join(" && ")
}

fn is_installed(program: &str) -> bool {
    match program {
        LIBCLANG => succeeds("sh", &["-c", CLANG]),
        LIBELF => succeeds("python3", &["-c", "import ctypes; ctypes.CDLL('libelf.so.1')"]),
        LIBPYTHON => succeeds("python3", &["-c", FIND_LIBPYTHON]),
        VENV => succeeds("python3", &["-c", "import ensurepip"]),
        // rustup's proxies exist even if the component is not installed.
        _ if program.starts_with("cargo-") => succeeds(program, &["--version"]),
        _ => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
        }
    }
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Returns whether `address`, a host and port, accepts a connection within a few seconds.
pub fn is_reachable(address: &str) -> bool {
    let mut addresses = address.to_socket_addrs().into_iter().flatten();
    addresses.any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audits::AUDITS;
    use crate::suites::{SUITES, all};
    use crate::workspace::Workspace;

    #[test]
    fn every_needed_program_has_an_installer() {
        for program in all(SUITES).chain(all(AUDITS)).flat_map(|suite| suite.needs) {
            assert!(PROGRAMS.iter().any(|(name, ..)| name == program), "{program}");
        }
    }

    #[test]
    fn continuous_integration_installs_every_package() {
        let script = std::fs::read_to_string(Workspace::find().root.join(".ci/run")).unwrap();
        let words: Vec<&str> = script.split(|c: char| c.is_whitespace() || "()".contains(c)).collect();
        for (_, _, package) in PROGRAMS.iter().filter(|(_, installer, _)| *installer == APT) {
            assert!(words.contains(package), "{package}");
        }
    }

    #[test]
    fn one_command_installs_all_missing_programs() {
        assert_eq!(describe_missing(&["sh"]), None);
        let line = install_command(&["verilator", "bc", "cargo-fmt", "cargo-deny"]);
        let end = "apt-get install -y bc verilator && rustup component add rustfmt && cargo install --locked cargo-deny";
        assert!(line.ends_with(end), "{line}");
    }
}
