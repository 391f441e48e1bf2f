//! Runs suites, and the commands of a suite.

use crate::suites::Suite;
use crate::table::{Row, Tally, seconds};
use crate::{libtest, packages};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// No command of a suite may take longer.
const DEADLINE: Duration = Duration::from_secs(20 * 60);
/// Lines of a log shown when a suite failed.
const TAIL: usize = 60;

/// The folders that everything happens in.
pub struct Workspace {
    /// Where the repository lies.
    pub root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The workspace that this program was built from.
    pub fn find() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("xtask/ lies in the workspace")
            .to_path_buf();
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        Self { root, target }
    }

    /// Where suites put what they fetch; its `bin` is searched first for programs.
    pub fn prefix(&self) -> PathBuf {
        self.target.join("prefix")
    }

    /// A folder for what a suite makes, and for what it leaves to be looked at.
    pub fn work(&self, suite: &str) -> Result<PathBuf> {
        let folder = self.logs().join(suite);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Where logs go.
    fn logs(&self) -> PathBuf {
        self.target.join("xtask")
    }
}

/// A suite that is running.
pub struct Run<'a> {
    pub workspace: &'a Workspace,
    pub tally: Tally,
    /// A few words for the table.
    pub note: String,
    /// What its commands find in their environment besides.
    pub environment: Vec<(&'static str, PathBuf)>,
    log: File,
    name: &'static str,
}

/// Runs one suite and says so.
pub fn suite(workspace: &Workspace, suite: &Suite) -> Row {
    println!("==> {}: {}", suite.name, suite.about);
    let start = Instant::now();
    for missing in suite.wants.iter().filter_map(|program| packages::require(program).err()) {
        println!("    {missing:#}");
    }
    let (tally, note) = match suite.needs.iter().try_for_each(|program| packages::require(program)) {
        Err(missing) => (Tally { skipped: vec![format!("{missing:#}")], ..Tally::default() }, String::new()),
        Ok(()) => attempt(workspace, suite),
    };
    let (took, passed, failed) = (start.elapsed(), tally.passed, tally.failed.len());
    // Another suite may have printed in between.
    let (name, skipped) = (suite.name, tally.skipped.len());
    println!("    {name}: {passed} passed, {failed} failed, {skipped} skipped in {}", seconds(took));
    Row { suite: suite.name, tally, took, note }
}

fn attempt(workspace: &Workspace, suite: &Suite) -> (Tally, String) {
    let mut run = match Run::new(workspace, suite.name) {
        Ok(run) => run,
        Err(error) => {
            let failed = vec![format!("{error:#}")];
            return (Tally { failed, ..Tally::default() }, String::new());
        }
    };
    if let Err(error) = (suite.run)(&mut run) {
        run.fail("the suite itself", &error);
    }
    if !run.tally.failed.is_empty() {
        run.show_failure();
    }
    (run.tally, run.note)
}

fn log_path(workspace: &Workspace, suite: &str) -> PathBuf {
    workspace.logs().join(format!("{suite}.log"))
}

impl<'a> Run<'a> {
    /// With a log of its own.
    pub fn new(workspace: &'a Workspace, name: &'static str) -> Result<Self> {
        let mut options = File::options();
        options.create(true).truncate(true).read(true).write(true);
        let opened =
            fs::create_dir_all(workspace.logs()).and_then(|()| options.open(log_path(workspace, name)));
        let log = opened.with_context(|| format!("no log in {}", workspace.logs().display()))?;
        // A driver that breaks a rule of the emulated card, as one that lets go of memory too early, aborts its process.
        let environment = vec![("XDMA_STRICT", "1".into())];
        Ok(Self { workspace, tally: Tally::default(), note: String::new(), environment, log, name })
    }

    /// One check: an error is its failure, and the suite goes on.
    pub fn check(&mut self, name: &str, what: impl FnOnce(&mut Self) -> Result<()>) {
        match what(self) {
            Ok(()) => self.tally.passed += 1,
            Err(error) => self.fail(name, &error),
        }
    }

    /// A check that failed.
    pub fn fail(&mut self, name: &str, error: &anyhow::Error) {
        let _ = writeln!(self.log, "FAILED {name}: {error:#}");
        self.tally.failed.push(format!("{name}: {error:#}"));
    }

    /// A `cargo` command as the user would have typed it, without what `cargo xtask` left in the environment.
    pub fn cargo(&self, arguments: &str) -> Command {
        self.clean(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())), arguments)
    }

    /// The same with the nightly toolchain.
    pub fn nightly_cargo(&self, arguments: &str) -> Command {
        self.clean(Command::new("rustup"), &format!("run nightly cargo {arguments}"))
    }

    fn clean(&self, mut command: Command, arguments: &str) -> Command {
        command.args(arguments.split_whitespace());
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_this_package(name)) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command that must succeed; its noise goes to the log.
    pub fn succeed(&mut self, mut command: Command) -> Result<()> {
        let log = self.log.try_clone()?;
        let status = self.execute(command.stdout(log))?;
        demand_success(&command, status)
    }

    /// Runs a command that must succeed and returns its standard output.
    pub fn stdout(&mut self, mut command: Command) -> Result<String> {
        let (text, status) = self.output(&mut command)?;
        demand_success(&command, status)?;
        Ok(text)
    }

    /// Runs a command and returns its standard output, and how it ended.
    pub fn output(&mut self, command: &mut Command) -> Result<(String, ExitStatus)> {
        let path = self.workspace.logs().join(format!("{}.stdout", self.name));
        let status = self.execute(command.stdout(File::create(&path)?))?;
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        self.log.write_all(text.as_bytes())?;
        Ok((text, status))
    }

    /// Runs a command and returns all that it printed, to either stream, and how it ended.
    pub fn noise(&mut self, command: &mut Command) -> Result<(String, ExitStatus)> {
        let start = self.log.seek(SeekFrom::End(0))?;
        let log = self.log.try_clone()?;
        let status = self.execute(command.stdout(log))?;
        let text = fs::read(log_path(self.workspace, self.name))?;
        Ok((String::from_utf8_lossy(&text[start as usize..]).into_owned(), status))
    }

    /// Runs `cargo test` with `arguments` and counts its tests.
    pub fn cargo_test(&mut self, arguments: &str) -> Result<()> {
        self.count_tests(self.cargo(&format!("test --no-fail-fast {arguments} -- --show-output")))
    }

    /// Runs a command that prints what `cargo test` prints, and counts its tests.
    pub fn count_tests(&mut self, mut command: Command) -> Result<()> {
        let (text, status) = self.noise(&mut command)?;
        let counted = libtest::parse(&text).context("no test ran")?;
        let failed = counted.failed.len();
        self.tally.passed += counted.passed;
        self.tally.failed.extend(counted.failed);
        self.tally.skipped.extend(counted.skipped);
        // A test program that does not compile or dies prints no result.
        if failed == 0 { demand_success(&command, status) } else { Ok(()) }
    }

    fn execute(&mut self, command: &mut Command) -> Result<ExitStatus> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let prefix = self.workspace.prefix().join("bin");
        let path = std::env::join_paths(std::iter::once(prefix).chain(std::env::split_paths(&path)))?;
        if command.get_current_dir().is_none() {
            command.current_dir(&self.workspace.root);
        }
        command.env("PATH", path);
        // Logs are read as plain text.
        command.env("TERM", "dumb").env("CARGO_TERM_COLOR", "never").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stderr(self.log.try_clone()?);
        writeln!(self.log, "$ {}", words(command))?;
        let mut child = command.spawn().with_context(|| format!("`{}` did not start", words(command)))?;
        wait(&mut child).with_context(|| format!("`{}`", words(command)))
    }

    /// What failed tests printed, or else the end of the log.
    fn show_failure(&self) {
        let path = log_path(self.workspace, self.name);
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let failures = libtest::failures(&text);
        let lines: Vec<&str> =
            if failures.is_empty() { text.lines().collect() } else { failures.lines().collect() };
        let skipped = lines.len().saturating_sub(TAIL);
        let shown = path.strip_prefix(&self.workspace.root).unwrap_or(&path);
        println!("    from {}:", shown.display());
        lines[skipped..].iter().for_each(|line| println!("    | {line}"));
    }
}

/// Variables that `cargo run` sets for this program and that would tell build scripts the wrong package.
fn is_of_this_package(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
        .iter()
        .any(|start| name.starts_with(start))
}

/// The machine that the compiler builds for.
pub fn host(run: &mut Run<'_>) -> Result<String> {
    let mut rustc = Command::new("rustc");
    rustc.arg("-vV");
    let version = run.stdout(rustc)?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.into())
}

/// The program `name` among the messages of `cargo --message-format=json`.
pub fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut named = messages.filter(|message| message["target"]["name"] == name);
    let path = named.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    path.with_context(|| format!("cargo built no {name}"))
}

fn words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn demand_success(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` ended with {status}", words(command));
    }
    Ok(())
}

fn wait(child: &mut Child) -> Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > DEADLINE {
            kill_tree(child.id());
            child.wait()?;
            bail!("ended by us after {}", seconds(DEADLINE));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Kills a process and all below it: `cargo` does not pass a signal on to the tests that it runs.
fn kill_tree(process: u32) {
    let mut doomed = vec![process];
    let parents = parents();
    let mut next = 0;
    while let Some(&parent) = doomed.get(next) {
        doomed.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    let doomed: Vec<String> = doomed.iter().map(u32::to_string).collect();
    // The shell's own `kill`: no package has to be there for it.
    let _ = Command::new("sh").args(["-c", &format!("kill -9 {}", doomed.join(" "))]).status();
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let process = |entry: fs::DirEntry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name in parentheses may hold blanks.
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
        Some((entry.file_name().to_str()?.parse().ok()?, parent.parse().ok()?))
    };
    entries.filter_map(process).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_killed_with_its_children() {
        let mut child = Command::new("sh").args(["-c", "sleep 1000 & wait"]).spawn().unwrap();
        let grandchild = loop {
            if let Some((grandchild, _)) = parents().into_iter().find(|(_, parent)| *parent == child.id()) {
                break grandchild;
            }
        };
        kill_tree(child.id());
        assert!(!child.wait().unwrap().success());
        let deadline = Instant::now() + Duration::from_secs(10);
        while parents().iter().any(|(process, parent)| *process == grandchild && *parent != 1) {
            assert!(Instant::now() < deadline, "process {grandchild} outlived its parent");
        }
    }

    #[test]
    fn commands_are_shown_without_the_path_of_the_program() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "--lib"]);
        assert_eq!(words(&command), "cargo test --lib");
    }
}
