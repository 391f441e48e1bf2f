//! Programs that suites need, and the command that installs those that are missing. Nothing here installs anything.

use std::collections::BTreeSet;
use std::net::{TcpStream, ToSocketAddrs};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where a program comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A package of Debian and Ubuntu.
    Apt(&'static str),
    /// A component of the Rust toolchain.
    Rustup(&'static str),
    /// A package that `cargo install` builds.
    Cargo(&'static str),
}

use Source::{Apt, Cargo, Rustup};

const PROGRAMS: &[(&str, Source)] = &[
    ("bc", Apt("bc")),
    ("c++", Apt("g++")),
    ("cargo-clippy", Rustup("clippy")),
    ("cargo-deny", Cargo("cargo-deny")),
    ("cargo-fmt", Rustup("rustfmt")),
    ("cargo-fuzz", Cargo("cargo-fuzz")),
    ("cc", Apt("gcc")),
    ("iverilog", Apt("iverilog")),
    ("make", Apt("make")),
    ("python3", Apt("python3")),
    (VENV, Apt("python3-venv")),
    ("strace", Apt("strace")),
    ("strip", Apt("binutils")),
    ("valgrind", Apt("valgrind")),
    ("verilator", Apt("verilator")),
    ("xz", Apt("xz-utils")),
    ("yosys", Apt("yosys")),
];

/// Not a program, but a part of Python that Debian packages by itself: it makes private environments.
pub const VENV: &str = "python3-venv";

/// Says which of `programs` are missing, and what to type; `None` if all are there.
pub fn explain(programs: &[&str]) -> Option<String> {
    let programs = BTreeSet::from_iter(programs.iter().copied());
    let missing: Vec<&str> = programs.into_iter().filter(|program| !is_installed(program)).collect();
    let command = install_command(&missing);
    (!missing.is_empty()).then(|| format!("no {}; type: {command}", missing.join(", no ")))
}

/// One line for a shell that installs all of `programs`.
fn install_command(programs: &[&str]) -> String {
    let sources: Vec<Source> =
        PROGRAMS.iter().filter(|(name, _)| programs.contains(name)).map(|(_, source)| *source).collect();
    let line = |command: &str, package: fn(Source) -> Option<&'static str>| {
        let packages: BTreeSet<&str> = sources.iter().copied().filter_map(package).collect();
        let packages: Vec<&str> = packages.into_iter().collect();
        (!packages.is_empty()).then(|| format!("{command} {}", packages.join(" ")))
    };
    let lines = [
        line("sudo apt-get install -y", |source| if let Apt(name) = source { Some(name) } else { None }),
        line("rustup component add", |source| if let Rustup(name) = source { Some(name) } else { None }),
        line("cargo install --locked", |source| if let Cargo(name) = source { Some(name) } else { None }),
    ];
    lines.into_iter().flatten().collect::<Vec<_>>().join(" && ")
}

fn is_installed(program: &str) -> bool {
    if program == VENV {
        let mut python = Command::new("python3");
        python.args(["-c", "import ensurepip"]).stdout(Stdio::null()).stderr(Stdio::null());
        return python.status().is_ok_and(|status| status.success());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether this machine reaches `address`, a host and port, within seconds.
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
    fn the_programs_of_every_suite_are_known() {
        let suites = all(SUITES).chain(all(AUDITS));
        for program in suites.flat_map(|suite| suite.needs.iter().chain(suite.wants)) {
            assert!(PROGRAMS.iter().any(|(name, _)| name == program), "{program}");
        }
    }

    #[test]
    fn continuous_integration_installs_every_package() {
        let script = std::fs::read_to_string(Workspace::find().root.join(".ci/run")).unwrap();
        let words: Vec<&str> = script.split(|c: char| c.is_whitespace() || "()".contains(c)).collect();
        for (_, source) in PROGRAMS {
            if let Apt(package) = source {
                assert!(words.contains(package), "{package}");
            }
        }
    }

    #[test]
    fn missing_programs_are_installed_by_one_line() {
        assert_eq!(explain(&["sh"]), None);
        assert_eq!(
            install_command(&["yosys", "bc", "cargo-fmt", "cargo-deny"]),
            "sudo apt-get install -y bc yosys && rustup component add rustfmt && cargo install --locked cargo-deny"
        );
    }
}
