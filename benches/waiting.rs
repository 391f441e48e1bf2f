//! Compares the ways of waiting, on an idle host and on a crowded one.
//!
//! `cargo bench --bench waiting`. The emulated card's core consumes pairs at a fixed rate, which determines the shortest possible
//! time; any additional time until the last pair was accepted was lost between host and card. The same MSM is sent in two ways: by
//! turns, with a transfer and a wait for each half chunk, and as a program. Crowded means two compute-only threads on each
//! processor. The card's threads get a real-time priority if the system permits it, since a real card has its own clock. Otherwise
//! the crowd slows down the card too, and the bench prints a warning. The card is emulated on the same processors, so only the
//! ratios within one run are meaningful. The last column shows the share of the processors that other programs used. If
//! it is not close to zero, the host was not idle, or was more crowded than intended, and the bench prints a warning.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use xdma::card::CardOptions;
use xdma::channel::{ChannelOptions, Transfers, Wait};
use xdma::msm::{Job, Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma_emulator::logic::{self, MsmModelOptions as Model};
use xdma_emulator::{EmulatorOptions, Latency};

const PAIRS: usize = 1 << 14;
const CHUNK: usize = 512;
/// Pairs per second that the core consumes. The emulated card can sustain this rate.
const CORE_RATE: f64 = 1e6;
const RUNS: usize = 5;
/// Share of the processors that other programs may take without a warning.
const MAX_OTHERS: f64 = 0.05;
const LIMIT: Duration = Duration::from_secs(60);

/// A client of the design on an emulated card, and its data.
struct Feed {
    msm: Msm,
    points: Points,
    scalars: Scalars,
    job: Job,
}

/// The time of a run in seconds.
struct RunTime {
    /// Wall-clock time.
    elapsed: f64,
    /// Processor time of the waiting thread.
    processor: f64,
}

impl Feed {
    /// Returns whether the card's threads have real-time priority, too.
    fn new(wait: Wait) -> (Self, bool) {
        let model = Model {
            pairs_per_second: Some(CORE_RATE),
            scalar_depth: 2 * CHUNK,
            point_depth: 2 * CHUNK,
            ..Model::default()
        };
        // New threads inherit the policy of the thread that starts them.
        let real_time = set_policy(libc::SCHED_FIFO, 10);
        let options = EmulatorOptions { latency: Latency::NONE, ..EmulatorOptions::default() };
        let card =
            xdma_emulated_card::start(options, Arc::new(logic::MsmModel::new(model)), CardOptions::default());
        set_policy(libc::SCHED_OTHER, 0);
        let card = card.expect("an emulated card can be started");
        let channel = ChannelOptions { wait, ..ChannelOptions::default() };
        let options = MsmOptions { chunk: Some(CHUNK as u32), channel, ..MsmOptions::default() };
        let msm = Msm::open(&card, options).expect("the card has the design");
        let points = Points::from_bytes(&card, &vec![0; 64 * PAIRS]).expect("there is enough memory");
        let scalars =
            Scalars::from_bytes(&card, &vec![1; 32 * PAIRS], ScalarForm::Canonical).expect("as above");
        let job = msm.prepare(&points, &scalars).expect("the job is valid");
        (Self { msm, points, scalars, job }, real_time)
    }

    /// Sends the data with a transfer and a wait for each half chunk.
    fn by_turns(&mut self) -> RunTime {
        let lists: Vec<_> = (0..PAIRS)
            .step_by(CHUNK)
            .flat_map(|at| {
                let (mut scalars, mut points) =
                    (Transfers::new(Direction::H2C), Transfers::new(Direction::H2C));
                self.scalars.add_to(&mut scalars, at..at + CHUNK).expect("the range is valid");
                self.points.add_to(&mut points, at..at + CHUNK).expect("the range is valid");
                [scalars, points]
            })
            .collect();
        let ticket = self.msm.start(PAIRS as u32, ScalarForm::Canonical).expect("the queue is empty");
        let time = measured(|| {
            for list in &lists {
                let channel = self.msm.channel();
                let ticket = channel.start(list).expect("the ring is not full");
                channel.wait(ticket, LIMIT).expect("the card works");
            }
        });
        self.msm.wait(ticket, LIMIT).expect("the card works");
        time
    }

    /// Sends the data with one program.
    fn program(&mut self) -> RunTime {
        let (msm, job) = (&mut self.msm, &self.job);
        let mut ticket = None;
        let time = measured(|| {
            let started = msm.submit(job).expect("the queue is empty");
            msm.wait_accepted(started, LIMIT).expect("the card works");
            ticket = Some(started);
        });
        msm.wait(ticket.expect("the job was submitted"), LIMIT).expect("the card works");
        time
    }
}

fn measured(what: impl FnOnce()) -> RunTime {
    let (begin, before) = (Instant::now(), processor_time());
    what();
    RunTime { elapsed: begin.elapsed().as_secs_f64(), processor: processor_time() - before }
}

/// Returns the processor time of this thread in seconds.
fn processor_time() -> f64 {
    time_of(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Returns the time of a clock in seconds.
fn time_of(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes only to `time`.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Sets the scheduling policy of this thread. Returns whether that is permitted.
fn set_policy(policy: i32, priority: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the call only reads `parameters`.
    unsafe { libc::sched_setscheduler(0, policy, &parameters) == 0 }
}

/// The processor time that all programs and this process have used.
struct Work {
    since: Instant,
    all: f64,
    own: f64,
}

impl Work {
    fn until_now() -> Self {
        Self {
            since: Instant::now(),
            all: time_of_processors(),
            own: time_of(libc::CLOCK_PROCESS_CPUTIME_ID),
        }
    }

    /// Returns the share of the processors that other programs have used since `self` was taken.
    fn share_of_others(&self, processors: usize) -> f64 {
        let Self { since, all, own } = Self::until_now();
        let others = (all - self.all) - (own - self.own);
        (others / (processors as f64 * (since - self.since).as_secs_f64())).max(0.0)
    }
}

/// Returns the processor time of all programs in seconds, including time that a hypervisor took.
fn time_of_processors() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("procfs is mounted");
    let ticks: Vec<f64> = stat.lines().next().map_or(vec![], |line| {
        line.split_whitespace().skip(1).filter_map(|count| count.parse().ok()).collect()
    });
    // Without idle and iowait. The last two columns, for guests, are already part of user time.
    let work: f64 = ticks.iter().take(8).sum::<f64>() - ticks[3] - ticks[4];
    // SAFETY: the call has no requirements.
    work / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}

/// Threads that compute until this is dropped.
struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Crowd {
    fn of(count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let compute = |stop: Arc<AtomicBool>| {
            move || {
                while !stop.load(Ordering::Relaxed) {
                    black_box((0..10_000u64).fold(1, |a, b| a ^ b.wrapping_mul(a)));
                }
            }
        };
        let threads = (0..count).map(|_| std::thread::spawn(compute(stop.clone()))).collect();
        Self { stop, threads }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn main() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let ideal = PAIRS as f64 / CORE_RATE;
    println!(
        "{PAIRS} pairs at {:.0} pairs/s: {:.1} ms at best, {processors} processors",
        CORE_RATE,
        ideal * 1e3
    );
    println!(
        "{:8} {:16} {:>12} {:>12} {:>12} {:>12} {:>8}",
        "host", "wait", "by turns", "processor", "program", "processor", "others"
    );
    let (mut real_time, mut others) = (true, 0f64);
    for (host, crowd) in [("idle", 0), ("crowded", 2 * processors)] {
        let _crowd = Crowd::of(crowd);
        for wait in Wait::ALL {
            let (mut feed, permitted) = Feed::new(wait);
            real_time &= permitted;
            let work = Work::until_now();
            let [turns, program] = [Feed::by_turns, Feed::program].map(|run| {
                let mut all: Vec<_> = (0..RUNS).map(|_| run(&mut feed)).collect();
                all.sort_by(|a, b| a.elapsed.total_cmp(&b.elapsed));
                all.swap_remove(RUNS / 2)
            });
            let share = work.share_of_others(processors);
            others = others.max(share);
            println!(
                "{host:8} {:16} {:>11.2}x {:>11.0}% {:>11.2}x {:>11.0}% {:>7.0}%",
                wait.to_string(),
                turns.elapsed / ideal,
                100.0 * turns.processor / turns.elapsed,
                program.elapsed / ideal,
                100.0 * program.processor / program.elapsed,
                100.0 * share
            );
        }
    }
    println!(
        "times are medians of {RUNS} runs, in multiples of the core's own time; `processor` is the processor time of the waiting \
         thread, and `others` what other programs took of all processors"
    );
    if others > MAX_OTHERS {
        println!(
            "warning: other programs took up to {:.0} % of the processors, so these figures do not describe an idle \
             host: stop other work on this machine, and measure again",
            100.0 * others
        );
    }
    if !real_time {
        println!(
            "warning: the card's threads have no real-time priority, so the crowd slows down the card as well"
        );
    }
}
