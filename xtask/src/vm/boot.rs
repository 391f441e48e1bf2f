//! Boots a machine: starts the card's process and QEMU, and reads the guest's serial output, with a time limit.

use super::outcomes::PASSED;
use super::plan::{Catalog, DEADLINE, Machine, Part};
use super::rig::Rig;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// Time limit for the next line of output; QEMU is then killed. A test may print nothing until its own limit.
const SILENCE: Duration = Duration::from_secs(DEADLINE as u64 + 60);
/// Requests to the host, which a test prints as a line.
const KILL_CARD: &str = "host: kill the card";
const REMOVE_CARD: &str = "host: remove the card";
/// The guest's last line.
const DONE: &str = "vm: done";

/// A child process that is killed on drop.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // It may already have exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots machines.
pub struct Launcher {
    pub rig: Rig,
    pub catalog: Catalog,
    /// The program `xdma`.
    pub xdma: PathBuf,
    /// The working directory, with the guest's file systems and a subdirectory for each machine.
    pub work: PathBuf,
}

impl Launcher {
    /// Boots once for each job and returns the guest's output.
    pub fn boot(&self, machine: &Machine, jobs: &[String]) -> Result<String> {
        let dir = self.work.join(&machine.name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        let mut card = Some(self.start_card(machine, &dir)?);
        let mut text = String::new();
        let mut parts = vec![if machine.debian { "debian" } else { "small" }];
        // Programs of the host.
        parts.extend(jobs.iter().any(|job| job.contains("programs::")).then_some("programs"));
        for job in jobs {
            self.make_initrd(&parts, job, saved_files(&text), &dir)?;
            text += &self.run(machine, &dir, &mut card)?;
        }
        Ok(text)
    }

    /// Writes the initrd: the file systems `parts`, a job, and files from an earlier boot.
    fn make_initrd(&self, parts: &[&str], job: &str, saved: &str, dir: &Path) -> Result<()> {
        let [job_path, saved_path, archive] = ["job", "saved", "job.cpio"].map(|name| dir.join(name));
        fs::write(&job_path, job)?;
        fs::write(&saved_path, saved)?;
        self.rig.make_image("job", &archive, &[&job_path, &saved_path])?;
        let parts = parts.iter().map(|part| self.work.join(part).with_extension("cpio")).chain([archive]);
        Ok(fs::write(dir.join("initrd"), parts.map(fs::read).collect::<Result<Vec<_>, _>>()?.concat())?)
    }

    /// Runs QEMU until the guest's last line, until it prints nothing for too long, or until QEMU exits.
    fn run(&self, machine: &Machine, dir: &Path, card: &mut Option<KillOnDrop>) -> Result<String> {
        let mut qemu = self.start_qemu(machine, dir)?;
        let lines = lines(qemu.0.stdout.take().context("QEMU's output is piped")?);
        let mut log = File::options().create(true).append(true).open(dir.join("serial.log"))?;
        let (start, mut text) = (Instant::now(), String::new());
        while let Ok(line) = lines.recv_timeout(SILENCE) {
            writeln!(log, "{:7.2} {line}", start.elapsed().as_secs_f64())?;
            text.push_str(&line);
            text.push('\n');
            match line.as_str() {
                PASSED => break,
                line if line.starts_with(DONE) => break,
                // libtest may have printed the test's name on the same line.
                line if line.ends_with(KILL_CARD) => drop(card.take()),
                line if line.ends_with(REMOVE_CARD) => remove_card(dir)?,
                _ => {}
            }
        }
        Ok(text)
    }

    fn start_card(&self, machine: &Machine, dir: &Path) -> Result<KillOnDrop> {
        let rtl = self.work.join("xdma-rtl");
        let mut command = Command::new(if machine.rtl { &rtl } else { &self.xdma });
        command.args(["emulate", "--socket", "card", "--control", "control", "--logic", "memory"]);
        command.args(machine.card.split_whitespace()).current_dir(dir);
        let log = File::create(dir.join("card.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let card = KillOnDrop(command.spawn().context("the card's process did not start")?);
        let start = Instant::now();
        while !dir.join("control").exists() {
            ensure!(start.elapsed() < Duration::from_secs(20), "the card opens no control socket");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(card)
    }

    fn start_qemu(&self, machine: &Machine, dir: &Path) -> Result<KillOnDrop> {
        let Catalog { common, iommu, platform, .. } = &self.catalog;
        let parts = [common, &iommu[&machine.iommu], &platform[&machine.platform]];
        let join = |of: fn(&Part) -> &str| parts.map(of).join(" ");
        let mut command = Command::new(self.rig.file("qemu-system-x86_64"));
        command.current_dir(dir).arg("-kernel").arg(self.rig.file("vmlinuz"));
        command.args(join(|part| &part.qemu).split_whitespace());
        let device = platform[&machine.platform].device.as_str();
        let socket = r#""socket":{"type":"unix","path":"card"}"#;
        command.arg("-device").arg(format!(r#"{{"driver":"vfio-user-pci","id":"card",{device},{socket}}}"#));
        command.arg("-append").arg(join(|part| &part.kernel));
        let log = File::create(dir.join("qemu.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        Ok(KillOnDrop(command.spawn().context("QEMU did not start")?))
    }
}

/// Returns the lines of the output as they arrive, without carriage returns.
fn lines(output: ChildStdout) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
        let text = |line: Vec<u8>| String::from_utf8_lossy(&line).trim_end_matches('\r').to_string();
        let _ = lines.try_for_each(|line| send.send(text(line)));
    });
    receive
}

/// Returns the files that the guest saved for its next boot, as an encoded archive.
fn saved_files(text: &str) -> &str {
    let rest = text.rsplit_once("vm: save\n").map_or("", |(_, rest)| rest);
    rest.split_once("vm: saved\n").map_or("", |(files, _)| files)
}

/// Unplugs the card, through QEMU's control socket.
fn remove_card(dir: &Path) -> Result<()> {
    // The full path may exceed the length limit for socket paths.
    let dir = File::open(dir)?;
    let stream = UnixStream::connect(format!("/proc/self/fd/{}/qmp", dir.as_raw_fd()))?;
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
