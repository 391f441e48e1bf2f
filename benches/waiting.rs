//! Which way of waiting is best, on an idle host and on a crowded one.
//!
//! `cargo bench --bench waiting`. The emulated card's core takes pairs at a steady pace, so a run cannot be shorter than its work;
//! what it takes longer until the last pair was accepted was lost between host and card. The same sum is fed by turns, a transfer and a wait for each half chunk,
//! and as a program. Crowded means two threads on each processor that do nothing but compute. The card's own threads get a
//! real-time priority where the system allows it, since a real card has its own clock; without, the crowd slows the card too, and
//! that is said. All of it is emulation on shared processors: ratios of one run mean something, microseconds do not.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use xdma::card::CardOptions;
use xdma::channel::{ChannelOptions, Transfers, Wait};
use xdma::msm::{Job, Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma_emulator::logic::{self, MsmOptions as Model};
use xdma_emulator::{Latency, Options};

const PAIRS: usize = 1 << 14;
const CHUNK: usize = 512;
/// What the core takes a second: slow enough for the emulated card to keep up.
const PACE: f64 = 1e6;
const RUNS: usize = 5;
const LIMIT: Duration = Duration::from_secs(60);

struct Feed {
    msm: Msm,
    points: Points,
    scalars: Scalars,
    job: Job,
}

/// What a run took: on the clock, and of the processor.
struct Taken {
    time: f64,
    processor: f64,
}

impl Feed {
    fn new(wait: Wait) -> (Self, bool) {
        let model = Model {
            pairs_per_second: Some(PACE),
            scalar_depth: 2 * CHUNK,
            point_depth: 2 * CHUNK,
            ..Model::default()
        };
        // Threads inherit the policy of who starts them.
        let first = set_policy(libc::SCHED_FIFO, 10);
        let options = Options { latency: Latency::NONE, ..Options::default() };
        let card =
            xdma_emulated_card::start(options, Arc::new(logic::Msm::new(model)), CardOptions::default());
        set_policy(libc::SCHED_OTHER, 0);
        let card = card.expect("an emulated card starts anywhere");
        let channel = ChannelOptions { wait, ..ChannelOptions::default() };
        let options = MsmOptions { chunk: Some(CHUNK as u32), channel, ..MsmOptions::default() };
        let msm = Msm::open(&card, options).expect("the card has the design");
        let points = Points::from_bytes(&card, &vec![0; 64 * PAIRS]).expect("there is memory");
        let scalars =
            Scalars::from_bytes(&card, &vec![1; 32 * PAIRS], ScalarForm::Canonical).expect("as above");
        let job = msm.prepare(&points, &scalars).expect("it fits");
        (Self { msm, points, scalars, job }, first)
    }

    fn by_turns(&mut self) -> Taken {
        let lists: Vec<_> = (0..PAIRS)
            .step_by(CHUNK)
            .flat_map(|at| {
                let (mut scalars, mut points) =
                    (Transfers::new(Direction::H2C), Transfers::new(Direction::H2C));
                self.scalars.add_to(&mut scalars, at..at + CHUNK).expect("inside");
                self.points.add_to(&mut points, at..at + CHUNK).expect("inside");
                [scalars, points]
            })
            .collect();
        let ticket = self.msm.start(PAIRS as u32, ScalarForm::Canonical).expect("the queue is empty");
        let taken = measured(|| {
            for list in &lists {
                let channel = self.msm.channel();
                let ticket = channel.start(list).expect("there is room");
                channel.wait(ticket, LIMIT).expect("the card works");
            }
        });
        self.msm.wait(ticket, LIMIT).expect("the card works");
        taken
    }

    fn program(&mut self) -> Taken {
        let (msm, job) = (&mut self.msm, &self.job);
        let mut ticket = None;
        let taken = measured(|| {
            let started = msm.submit(job).expect("the queue is empty");
            msm.wait_accepted(started, LIMIT).expect("the card works");
            ticket = Some(started);
        });
        msm.wait(ticket.expect("it was started"), LIMIT).expect("the card works");
        taken
    }
}

fn measured(what: impl FnOnce()) -> Taken {
    let (begin, before) = (Instant::now(), processor_time());
    what();
    Taken { time: begin.elapsed().as_secs_f64(), processor: processor_time() - before }
}

/// Seconds that this thread has had a processor.
fn processor_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is one that may be written.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Whether this thread got the policy.
fn set_policy(policy: i32, priority: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameters are read only.
    unsafe { libc::sched_setscheduler(0, policy, &parameters) == 0 }
}

/// Two threads on each processor that compute until this is dropped.
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
    let ideal = PAIRS as f64 / PACE;
    println!("{PAIRS} pairs at {:.0} pairs/s: {:.1} ms at best, {processors} processors", PACE, ideal * 1e3);
    println!(
        "{:8} {:16} {:>12} {:>12} {:>12} {:>12}",
        "host", "wait", "by turns", "processor", "program", "processor"
    );
    let mut real_time = true;
    for (host, crowd) in [("idle", 0), ("crowded", 2 * processors)] {
        let _crowd = Crowd::of(crowd);
        for wait in Wait::ALL {
            let (mut feed, first) = Feed::new(wait);
            real_time &= first;
            let [turns, program] = [Feed::by_turns, Feed::program].map(|run| {
                let mut all: Vec<_> = (0..RUNS).map(|_| run(&mut feed)).collect();
                all.sort_by(|a, b| a.time.total_cmp(&b.time));
                all.swap_remove(RUNS / 2)
            });
            println!(
                "{host:8} {:16} {:>11.2}x {:>11.0}% {:>11.2}x {:>11.0}%",
                wait.to_string(),
                turns.time / ideal,
                100.0 * turns.processor / turns.time,
                program.time / ideal,
                100.0 * program.processor / program.time
            );
        }
    }
    println!(
        "times are medians of {RUNS} runs, in multiples of the core's own time; processor is the waiting thread's share"
    );
    if !real_time {
        println!("the card's threads have no real-time priority here: the crowd slows the card as well");
    }
}
