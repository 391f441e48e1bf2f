//! Programs that suites need and that no private prefix can replace.

use anyhow::{Context, Result, bail, ensure};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where a missing program comes from.
enum Source {
    /// A package of the distribution, through the machine's own apt configuration.
    Apt(&'static str),
    /// A component of the Rust toolchain.
    Rustup(&'static str),
    /// A program that `cargo install` takes minutes to build.
    Cargo,
}

const PROGRAMS: [(&str, Source); 14] = [
    ("bc", Source::Apt("bc")),
    ("cargo-deny", Source::Cargo),
    ("cargo-fmt", Source::Rustup("rustfmt")),
    ("cargo-clippy", Source::Rustup("clippy")),
    ("c++", Source::Apt("g++")),
    ("cc", Source::Apt("gcc")),
    ("iverilog", Source::Apt("iverilog")),
    ("make", Source::Apt("make")),
    ("python3", Source::Apt("python3")),
    ("strace", Source::Apt("strace")),
    ("valgrind", Source::Apt("valgrind")),
    ("verilator", Source::Apt("verilator")),
    ("xz", Source::Apt("xz-utils")),
    ("yosys", Source::Apt("yosys")),
];

/// Makes sure that `program` is there: installs it where that takes no more than this process has, and otherwise fails
/// with the command to type.
pub fn require(program: &str) -> Result<()> {
    if find(program).is_some() {
        return Ok(());
    }
    let (_, source) = PROGRAMS
        .iter()
        .find(|(name, _)| *name == program)
        .with_context(|| format!("{program} is not here"))?;
    match source {
        Source::Apt(package) => apt(program, package)?,
        Source::Cargo => bail!("no {program}; type: cargo install --locked {program}"),
        Source::Rustup(component) => {
            let command = format!("rustup component add {component}");
            ensure!(
                find("rustup").is_some(),
                "no {program}; install Rust through rustup, then type: {command}"
            );
            run(&command)?;
        }
    }
    ensure!(find(program).is_some(), "{program} is still not in PATH after its package was installed");
    Ok(())
}

/// Makes sure that Python can make environments, which Debian has in a package of its own.
pub fn require_venv() -> Result<()> {
    run("python3 -m ensurepip --version").or_else(|_| apt("Python's venv", "python3-venv"))
}

/// Whether this machine reaches `place`, a host and port, within seconds.
pub fn reachable(place: &str) -> bool {
    let mut addresses = place.to_socket_addrs().into_iter().flatten();
    addresses.any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok())
}

fn apt(what: &str, package: &str) -> Result<()> {
    let command = format!("apt-get install -y {package}");
    ensure!(is_root() && find("apt-get").is_some(), "no {what}; type: sudo {command}");
    run(&command).or_else(|_| run("apt-get update").and_then(|()| run(&command)))
}

fn run(command: &str) -> Result<()> {
    println!("    {command}");
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap_or_default())
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("`{command}` did not start"))?;
    if !status.success() {
        bail!("`{command}` ended with {status}");
    }
    Ok(())
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The owner of this process' own directory in /proc is its effective user.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|of| of.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audits::AUDITS;
    use crate::suites::{SUITES, all};

    #[test]
    fn every_suite_needs_programs_that_are_known() {
        for program in all(SUITES).chain(all(AUDITS)).flat_map(|suite| suite.needs.iter().chain(suite.wants))
        {
            assert!(PROGRAMS.iter().any(|(name, _)| name == program), "{program}");
        }
    }

    #[test]
    fn programs_are_looked_up_in_path() {
        assert!(find("sh").is_some());
        assert!(require("sh").is_ok());
        let error = require("no-such-program").unwrap_err();
        assert_eq!(error.to_string(), "no-such-program is not here");
    }
}
