//! What has to be known to believe a figure: the machine, the card, and how quiet it was.

use super::results::median;
use crate::number;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs::read_to_string;
use std::hint::black_box;
use std::ops::{AddAssign, Sub};
use std::time::{Duration, Instant};
use xdma::card::Report;

/// Of the time, lost to others: more is not to be believed.
const LOST: f64 = 0.02;
/// Processes that want to run, for each processor, before anything is measured.
const LOAD: f64 = 0.5;
/// How often a second the loop may lose its processor.
const SWITCHES: f64 = 100.0;
/// Difference between rounds, of the figure.
const SPREAD: f64 = 0.2;

/// The machine and the card.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub card: CardDescription,
    pub cpu: String,
    pub processors: usize,
    /// The one that the measuring thread was kept on.
    pub pinned: Option<usize>,
    pub virtual_machine: bool,
    pub kernel: String,
    /// Of the processors' frequency, where the system says.
    pub governor: Option<String>,
    /// 2 MiB pages: free, and all.
    pub hugepages: (u64, u64),
    pub noise: Noise,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CardDescription {
    /// As it was named.
    pub name: String,
    /// vendor:device.
    pub identity: String,
    /// The way to it.
    pub bus: String,
    /// A program, not silicon.
    pub emulated: bool,
    pub link: Option<String>,
    pub ring: String,
    /// How the driver waited.
    pub wait: String,
    pub address: u64,
    /// No hugepages were free.
    pub small_pages: bool,
}

/// How quiet the machine was.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Noise {
    /// Processes that wanted to run, on average over the minute before.
    pub load: f64,
    /// Share of the time that a loop of the same work lost, before and after.
    pub lost: f64,
    /// The longest time that the loop was away, in nanoseconds.
    pub longest: u64,
    /// What it takes to look at the clock, in nanoseconds: part of each latency.
    pub clock: f64,
    /// How often a second that loop lost its processor to another thread.
    pub switches: f64,
    /// How far rounds lay apart, of their median: the median of all figures.
    pub spread: f64,
}

/// The processors that this thread may use: fewer once it is pinned.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Machine {
    pub fn look(card: CardDescription, processors: usize, pinned: Option<usize>, noise: Noise) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let of = |key: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let pages = |what: &str| {
            read(&format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{what}")).trim().parse().unwrap_or(0)
        };
        Self {
            card,
            cpu: of("model name").or_else(|| of("CPU implementer")).unwrap_or_else(|| "unknown".into()),
            processors,
            pinned,
            virtual_machine: of("flags").is_some_and(|flags| flags.split(' ').any(|f| f == "hypervisor")),
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            governor: Some(governor.trim().to_owned()).filter(|text| !text.is_empty()),
            hugepages: (pages("free_hugepages"), pages("nr_hugepages")),
            noise,
        }
    }

    /// Why the figures are not to be believed, or for what they do not stand.
    pub fn warnings(&self) -> Vec<String> {
        let Noise { load, lost, longest, switches, spread, .. } = self.noise;
        let processors = self.processors;
        let mut all = vec![];
        let mut warn = |when: bool, text: String| all.extend(when.then_some(text));
        warn(
            self.card.emulated,
            "an emulated card: a program on this machine. Its figures say nothing of silicon".into(),
        );
        warn(
            load > LOAD * processors as f64,
            format!("others were busy before: load {load:.1} on {processors} processors"),
        );
        warn(
            lost > LOST,
            format!(
                "a loop of the same work lost {:.0} % of its time, at most {:.1} ms at once",
                100.0 * lost,
                longest as f64 / 1e6
            ),
        );
        warn(
            switches > SWITCHES,
            format!("that loop lost its processor to others {switches:.0} times a second"),
        );
        warn(
            spread > SPREAD,
            format!("rounds of the same lay {:.0} % apart, as the median of all figures", 100.0 * spread),
        );
        all
    }

    /// Whether the machine was too noisy to believe the figures.
    pub fn is_noisy(&self) -> bool {
        self.warnings().len() > usize::from(self.card.emulated)
    }

    /// What is shown to people: names and values.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let Self { card, noise, processors, .. } = self;
        let place = match self.pinned {
            Some(cpu) => format!("kept on processor {cpu}"),
            None => "free to move (--cpu N keeps it on one)".into(),
        };
        let host = if self.virtual_machine { ", a virtual machine" } else { "" };
        let pages = if card.small_pages { "; none was free for this" } else { "" };
        vec![
            ("card", format!("{}, {} over {}", card.name, card.identity, card.bus)),
            ("link", card.link.clone().unwrap_or_else(|| "not said".into())),
            ("driver", format!("{} ring, waits by {}", card.ring, card.wait)),
            ("card address", format!("{:#x}", card.address)),
            ("processors", format!("{processors} of {}{host}", self.cpu)),
            ("measuring thread", place),
            ("kernel", self.kernel.clone()),
            ("frequency governor", self.governor.clone().unwrap_or_else(|| "not said".into())),
            ("2 MiB hugepages", format!("{} of {} free{pages}", self.hugepages.0, self.hugepages.1)),
            ("load before", format!("{:.2}", noise.load)),
            (
                "same loop again",
                format!(
                    "{:.1} % of its time lost, {} at most",
                    100.0 * noise.lost,
                    number::nanoseconds(noise.longest)
                ),
            ),
            ("it lost its processor", format!("{:.0} times a second", noise.switches)),
            ("rounds apart", format!("{:.0} % (median of all figures)", 100.0 * noise.spread)),
            ("a look at the clock", format!("{:.0} ns", noise.clock)),
        ]
    }
}

impl CardDescription {
    pub fn new(name: String, report: &Report, ring: String, wait: String, address: u64) -> Self {
        Self {
            name,
            identity: format!("{:04x}:{:04x}", report.vendor, report.device),
            bus: report.bus.kind.into(),
            // Nothing else speaks it so far.
            emulated: report.bus.kind == "vfio-user",
            link: report.link.map(|(now, best)| format!("{now}, the card can do {best}")),
            ring,
            wait,
            address,
            small_pages: report.small_pages,
        }
    }
}

/// Processes that wanted to run, on average over the last minute.
pub fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_default()
}

/// Keeps this thread on one processor.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    let pinned = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    pinned.with_context(|| {
        format!("cannot run on processor {cpu}: see `nproc` and `taskset -p $$` for those to be had")
    })
}

/// How even time passes: the same work again and again, for a tenth of a second.
pub struct Calm {
    lost: f64,
    longest: u64,
    clock: f64,
    switches: f64,
}

impl Calm {
    pub fn measure() -> Result<Self> {
        let mut times = Histogram::<u64>::new(3)?;
        let before = Usage::now()?;
        let (begin, mut last) = (Instant::now(), Instant::now());
        while last - begin < Duration::from_millis(100) {
            black_box((0..black_box(10_000u64)).fold(1, |sum, at| sum ^ at.wrapping_mul(sum | 1)));
            let now = Instant::now();
            times.record((now - last).as_nanos() as u64)?;
            last = now;
        }
        let switches = (Usage::now()? - before).switches;
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
    /// What the machine did before and after, and what the rounds have of it.
    pub fn new(load: f64, calm: [Calm; 2], rounds: &[&[f64]]) -> Self {
        let spreads: Vec<_> = rounds.iter().map(|rounds| spread(rounds)).collect();
        Self {
            load,
            lost: calm.iter().map(|calm| calm.lost).fold(0.0, f64::max),
            longest: calm.iter().map(|calm| calm.longest).max().unwrap_or(0),
            clock: calm.iter().map(|calm| calm.clock).fold(f64::MAX, f64::min),
            switches: calm.iter().map(|calm| calm.switches).fold(0.0, f64::max),
            spread: if spreads.is_empty() { 0.0 } else { median(&spreads) },
        }
    }
}

/// How far values lie apart, of their median.
fn spread(values: &[f64]) -> f64 {
    let (low, high) = range(values);
    if values.is_empty() { 0.0 } else { (high - low) / median(values).max(f64::MIN_POSITIVE) }
}

/// The lowest and the highest.
pub fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::MAX, f64::MIN), |(low, high), &value| (low.min(value), high.max(value)))
}

/// What the kernel accounts to this thread and process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Seconds of a processor that this thread had.
    pub thread: f64,
    /// The same of all threads.
    pub process: f64,
    /// How often this thread lost its processor.
    pub switches: f64,
}

impl Usage {
    pub fn now() -> Result<Self> {
        let of = |who| getrusage(who).context("the kernel does not say what was used");
        let (thread, process) = (of(UsageWho::RUSAGE_THREAD)?, of(UsageWho::RUSAGE_SELF)?);
        let seconds = |usage: &nix::sys::resource::Usage| {
            (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
        };
        let switches = thread.involuntary_context_switches() as f64;
        Ok(Self { thread: seconds(&thread), process: seconds(&process), switches })
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            thread: self.thread - before.thread,
            process: self.process - before.process,
            switches: self.switches - before.switches,
        }
    }
}

impl AddAssign for Usage {
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
        Machine::look(card, 2, None, Noise::default())
    }

    #[test]
    fn a_quiet_machine_is_believed_and_a_noisy_one_is_not() {
        assert_eq!(quiet().warnings(), [""; 0]);
        let noisy = |noise| Machine { noise, ..quiet() }.warnings().join("\n");
        let quiet = Noise::default;
        assert!(noisy(Noise { load: 1.5, ..quiet() }).contains("load 1.5 on 2 processors"));
        assert!(
            noisy(Noise { lost: 0.25, longest: 4_000_000, ..quiet() })
                .contains("25 % of its time, at most 4.0 ms")
        );
        assert!(noisy(Noise { switches: 700.0, ..quiet() }).contains("700 times a second"));
        assert!(noisy(Noise { spread: 0.5, ..quiet() }).contains("50 % apart"));
    }

    #[test]
    fn an_emulated_card_is_called_so_and_is_no_noise() {
        let mut machine = quiet();
        machine.card.emulated = true;
        assert!(machine.warnings()[0].contains("nothing of silicon"));
        assert!(!machine.is_noisy());
        machine.noise.load = 10.0;
        assert!(machine.is_noisy());
    }

    #[test]
    fn rounds_that_lie_apart_are_noise() {
        let calm = || Calm { lost: 0.0, longest: 0, clock: 20.0, switches: 0.0 };
        let noise = Noise::new(0.0, [calm(), Calm { lost: 0.1, ..calm() }], &[&[1.0, 2.0, 3.0], &[1.0, 1.0]]);
        assert_eq!((noise.spread, noise.lost, noise.clock), (0.5, 0.1, 20.0));
    }

    #[test]
    fn work_is_accounted_to_this_thread() {
        let before = Usage::now().unwrap();
        let calm = Calm::measure().unwrap();
        let used = Usage::now().unwrap() - before;
        assert!(used.thread > 0.0 && used.process >= used.thread * 0.9, "{used:?}");
        assert!(calm.lost < 1.0 && calm.clock > 0.0);
        assert!(pin(100_000).unwrap_err().to_string().contains("processor 100000"));
    }
}
