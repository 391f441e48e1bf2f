//! Runs suites, and the commands of a suite.

use crate::suites::{Level, Suite};
use crate::table::{Row, Tally, duration};
use crate::workspace::Workspace;
use crate::{libtest, packages, process};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

/// Number of log lines shown for a failed suite.
const TAIL_LINES: usize = 60;
/// Number of characters of a log line shown as progress.
const PROGRESS_WIDTH: usize = 100;

/// A running suite.
pub struct Run<'a> {
    pub workspace: &'a Workspace,
    /// How much to test.
    pub level: Level,
    pub tally: Tally,
    /// Extra lines for the table.
    pub notes: Vec<String>,
    /// Environment variables for its commands.
    pub environment: Vec<(&'static str, OsString)>,
    log: File,
    log_path: PathBuf,
    name: &'static str,
    start: Instant,
}

/// Runs one suite and prints its result.
pub fn run_suite(workspace: &Workspace, level: Level, suite: &Suite) -> Result<Row> {
    println!("==> {}: {}", suite.name, suite.about);
    let mut run = Run::new(workspace, level, suite.name)?;
    match packages::describe_missing(suite.needs) {
        Some(missing) => run.tally.skipped.push(missing),
        None => (suite.run)(&mut run).unwrap_or_else(|error| run.fail("suite aborted", &error)),
    }
    if !run.tally.failed.is_empty() {
        run.show_failure();
    }
    let (name, took) = (suite.name, duration(run.start.elapsed()));
    println!("    {name}: {} in {took}", run.tally);
    Ok(Row { suite: name, tally: run.tally, took, notes: run.notes })
}

impl<'a> Run<'a> {
    /// Creates a run with its own log file.
    pub fn new(workspace: &'a Workspace, level: Level, name: &'static str) -> Result<Self> {
        let log_path = workspace.log_dir().join(format!("{name}.log"));
        fs::create_dir_all(workspace.log_dir()).with_context(|| workspace.log_dir().display().to_string())?;
        let log = File::options().create(true).truncate(true).read(true).write(true).open(&log_path);
        let log = log.with_context(|| log_path.display().to_string())?;
        // The emulated card aborts a process whose driver breaks a rule, such as releasing memory too early.
        let environment = vec![("XDMA_STRICT", "1".into())];
        let (tally, notes, start) = (Tally::default(), vec![], Instant::now());
        Ok(Self { workspace, level, tally, notes, environment, log, log_path, name, start })
    }

    /// Runs one check. An error counts as a failure of the check, and the suite continues.
    pub fn check(&mut self, name: &str, check: impl FnOnce(&mut Self) -> Result<()>) {
        match check(self) {
            Ok(()) => self.tally.passed += 1,
            Err(error) => self.fail(name, &error),
        }
    }

    /// Runs a `cargo` command as a check.
    pub fn check_cargo(&mut self, arguments: &str) {
        self.check("cargo", |run| run.succeed(run.cargo(arguments)));
    }

    /// Records a failed check.
    pub fn fail(&mut self, name: &str, error: &anyhow::Error) {
        let _ = writeln!(self.log, "FAILED {name}: {error:#}");
        self.tally.failed.push(format!("{name}: {error:#}"));
    }

    /// Returns a `cargo` command with the environment of a user's shell, without the variables that `cargo run` set for this program.
    pub fn cargo(&self, arguments: &str) -> Command {
        self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
    }

    /// Returns a command in the suite's environment. `arguments` are separated by spaces.
    pub fn command(&self, program: impl Into<OsString>, arguments: &str) -> Command {
        let mut command = Command::new(program.into());
        command.args(arguments.split_whitespace());
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_package_variable(name)) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command that must succeed. Its output goes to the log.
    pub fn succeed(&mut self, mut command: Command) -> Result<()> {
        let log = self.log.try_clone()?;
        let status = self.execute(command.stdout(log))?;
        ensure_success(&command, status)
    }

    /// Runs a command that must succeed and returns its standard output.
    pub fn stdout(&mut self, mut command: Command) -> Result<String> {
        let path = self.log_path.with_extension("stdout");
        let status = self.execute(command.stdout(File::create(&path)?))?;
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        self.log.write_all(text.as_bytes())?;
        ensure_success(&command, status)?;
        Ok(text)
    }

    /// Runs a `cargo` command that builds, and returns its messages for [`executable`].
    pub fn build(&mut self, arguments: &str) -> Result<String> {
        self.stdout(self.cargo(&format!("{arguments} --message-format=json-render-diagnostics")))
    }

    /// Runs a command and returns its output, both streams combined, and its status.
    pub fn output(&mut self, command: &mut Command) -> Result<(String, ExitStatus)> {
        let start = self.log.seek(SeekFrom::End(0))?;
        let log = self.log.try_clone()?;
        let status = self.execute(command.stdout(log))?;
        let text = fs::read(&self.log_path)?;
        Ok((String::from_utf8_lossy(&text[start as usize..]).into_owned(), status))
    }

    /// Runs `cargo test` with `arguments` and counts its tests.
    pub fn cargo_test(&mut self, arguments: &str) -> Result<()> {
        self.count_tests(self.cargo(&format!("test --no-fail-fast {arguments} -- --show-output"))).map(drop)
    }

    /// Runs a command with the output format of `cargo test`, counts its tests, and returns its output.
    pub fn count_tests(&mut self, mut command: Command) -> Result<String> {
        let (text, status) = self.output(&mut command)?;
        let counted = libtest::parse(&text).context("no test ran")?;
        let passed = counted.failed.is_empty();
        self.tally.add(counted);
        // A test program that does not compile or that crashes prints no result.
        if passed {
            ensure_success(&command, status)?;
        }
        Ok(text)
    }

    fn execute(&mut self, command: &mut Command) -> Result<ExitStatus> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let prefix = self.workspace.prefix().join("bin");
        let path = std::env::join_paths(std::iter::once(prefix).chain(std::env::split_paths(&path)))?;
        if command.get_current_dir().is_none() {
            command.current_dir(&self.workspace.root);
        }
        command.env("PATH", path);
        // Logs are plain text, and backtraces would clutter the table.
        command.env("TERM", "dumb").env("CARGO_TERM_COLOR", "never").env("NO_COLOR", "1");
        command.env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::null()).stderr(self.log.try_clone()?);
        writeln!(self.log, "$ {}", command_line(command))?;
        let line = command_line(command);
        let mut child = command.spawn().with_context(|| format!("`{line}` did not start"))?;
        process::wait(&mut child, || self.show_progress()).with_context(|| format!("`{line}`"))
    }

    /// Prints the elapsed time and the last line of the log.
    fn show_progress(&self) {
        let text = read_lossy(&self.log_path);
        let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let line: String = line.trim().chars().take(PROGRESS_WIDTH).collect();
        println!("    {}, {}: {line}", self.name, duration(self.start.elapsed()));
    }

    /// Prints the output of the failed tests, or the end of the log if there is none.
    fn show_failure(&self) {
        let text = read_lossy(&self.log_path);
        let failures = libtest::failures(&text);
        let lines: Vec<&str> = if failures.is_empty() { &text } else { &failures }.lines().collect();
        println!("    see {}:", self.log_path.display());
        lines[lines.len().saturating_sub(TAIL_LINES)..].iter().for_each(|line| println!("    | {line}"));
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Returns whether `cargo run` set this variable for xtask's own package, which would mislead build scripts of other packages.
fn is_package_variable(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|s| name.starts_with(s))
}

/// Returns the path of the program `name` from the messages of [`Run::build`].
pub fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut named = messages.filter(|message| message["target"]["name"] == name);
    let path = named.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    path.with_context(|| format!("cargo did not build {name}"))
}

fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn ensure_success(command: &Command, status: ExitStatus) -> Result<()> {
    ensure!(status.success(), "`{}` ended with {status}", command_line(command));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_is_found_by_its_name() {
        let messages = "{\"target\":{\"name\":\"xdma\"},\"executable\":null}\nnoise\n\
            {\"target\":{\"name\":\"xdma\"},\"executable\":\"/t/xdma\"}\n";
        assert_eq!(executable(messages, "xdma").unwrap(), Path::new("/t/xdma"));
        assert!(executable(messages, "driver").is_err());
    }
}
