//! One boot: the card's process, QEMU, and what the guest writes to its serial line, with a deadline.

use super::image;
use super::judge::PASSED;
use super::rig::Rig;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Which IOMMU the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iommu {
    Intel,
    Amd,
    None,
}

/// A machine to boot.
#[derive(Clone, Debug)]
pub struct Boot {
    /// For the log, and for whoever watches.
    pub name: String,
    pub iommu: Iommu,
    /// Options of `xdma emulate`.
    pub card: String,
    /// More of QEMU's arguments, and of the kernel's.
    pub machine: Machine,
    pub system: System,
    /// Lines for the guest's shell; with more than one job the machine is started again for each.
    pub jobs: Vec<String>,
    /// QEMU is killed after that.
    pub deadline: Duration,
}

/// What the machine has besides the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Busybox.
    Small,
    /// Also Debian's own programs for modules, devices and files.
    Debian,
}

/// Memory and processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// 1 GiB, the card on the root complex.
    Plain,
    /// The same, with a clock that counts instructions: all counts are the same each time.
    Counting,
    /// The same, for a card that is killed: with a write still under way, QEMU would die too.
    NoPostedWrites,
    /// The same with the card behind a root port, from which it can be removed.
    RootPort,
    /// 1 GiB on a node and 4 GiB on a second, with the card; two pages of 1 GiB there.
    TwoNodes,
}

/// What a test asks for that only the host can do; a test prints it as a line.
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
    pub fn boot(&self, boot: &Boot) -> Result<String> {
        let folder = self.work.join(&boot.name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let mut card = Some(self.start_card(boot, &folder)?);
        let mut text = String::new();
        for job in &boot.jobs {
            let base = match boot.system {
                System::Small => &self.small,
                System::Debian => &self.debian,
            };
            self.make_initrd(base, job, &carried(&text), &folder)?;
            text += &self.run(boot, &folder, &mut card)?;
        }
        Ok(text)
    }

    /// The file system `base` with a job.
    fn make_initrd(&self, base: &Path, job: &str, carried: &str, folder: &Path) -> Result<()> {
        let [job_path, carried_path, archive] = ["job", "carried", "job.cpio"].map(|name| folder.join(name));
        fs::write(&job_path, job)?;
        fs::write(&carried_path, carried)?;
        image::make("job", &self.rig, &archive, &[&job_path, &carried_path])?;
        Ok(fs::write(folder.join("initrd"), [fs::read(base)?, fs::read(archive)?].concat())?)
    }

    /// Runs QEMU up to the guest's last line, the deadline, or its end.
    fn run(&self, boot: &Boot, folder: &Path, card: &mut Option<Process>) -> Result<String> {
        let mut qemu = self.start_qemu(boot, folder)?;
        let lines = lines(qemu.0.stdout.take().context("QEMU's output is piped")?);
        let mut log = File::options().create(true).append(true).open(folder.join("serial.log"))?;
        let (start, mut text) = (Instant::now(), String::new());
        while let Some(line) = next(&lines, start, boot.deadline) {
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

    fn start_card(&self, boot: &Boot, folder: &Path) -> Result<Process> {
        let mut command = Command::new(&self.xdma);
        command.args(["emulate", "--socket", "card", "--control", "control", "--logic", "memory"]);
        command.args(boot.card.split_whitespace()).current_dir(folder);
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

    fn start_qemu(&self, boot: &Boot, folder: &Path) -> Result<Process> {
        let mut command = Command::new(self.rig.qemu());
        command.current_dir(folder).args(COMMON.split_whitespace());
        command.arg("-kernel").arg(self.rig.kernel());
        command.args(
            match boot.machine {
                Machine::Plain | Machine::NoPostedWrites => format!("{FAST} {PLAIN}"),
                Machine::Counting => format!("{COUNTING} {PLAIN}"),
                Machine::RootPort => format!("{FAST} {PLAIN} -device pcie-root-port,id=slot1,slot=1"),
                Machine::TwoNodes => format!("{FAST} {TWO_NODES}"),
            }
            .split_whitespace(),
        );
        let (device, parameters) = match boot.iommu {
            Iommu::Intel => ("intel-iommu,intremap=on,caching-mode=on", "intel_iommu=on"),
            Iommu::Amd => ("amd-iommu,dma-remap=on", "amd_iommu=on"),
            Iommu::None => ("", "intel_iommu=off"),
        };
        if !device.is_empty() {
            command.args(["-device", device]);
        }
        let options = match boot.machine {
            Machine::Plain => r#""bus":"pcie.0""#,
            Machine::NoPostedWrites => r#""bus":"pcie.0","x-no-posted-writes":true"#,
            // A write that is not waited for leaves it to chance how often the guest looks. The card computes for long.
            Machine::Counting => r#""bus":"pcie.0","x-no-posted-writes":true,"x-msg-timeout":120000"#,
            Machine::RootPort | Machine::TwoNodes => r#""bus":"slot1""#,
        };
        command.arg("-device").arg(CARD.replace("OPTIONS", options));
        let more = match boot.machine {
            Machine::TwoNodes => " hugepagesz=1G hugepages=1:2",
            Machine::Counting => COUNTING_KERNEL,
            _ => "",
        };
        // Under load the check of the timer behind the I/O APIC comes too late, and the kernel panics.
        command.arg("-append").arg(format!("console=ttyS0 panic=-1 quiet no_timer_check {parameters}{more}"));
        let log = File::create(folder.join("qemu.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        Ok(Process(command.spawn().context("QEMU did not start")?))
    }
}

/// Guest memory is a file that the card's process can map: anything else it could not reach.
const COMMON: &str = "-M q35,kernel-irqchip=split -smp 1 -nodefaults -display none -no-reboot \
     -serial stdio -chardev socket,id=control,path=control -serial chardev:control -qmp unix:qmp,server=on,wait=off \
     -initrd initrd";
const FAST: &str = "-accel tcg -cpu max";
/// Nothing random, nothing of the host's time.
const COUNTING: &str = "-accel tcg,thread=single -icount shift=0,sleep=off -cpu max,-rdrand,-rdseed \
     -rtc base=2026-01-01T00:00:00,clock=vm";
const COUNTING_KERNEL: &str = " nokaslr norandmaps random.trust_cpu=off random.trust_bootloader=off";
const PLAIN: &str =
    "-m 1024 -object memory-backend-memfd,id=mem,size=1024M,share=on -machine memory-backend=mem";
const TWO_NODES: &str = "-m 5120 -object memory-backend-memfd,id=mem0,size=1024M,share=on \
     -object memory-backend-memfd,id=mem1,size=4096M,share=on -numa node,nodeid=0,cpus=0,memdev=mem0 \
     -numa node,nodeid=1,memdev=mem1 -device pxb-pcie,id=far,bus=pcie.0,bus_nr=128,numa_node=1 \
     -device pcie-root-port,id=slot1,bus=far,slot=1";
const CARD: &str = r#"{"driver":"vfio-user-pci","id":"card",OPTIONS,"socket":{"type":"unix","path":"card"}}"#;

/// Lines as they come, each without what would confuse a comparison.
fn lines(output: ChildStdout) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_string();
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

/// What the guest left for its next boot.
fn carried(text: &str) -> String {
    let rest = text.rsplit_once("vm: carry\n").map_or("", |(_, rest)| rest);
    rest.split_once("vm: carried\n").map_or(String::new(), |(files, _)| files.to_string())
}

fn next(lines: &Receiver<String>, start: Instant, deadline: Duration) -> Option<String> {
    match lines.recv_timeout(deadline.saturating_sub(start.elapsed())) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Timeout) => {
            Some(format!("{DONE}, by force: {} s are over", deadline.as_secs()))
        }
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// Asks QEMU to unplug the card, as an administrator would by pulling it.
fn remove_card(folder: &Path) -> Result<()> {
    // A socket's path must be short, and this one may not be.
    let socket = File::open(folder)?;
    let path = format!("/proc/self/fd/{}/qmp", std::os::fd::AsRawFd::as_raw_fd(&socket));
    let stream = UnixStream::connect(path)?;
    let mut answers = BufReader::new(stream.try_clone()?).lines();
    for request in
        [r#"{"execute":"qmp_capabilities"}"#, r#"{"execute":"device_del","arguments":{"id":"card"}}"#]
    {
        (&stream).write_all(request.as_bytes())?;
        let answer = answers.find(|line| {
            line.as_ref().is_ok_and(|line| line.contains("\"return\"") || line.contains("\"error\""))
        });
        match answer {
            Some(Ok(answer)) if answer.contains("\"return\"") => {}
            other => bail!("QEMU answered {other:?} to {request}"),
        }
    }
    Ok(())
}
