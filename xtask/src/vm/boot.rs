//! One boot: the card's process, QEMU, and what the guest prints to its serial line, with a deadline.

use super::judge::PASSED;
use super::plan::{Catalog, Machine, Part};
use super::rig::Rig;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long a boot may take before QEMU is killed.
const DEADLINE: Duration = Duration::from_secs(15 * 60);
/// What a test asks of the host, as a line that it prints.
const KILL_CARD: &str = "host: kill the card";
const REMOVE_CARD: &str = "host: remove the card";
/// The guest's last line.
const DONE: &str = "vm: done";

/// A process that ends with its handle.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What all boots need.
pub struct Host {
    pub rig: Rig,
    pub catalog: Catalog,
    /// The program `xdma`.
    pub xdma: PathBuf,
    /// File systems without a job.
    pub small: PathBuf,
    pub debian: PathBuf,
    /// Each boot has a folder here.
    pub work: PathBuf,
}

impl Host {
    /// Boots once for each job and returns what the guest printed.
    pub fn boot(&self, machine: &Machine, jobs: &[String]) -> Result<String> {
        let folder = self.work.join(&machine.name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let mut card = Some(self.start_card(machine, &folder)?);
        let mut text = String::new();
        let base = if machine.debian { &self.debian } else { &self.small };
        for job in jobs {
            self.make_initrd(base, job, carried(&text), &folder)?;
            text += &self.run(machine, &folder, &mut card)?;
        }
        Ok(text)
    }

    /// The file system `base` with a job.
    fn make_initrd(&self, base: &Path, job: &str, carried: &str, folder: &Path) -> Result<()> {
        let [job_path, carried_path, archive] = ["job", "carried", "job.cpio"].map(|name| folder.join(name));
        fs::write(&job_path, job)?;
        fs::write(&carried_path, carried)?;
        self.rig.make_image("job", &archive, &[&job_path, &carried_path])?;
        Ok(fs::write(folder.join("initrd"), [fs::read(base)?, fs::read(archive)?].concat())?)
    }

    /// Runs QEMU up to the guest's last line, the deadline, or its end.
    fn run(&self, machine: &Machine, folder: &Path, card: &mut Option<Process>) -> Result<String> {
        let mut qemu = self.start_qemu(machine, folder)?;
        let lines = lines(qemu.0.stdout.take().context("QEMU's output is piped")?);
        let mut log = File::options().create(true).append(true).open(folder.join("serial.log"))?;
        let (start, mut text) = (Instant::now(), String::new());
        while let Some(line) = next(&lines, start) {
            writeln!(log, "{:7.2} {line}", start.elapsed().as_secs_f64())?;
            text.push_str(&line);
            text.push('\n');
            match line.as_str() {
                PASSED => break,
                line if line.starts_with(DONE) => break,
                // The name of the test may stand before it.
                line if line.ends_with(KILL_CARD) => drop(card.take()),
                line if line.ends_with(REMOVE_CARD) => remove_card(folder)?,
                _ => {}
            }
        }
        Ok(text)
    }

    fn start_card(&self, machine: &Machine, folder: &Path) -> Result<Process> {
        let mut command = Command::new(&self.xdma);
        command.args(["emulate", "--socket", "card", "--control", "control", "--logic", "memory"]);
        command.args(machine.card.split_whitespace()).current_dir(folder);
        let log = File::create(folder.join("card.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let card = Process(command.spawn().context("the card's process did not start")?);
        let start = Instant::now();
        while !folder.join("control").exists() {
            ensure!(start.elapsed() < Duration::from_secs(20), "the card's process does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(card)
    }

    fn start_qemu(&self, machine: &Machine, folder: &Path) -> Result<Process> {
        let Catalog { common, iommu, board, .. } = &self.catalog;
        let parts = [common, &iommu[&machine.iommu], &board[&machine.board]];
        let join = |of: fn(&Part) -> &str| parts.map(of).join(" ");
        let mut command = Command::new(self.rig.file("qemu-system-x86_64"));
        command.current_dir(folder).arg("-kernel").arg(self.rig.file("vmlinuz"));
        command.args(join(|part| &part.qemu).split_whitespace());
        let device = board[&machine.board].device.as_str();
        let socket = r#""socket":{"type":"unix","path":"card"}"#;
        command.arg("-device").arg(format!(r#"{{"driver":"vfio-user-pci","id":"card",{device},{socket}}}"#));
        command.arg("-append").arg(join(|part| &part.kernel));
        let log = File::create(folder.join("qemu.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        Ok(Process(command.spawn().context("QEMU did not start")?))
    }
}

/// Lines as they come, without carriage returns.
fn lines(output: ChildStdout) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_string();
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

fn next(lines: &Receiver<String>, start: Instant) -> Option<String> {
    match lines.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Timeout) => Some(format!("{DONE}, by force: the deadline is over")),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// What the guest left for its next boot.
fn carried(text: &str) -> &str {
    let rest = text.rsplit_once("vm: carry\n").map_or("", |(_, rest)| rest);
    rest.split_once("vm: carried\n").map_or("", |(files, _)| files)
}

/// Asks QEMU to unplug the card, as an administrator would by pulling it.
fn remove_card(folder: &Path) -> Result<()> {
    // A socket's path must be short, and this one may not be.
    let folder = File::open(folder)?;
    let stream = UnixStream::connect(format!("/proc/self/fd/{}/qmp", folder.as_raw_fd()))?;
    let mut answers = BufReader::new(stream.try_clone()?).lines().map_while(Result::ok);
    for request in
        [r#"{"execute":"qmp_capabilities"}"#, r#"{"execute":"device_del","arguments":{"id":"card"}}"#]
    {
        (&stream).write_all(request.as_bytes())?;
        match answers.find(|line| line.contains("\"return\"") || line.contains("\"error\"")) {
            Some(answer) if answer.contains("\"return\"") => {}
            other => bail!("QEMU answered {other:?} to {request}"),
        }
    }
    Ok(())
}
