//! The machine and card that were measured, and how noisy the machine was.

use super::results::median;
use crate::card::is_emulated;
use crate::number;
use crate::output::quoted;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use jiff::Timestamp;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::read_to_string;
use std::hint::black_box;
use std::ops::{AddAssign, Sub};
use std::time::{Duration, Instant};
use xdma::card::{Link, Report};

/// Maximum share of its time that the calibration loop may lose.
const MAX_LOST: f64 = 0.02;
/// Maximum load per processor before the run.
const MAX_LOAD: f64 = 0.5;
/// Maximum number of involuntary context switches of the calibration loop, per second.
const MAX_SWITCHES: f64 = 100.0;
/// Maximum difference between rounds, relative to their median.
const MAX_SPREAD: f64 = 0.2;

/// The machine, the card and the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Time at which the run ended, such as `2026-11-30T17:00:00Z`.
    pub date: String,
    /// The command line, quoted for a shell.
    pub command: String,
    /// Name of the host.
    pub host: String,
    pub card: CardDescription,
    pub cpu: String,
    pub processors: usize,
    /// Processor to which the measuring thread was pinned.
    pub pinned: Option<usize>,
    pub virtual_machine: bool,
    pub kernel: String,
    /// CPU frequency governor, if known.
    pub governor: Option<String>,
    /// Number of 2 MiB pages: free, total.
    pub hugepages: (u64, u64),
    pub noise: Noise,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CardDescription {
    /// Name of the card on the command line.
    pub name: String,
    /// PCI IDs, as `vendor:device`.
    pub identity: String,
    /// Bus through which the card was opened.
    pub bus: String,
    /// Whether the card is emulated by a program.
    pub emulated: bool,
    pub link: Option<LinkDescription>,
    pub ring: String,
    /// Wait mode of the channels.
    pub wait: String,
    pub address: u64,
    /// Whether small pages were used because no hugepages were free.
    pub small_pages: bool,
}

/// The PCI Express link.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkDescription {
    pub generation: u32,
    pub lanes: u32,
    /// What the card supports.
    pub max_generation: u32,
    pub max_lanes: u32,
}

impl LinkDescription {
    fn new((now, best): (Link, Link)) -> Self {
        let (max_generation, max_lanes) = (best.generation, best.lanes);
        Self { generation: now.generation, lanes: now.lanes, max_generation, max_lanes }
    }

    /// Returns the bytes per second that the link carries in each direction, headers of packets included; `None` if the link is
    /// not trained, or of an unknown generation.
    pub fn bytes_per_second(&self) -> Option<f64> {
        // Line rate of a lane, and the share that its encoding leaves.
        let bits = match self.generation {
            1 => 2.5e9 * 0.8,
            2 => 5e9 * 0.8,
            3 => 8e9 * 128.0 / 130.0,
            4 => 16e9 * 128.0 / 130.0,
            5 => 32e9 * 128.0 / 130.0,
            _ => return None,
        };
        (self.lanes > 0).then_some(bits / 8.0 * f64::from(self.lanes))
    }

    /// Returns the name of the current speed and width.
    pub fn name(&self) -> String {
        Link { generation: self.generation, lanes: self.lanes }.to_string()
    }
}

impl fmt::Display for LinkDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best = Link { generation: self.max_generation, lanes: self.max_lanes };
        write!(f, "{}, the card supports {best}", self.name())
    }
}

/// Disturbances by other work on the machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Noise {
    /// Load average of the last minute before the run.
    pub load: f64,
    /// Share of its time that the calibration loop lost, before or after the run.
    pub lost: f64,
    /// Longest interruption of the calibration loop, in nanoseconds.
    pub longest: u64,
    /// Duration of a clock read in nanoseconds; each latency includes one or two.
    pub clock: f64,
    /// Involuntary context switches of the calibration loop, per second.
    pub switches: f64,
    /// Difference between the highest and the lowest round relative to their median; the median over all figures.
    pub spread: f64,
}

/// Returns the number of processors that this thread may use, which is 1 after [`pin`].
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Machine {
    pub fn read(card: CardDescription, processors: usize, pinned: Option<usize>, noise: Noise) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |key: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let pages = |what: &str| {
            read(&format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{what}")).trim().parse().unwrap_or(0)
        };
        let words: Vec<_> = std::env::args().map(|word| quoted(&word)).collect();
        Self {
            date: Timestamp::now().strftime("%FT%TZ").to_string(),
            command: words.join(" "),
            host: read("/proc/sys/kernel/hostname").trim().into(),
            card,
            cpu: field("model name").or_else(|| field("CPU implementer")).unwrap_or_else(|| "unknown".into()),
            processors,
            pinned,
            virtual_machine: field("flags").is_some_and(|flags| flags.split(' ').any(|f| f == "hypervisor")),
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            governor: Some(governor.trim().to_owned()).filter(|text| !text.is_empty()),
            hugepages: (pages("free_hugepages"), pages("nr_hugepages")),
            noise,
        }
    }

    /// Returns reasons not to trust the figures.
    pub fn warnings(&self) -> Vec<String> {
        let Noise { load, lost, longest, switches, spread, .. } = self.noise;
        let processors = self.processors;
        let mut all = vec![];
        let mut warn = |when: bool, text: String| all.extend(when.then_some(text));
        warn(
            self.card.emulated,
            "the card is emulated by a program on this machine, so its figures show nothing about silicon"
                .into(),
        );
        warn(
            load > MAX_LOAD * processors as f64,
            format!("the machine was busy before the run: load {load:.1} on {processors} processors"),
        );
        warn(
            lost > MAX_LOST,
            format!(
                "a calibration loop lost {:.0} % of its time, at most {:.1} ms in one interruption",
                100.0 * lost,
                longest as f64 / 1e6
            ),
        );
        warn(
            switches > MAX_SWITCHES,
            format!("the calibration loop was descheduled {switches:.0} times a second"),
        );
        warn(
            spread > MAX_SPREAD,
            format!("the rounds of a figure are {:.0} % apart (median over all figures)", 100.0 * spread),
        );
        all
    }

    /// Returns whether the machine was too noisy to trust the figures.
    pub fn is_noisy(&self) -> bool {
        self.warnings().len() > usize::from(self.card.emulated)
    }

    /// Returns the names and values of the rows of the report.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let Self { card, noise, processors, .. } = self;
        let pinning = match self.pinned {
            Some(cpu) => format!("pinned to processor {cpu}"),
            None => "not pinned (use --cpu N to pin it)".into(),
        };
        let host = if self.virtual_machine { ", virtual machine" } else { "" };
        let emulated = if card.emulated { ", emulated" } else { "" };
        let pages = if card.small_pages { "; none were free for this run" } else { "" };
        vec![
            ("date", self.date.clone()),
            ("command", self.command.clone()),
            ("host", self.host.clone()),
            ("card", format!("{}, {} over {}{emulated}", card.name, card.identity, card.bus)),
            ("link", card.link.map_or_else(|| "unknown".into(), |link| link.to_string())),
            ("driver", format!("{} ring, wait mode {}", card.ring, card.wait)),
            ("card address", format!("{:#x}", card.address)),
            ("processors", format!("{processors} × {}{host}", self.cpu)),
            ("measuring thread", pinning),
            ("kernel", self.kernel.clone()),
            ("frequency governor", self.governor.clone().unwrap_or_else(|| "unknown".into())),
            ("2 MiB hugepages", format!("{} of {} free{pages}", self.hugepages.0, self.hugepages.1)),
            ("load before the run", format!("{:.2}", noise.load)),
            (
                "calibration loop",
                format!(
                    "lost {:.1} % of its time, at most {} in one interruption",
                    100.0 * noise.lost,
                    number::nanoseconds(noise.longest)
                ),
            ),
            ("descheduled", format!("{:.0} times a second", noise.switches)),
            ("spread of the rounds", format!("{:.0} % (median over all figures)", 100.0 * noise.spread)),
            ("clock read", format!("{:.0} ns", noise.clock)),
        ]
    }
}

impl CardDescription {
    pub fn new(name: String, report: &Report, ring: String, wait: String, address: u64) -> Self {
        Self {
            name,
            identity: format!("{:04x}:{:04x}", report.vendor, report.device),
            bus: report.bus.kind.into(),
            emulated: is_emulated(report),
            link: report.link.map(LinkDescription::new),
            ring,
            wait,
            address,
            small_pages: report.small_pages,
        }
    }
}

/// Returns the load average of the last minute.
pub fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_default()
}

/// Pins this thread to one processor.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    let pinned = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    pinned.with_context(|| {
        format!("cannot run on processor {cpu}; `nproc` and `taskset -p $$` show the available processors")
    })
}

/// The measurements of a calibration loop: constant work, repeated for a tenth of a second.
pub struct Calibration {
    lost: f64,
    longest: u64,
    clock: f64,
    switches: f64,
}

impl Calibration {
    pub fn measure() -> Result<Self> {
        let mut times = Histogram::<u64>::new(3)?;
        let before = CpuUsage::now()?;
        let (begin, mut last) = (Instant::now(), Instant::now());
        while last - begin < Duration::from_millis(100) {
            black_box((0..black_box(10_000u64)).fold(1, |sum, at| sum ^ at.wrapping_mul(sum | 1)));
            let now = Instant::now();
            times.record((now - last).as_nanos() as u64)?;
            last = now;
        }
        let switches = (CpuUsage::now()? - before).switches;
        let median = times.value_at_quantile(0.5);
        let lost = |(time, count): (u64, u64)| time.saturating_sub(median) as f64 * count as f64;
        let all: f64 = times.iter_recorded().map(|v| lost((v.value_iterated_to(), v.count_at_value()))).sum();
        let clock: Vec<_> = (0..1000).map(|_| Instant::now()).collect();
        let gaps: Vec<_> = clock.windows(2).map(|pair| (pair[1] - pair[0]).as_nanos() as f64).collect();
        Ok(Self {
            lost: all / (last - begin).as_nanos() as f64,
            longest: times.max().saturating_sub(median),
            clock: gaps.iter().sum::<f64>() / gaps.len() as f64,
            switches: switches / (last - begin).as_secs_f64(),
        })
    }
}

impl Noise {
    /// Combines the load, the calibrations before and after the run, and the rounds of all figures.
    pub fn new(load: f64, calibration: [Calibration; 2], rounds: &[&[f64]]) -> Self {
        let spreads: Vec<_> = rounds.iter().map(|rounds| spread(rounds)).collect();
        Self {
            load,
            lost: calibration.iter().map(|calibration| calibration.lost).fold(0.0, f64::max),
            longest: calibration.iter().map(|calibration| calibration.longest).max().unwrap_or(0),
            clock: calibration.iter().map(|calibration| calibration.clock).fold(f64::MAX, f64::min),
            switches: calibration.iter().map(|calibration| calibration.switches).fold(0.0, f64::max),
            spread: if spreads.is_empty() { 0.0 } else { median(&spreads) },
        }
    }
}

/// Returns the difference between the highest and the lowest value, relative to the median.
fn spread(values: &[f64]) -> f64 {
    let (low, high) = range(values);
    if values.is_empty() { 0.0 } else { (high - low) / median(values).max(f64::MIN_POSITIVE) }
}

/// Returns the lowest and the highest value.
pub fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::MAX, f64::MIN), |(low, high), &value| (low.min(value), high.max(value)))
}

/// Resource usage of this thread and process, from `getrusage`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuUsage {
    /// Processor time of this thread, in seconds.
    pub thread: f64,
    /// Processor time of all threads of the process, in seconds.
    pub process: f64,
    /// Number of involuntary context switches of this thread.
    pub switches: f64,
}

impl CpuUsage {
    pub fn now() -> Result<Self> {
        let of = |who| getrusage(who).context("cannot read the resource usage");
        let (thread, process) = (of(UsageWho::RUSAGE_THREAD)?, of(UsageWho::RUSAGE_SELF)?);
        let seconds = |usage: &nix::sys::resource::Usage| {
            (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
        };
        let switches = thread.involuntary_context_switches() as f64;
        Ok(Self { thread: seconds(&thread), process: seconds(&process), switches })
    }
}

impl Sub for CpuUsage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            thread: self.thread - before.thread,
            process: self.process - before.process,
            switches: self.switches - before.switches,
        }
    }
}

impl AddAssign for CpuUsage {
    fn add_assign(&mut self, more: Self) {
        self.thread += more.thread;
        self.process += more.process;
        self.switches += more.switches;
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn quiet() -> Machine {
        let card = CardDescription {
            name: "0000:01:00.0".into(),
            identity: "10ee:903f".into(),
            bus: "vfio".into(),
            emulated: false,
            link: None,
            ring: "credits".into(),
            wait: "spin".into(),
            address: 0,
            small_pages: false,
        };
        Machine::read(card, 2, None, Noise::default())
    }

    #[test]
    fn the_limit_of_a_link_follows_from_its_generation_and_width() {
        let link =
            |generation, lanes| LinkDescription { generation, lanes, max_generation: 5, max_lanes: 16 };
        assert_eq!(link(1, 4).bytes_per_second(), Some(1e9));
        assert_eq!(link(3, 16).bytes_per_second().map(f64::round), Some(15_753_846_154.0));
        assert_eq!((link(0, 0).bytes_per_second(), link(7, 1).bytes_per_second()), (None, None));
        assert_eq!(link(3, 8).to_string(), "Gen3 x8, the card supports Gen5 x16");
    }

    #[test]
    fn warnings_name_the_noise() {
        assert_eq!(quiet().warnings(), [""; 0]);
        let noisy = |noise| Machine { noise, ..quiet() }.warnings().join("\n");
        let quiet = Noise::default;
        assert!(noisy(Noise { load: 1.5, ..quiet() }).contains("load 1.5 on 2 processors"));
        assert!(
            noisy(Noise { lost: 0.25, longest: 4_000_000, ..quiet() })
                .contains("lost 25 % of its time, at most 4.0 ms")
        );
        assert!(noisy(Noise { switches: 700.0, ..quiet() }).contains("700 times a second"));
        assert!(noisy(Noise { spread: 0.5, ..quiet() }).contains("50 % apart"));
    }

    #[test]
    fn an_emulated_card_is_a_warning_and_not_noise() {
        let mut machine = quiet();
        machine.card.emulated = true;
        assert!(machine.warnings()[0].contains("nothing about silicon"));
        assert!(!machine.is_noisy());
        machine.noise.load = 10.0;
        assert!(machine.is_noisy());
    }

    #[test]
    fn noise_combines_calibrations_and_rounds() {
        let calibration = || Calibration { lost: 0.0, longest: 0, clock: 20.0, switches: 0.0 };
        let noise = Noise::new(
            0.0,
            [calibration(), Calibration { lost: 0.1, ..calibration() }],
            &[&[1.0, 2.0, 3.0], &[1.0, 1.0]],
        );
        assert_eq!((noise.spread, noise.lost, noise.clock), (0.5, 0.1, 20.0));
    }

    #[test]
    fn processor_time_of_this_thread_is_measured() {
        let before = CpuUsage::now().unwrap();
        let calibration = Calibration::measure().unwrap();
        let used = CpuUsage::now().unwrap() - before;
        assert!(used.thread > 0.0 && used.process >= used.thread * 0.9, "{used:?}");
        assert!(calibration.lost < 1.0 && calibration.clock > 0.0);
        assert!(pin(100_000).unwrap_err().to_string().contains("processor 100000"));
    }
}
