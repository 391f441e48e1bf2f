//! A channel's statistics, in words that other threads and processes may read at any time.

use crate::memory::{SharedBlock, SharedWords};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Number of words per channel: a whole number of cache lines, so that channels do not share one.
pub(crate) const CHANNEL_WORDS: usize = 192;
/// Index of the first latency word of a channel.
const LATENCIES: usize = 16;
/// Number of latency buckets: four for each power of two, from 64 ns to 39 minutes.
const BUCKETS: usize = 144;
/// Latencies below this power of two, in nanoseconds, share the first bucket.
const FIRST_POWER: u32 = 6;
/// Maximum sampling stride: at least one job in this many is timed.
const MAX_STRIDE: u64 = 256;
/// Target interval between timed jobs. The stride doubles while they begin less than this apart, and shrinks otherwise.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// The counters of a channel, in the order of their words.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    Submitted,
    /// Jobs that ended, with or without success.
    Done,
    Abandoned,
    Bytes,
    Descriptors,
    Doorbells,
    Full,
    Sleeps,
    Timeouts,
    Recoveries,
    /// The first of the words for the kinds of [`Errors`].
    Errors,
    Starved = 14,
    Missed = 15,
}

/// The kinds of [`Errors`], in the order of the words.
#[derive(Clone, Copy)]
pub(crate) enum ErrorKind {
    Failed,
    Hung,
    Reset,
    Gone,
}

/// Statistics of a channel since its card was opened, including those of earlier owners of the channel.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::Duration};
/// use xdma::card::CardOptions;
/// use xdma::regs::Direction;
/// use xdma_emulator::{EmulatorOptions, logic::Memory};
///
/// let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let mut h2c = card.h2c(0)?;
/// let source = card.allocate(4096, Direction::H2C)?;
/// h2c.transfer(&source, 0..4096, 0, Duration::from_secs(5))?;
///
/// let stats = h2c.stats();
/// assert_eq!((stats.completed, stats.bytes, stats.in_flight()), (1, 4096, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Number of transfers and program runs submitted.
    pub submitted: u64,
    /// Number of transfers and runs that completed successfully.
    pub completed: u64,
    /// Number of transfers and runs that ended with an error, or because the channel was stopped.
    pub abandoned: u64,
    /// Number of bytes of completed transfers.
    pub bytes: u64,
    /// Number of descriptors posted to the engine.
    pub descriptors: u64,
    /// Number of writes that started the engine, by Run or by credits.
    pub doorbells: u64,
    /// Number of submissions refused because the ring was full ([`Full`](crate::channel::SubmitError::Full)).
    pub full: u64,
    /// Number of times that a wait slept, after polling or immediately.
    pub sleeps: u64,
    /// Number of sleeps that no interrupt ended although the work had finished: the interrupt was lost or late.
    pub missed: u64,
    /// Number of waits that reached their deadline ([`Deadline`](crate::channel::WaitError::Deadline)).
    pub timeouts: u64,
    /// Number of times that a receiver had no buffer left for the engine, so the stream stalled until the program returned one.
    pub starved: u64,
    /// Number of successful recoveries.
    pub recoveries: u64,
    /// Errors, by kind.
    pub errors: Errors,
}

/// Errors of a channel, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// The engine stopped with an error ([`Failed`](crate::channel::EngineError::Failed)).
    pub failed: u64,
    /// The engine did not become idle ([`Hung`](crate::channel::EngineError::Hung)).
    pub hung: u64,
    /// The card was reset, or the kernel asked for its release ([`Reset`](crate::channel::EngineError::Reset),
    /// [`Recalled`](crate::channel::EngineError::Recalled)).
    pub reset: u64,
    /// The card was gone, or the bus failed ([`Gone`](crate::channel::EngineError::Gone),
    /// [`Bus`](crate::channel::EngineError::Bus)).
    pub gone: u64,
}

impl Errors {
    /// Returns the total number of errors.
    pub fn total(&self) -> u64 {
        [self.failed, self.hung, self.reset, self.gone].into_iter().fold(0, u64::wrapping_add)
    }
}

impl Stats {
    /// Returns the number of transfers and runs in flight: the queue depth.
    pub fn in_flight(&self) -> u64 {
        self.submitted.saturating_sub(self.completed.saturating_add(self.abandoned))
    }

    /// Returns the number of stalls: submissions refused because the ring was full, waits that timed out, and streams without a
    /// receive buffer.
    pub fn stalls(&self) -> u64 {
        [self.full, self.timeouts, self.starved].into_iter().fold(0, u64::wrapping_add)
    }

    /// Decodes the words of a channel.
    pub(crate) fn decode(words: &[u64]) -> Self {
        let word = |count: Count| words[count as usize];
        let error = |kind: usize| words[Count::Errors as usize + kind];
        Self {
            submitted: word(Count::Submitted),
            completed: word(Count::Done).saturating_sub(word(Count::Abandoned)),
            abandoned: word(Count::Abandoned),
            bytes: word(Count::Bytes),
            descriptors: word(Count::Descriptors),
            doorbells: word(Count::Doorbells),
            full: word(Count::Full),
            sleeps: word(Count::Sleeps),
            missed: word(Count::Missed),
            timeouts: word(Count::Timeouts),
            starved: word(Count::Starved),
            recoveries: word(Count::Recoveries),
            errors: Errors { failed: error(0), hung: error(1), reset: error(2), gone: error(3) },
        }
    }
}

/// A histogram of job latencies, from submission until completion was observed. About ten jobs per second are sampled, and at
/// least one in 256. Failed jobs are not included.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::Duration};
/// use xdma::card::CardOptions;
/// use xdma::regs::Direction;
/// use xdma_emulator::{EmulatorOptions, logic::Memory};
///
/// let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let mut h2c = card.h2c(0)?;
/// let source = card.allocate(4096, Direction::H2C)?;
/// h2c.transfer(&source, 0..4096, 0, Duration::from_secs(5))?;
///
/// let median = h2c.latencies().and_then(|latencies| latencies.percentile(0.5));
/// println!("half of the sampled transfers took at most {median:?}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies([u64; BUCKETS]);

impl Latencies {
    /// Decodes the words of a channel.
    pub(crate) fn decode(words: &[u64]) -> Self {
        Self(std::array::from_fn(|at| words[LATENCIES + at]))
    }

    /// Returns the latencies that were added after an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }

    /// Returns the number of sampled jobs.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns the time within which a share of the sampled jobs completed, such as 0.5 for the median. A share above 1 counts as
    /// 1. The result is rounded up to the end of its bucket, by at most a quarter. `None` if there are no samples.
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        // A float is not exact for large counts, and could exceed the count.
        let rank = ((self.count() as f64 * share).ceil() as u64).clamp(1, self.count().max(1));
        let mut seen = 0u64;
        let bucket = self.0.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= rank
        })?;
        Some(Duration::from_nanos(upper_bound(bucket)))
    }
}

/// Returns the bucket of a latency.
fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < 1 << FIRST_POWER {
        return 0;
    }
    let power = nanoseconds.ilog2();
    let quarter = (nanoseconds >> (power - 2) & 3) as usize;
    (1 + (power - FIRST_POWER) as usize * 4 + quarter).min(BUCKETS - 1)
}

/// Returns the longest latency of a bucket in nanoseconds.
fn upper_bound(bucket: usize) -> u64 {
    match bucket {
        0 => (1 << FIRST_POWER) - 1,
        _ => {
            let (power, quarter) = ((bucket as u64 - 1) / 4, (bucket as u64 - 1) % 4);
            ((5 + quarter) << (power + u64::from(FIRST_POWER) - 2)) - 1
        }
    }
}

/// Adds to a word that has a single writer, so that no atomic read-modify-write is needed.
#[inline(always)]
fn add(word: &AtomicU64, more: u64) {
    word.store(word.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// The counters of a channel. The channel is their only writer, so updates need neither a lock nor a locked instruction.
#[derive(Clone, Debug)]
pub struct Counters {
    words: SharedBlock<CHANNEL_WORDS>,
}

impl Counters {
    pub(crate) fn new(words: SharedBlock<CHANNEL_WORDS>) -> Self {
        Self { words }
    }

    /// Creates counters that are private to this process.
    ///
    /// # Errors
    ///
    /// There is not enough memory.
    pub fn private() -> std::io::Result<Self> {
        Ok(Self::new(SharedBlock::new(&Arc::new(SharedWords::private(CHANNEL_WORDS)?), 0)))
    }

    #[inline(always)]
    pub(crate) fn set(&self, count: Count, value: u64) {
        self.words[count as usize].store(value, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn add(&self, count: Count, more: u64) {
        self.add_to(count as usize, more);
    }

    #[inline(always)]
    fn add_to(&self, at: usize, more: u64) {
        add(&self.words[at], more);
    }

    /// Records that all jobs before `number` have been submitted.
    #[inline(always)]
    pub(crate) fn count_submitted(&self, number: u64) {
        self.words[Count::Submitted as usize].store(number, Ordering::Relaxed);
    }

    /// Counts a doorbell that posted `descriptors`.
    #[inline(always)]
    pub(crate) fn count_doorbell(&self, descriptors: u64) {
        let words = &*self.words;
        add(&words[Count::Doorbells as usize], 1);
        add(&words[Count::Descriptors as usize], descriptors);
    }

    /// Counts a completed job of `bytes`. All jobs before `number` are done.
    #[inline(always)]
    pub(crate) fn count_completed(&self, number: u64, bytes: u64) {
        let words = &*self.words;
        words[Count::Done as usize].store(number, Ordering::Relaxed);
        add(&words[Count::Bytes as usize], bytes);
    }

    #[cold]
    pub(crate) fn add_error(&self, kind: ErrorKind) {
        self.add_to(Count::Errors as usize + kind as usize, 1);
    }

    #[cold]
    fn add_latency(&self, took: Duration) {
        self.add_to(LATENCIES + bucket(took.as_nanos().try_into().unwrap_or(u64::MAX)), 1);
    }

    fn read(&self) -> Vec<u64> {
        self.words.iter().map(|word| word.load(Ordering::Relaxed)).collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats::decode(&self.read())
    }

    pub(crate) fn latencies(&self) -> Latencies {
        Latencies::decode(&self.read())
    }
}

/// Selects the jobs whose latency is measured, one at a time.
#[derive(Debug)]
pub(crate) struct LatencySampler {
    /// The first job that may be timed next; [`NONE`] while a job is being timed.
    from: u64,
    /// The job that is being timed, or [`NONE`].
    job: u64,
    /// When the current or last timed job began.
    begin: Option<Instant>,
    /// Number of jobs from one timed job to the next.
    stride: u64,
}

/// The number of no job.
const NONE: u64 = u64::MAX;

impl LatencySampler {
    pub fn new() -> Self {
        Self { from: 0, job: NONE, begin: None, stride: MAX_STRIDE }
    }

    /// Starts timing job `number`, which is about to be submitted, if it is due. Returns the number of the next job for which
    /// this must be called. While a job is being timed, that is the job itself, since its submission may be refused and repeated.
    pub fn on_submit(&mut self, number: u64) -> u64 {
        if number < self.from && number != self.job {
            return self.from;
        }
        let now = Instant::now();
        if number != self.job {
            let quick = self.begin.is_some_and(|last| now - last < SAMPLE_INTERVAL);
            self.stride = if quick { (self.stride * 2).min(MAX_STRIDE) } else { (self.stride / 4).max(1) };
        }
        (self.from, self.job, self.begin) = (NONE, number, Some(now));
        number
    }

    /// Returns the number of the job that is being timed, or a number that no job has.
    pub fn job(&self) -> u64 {
        self.job
    }

    /// Records the latency of the timed job, whose completion was observed.
    pub fn finish(&mut self, counters: &Counters) {
        counters.add_latency(self.begin.map_or(Duration::ZERO, |begin| begin.elapsed()));
        (self.from, self.job) = (self.job.saturating_add(self.stride), NONE);
    }

    /// Stops timing without recording a latency. All jobs before `number` must have ended.
    pub fn abandon(&mut self, number: u64) {
        if self.job != NONE {
            (self.from, self.job) = (number, NONE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bucket_bounds_are_consistent(time: u64) {
            let time = time >> (time % 64);
            let at = bucket(time);
            prop_assert!(at < BUCKETS);
            prop_assert!(time <= upper_bound(at) || at == BUCKETS - 1);
            prop_assert!(at == 0 || time > upper_bound(at - 1));
            prop_assert!(at == 0 || at == BUCKETS - 1 || upper_bound(at) <= time + time / 4);
        }
    }

    #[test]
    fn percentiles_of_the_difference_between_two_readings() {
        let counters = Counters::private().unwrap();
        counters.add_latency(Duration::from_secs(1));
        let before = counters.latencies();
        for micros in 1..=100 {
            counters.add_latency(Duration::from_micros(micros));
        }
        let since = counters.latencies().since(&before);
        assert_eq!(since.count(), 100);
        let between = |share, low, high| {
            let time = since.percentile(share).unwrap().as_micros();
            assert!((low..=high).contains(&time), "{share}: {time} us");
        };
        between(0.5, 50, 63);
        between(0.99, 99, 124);
        assert_eq!(before.since(&before).percentile(0.5), None);
    }

    /// Submits and completes job `number`.
    fn run_job(sampler: &mut LatencySampler, number: u64, counters: &Counters) {
        sampler.on_submit(number);
        if sampler.job() == number {
            sampler.finish(counters);
        }
    }

    #[test]
    fn every_job_is_timed_at_low_rates() {
        let counters = Counters::private().unwrap();
        let mut sampler = LatencySampler { stride: 1, ..LatencySampler::new() };
        for number in 0..3 {
            run_job(&mut sampler, number, &counters);
            std::thread::sleep(2 * SAMPLE_INTERVAL);
        }
        assert_eq!(counters.latencies().count(), 3);
    }

    #[test]
    fn at_high_rates_some_jobs_are_timed_and_none_twice() {
        let (counters, mut sampler) = (Counters::private().unwrap(), LatencySampler::new());
        (0..MAX_STRIDE * 10).for_each(|number| run_job(&mut sampler, number, &counters));
        let timed = counters.latencies().count();
        assert!((10..MAX_STRIDE * 10).contains(&timed), "{timed}");
        assert_eq!(sampler.on_submit(MAX_STRIDE * 100), MAX_STRIDE * 100);
        sampler.abandon(MAX_STRIDE * 101);
        assert_eq!(sampler.job(), NONE);
        run_job(&mut sampler, MAX_STRIDE * 101, &counters);
        assert_eq!(counters.latencies().count(), timed + 1);
    }

    #[test]
    fn a_job_that_is_submitted_again_is_timed_from_then_on() {
        let (counters, mut sampler) = (Counters::private().unwrap(), LatencySampler::new());
        sampler.on_submit(0);
        std::thread::sleep(Duration::from_millis(20));
        for _ in 0..100 {
            assert_eq!(sampler.on_submit(0), 0);
        }
        assert!(sampler.stride < MAX_STRIDE, "one job, however often it is submitted");
        sampler.finish(&counters);
        let took = counters.latencies().percentile(1.0).unwrap();
        assert!(took < Duration::from_millis(20), "{took:?}");
    }
}
