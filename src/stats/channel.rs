//! What a channel counts, in words that anybody may read at any time.

use crate::memory::{SharedBlock, SharedWords};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Words of a channel's block; a whole number of cache lines, so that no two channels write one.
pub(crate) const CHANNEL_WORDS: usize = 192;
/// Where the latencies start in a block.
const LATENCIES: usize = 16;
/// Buckets of latencies: four for each power of two, from 64 ns to 39 minutes.
const BUCKETS: usize = 144;
/// Values below this power of two share the first bucket.
const FIRST_POWER: u32 = 6;
/// At least one job in this many is timed.
const STRIDE: u64 = 256;
/// The stride doubles while timed jobs begin less than this apart, and shrinks otherwise.
const APART: Duration = Duration::from_millis(100);

/// What is counted, in the order of the words.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    Submitted,
    /// Those that ended, however they did.
    Done,
    Abandoned,
    Bytes,
    Descriptors,
    Doorbells,
    Full,
    Sleeps,
    Late,
    Recoveries,
    /// The kinds of [`Errors`], one after the other.
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

/// What a channel did since its card was opened, by all who had it since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transfers and runs that were submitted.
    pub submitted: u64,
    /// Those of them that finished.
    pub completed: u64,
    /// Those that ended otherwise: with an error, or because the channel was stopped.
    pub abandoned: u64,
    /// Bytes of finished transfers.
    pub bytes: u64,
    /// Descriptors given to the engine.
    pub descriptors: u64,
    /// Writes that started the engine: Run, or credits.
    pub doorbells: u64,
    /// Submissions refused because there was no room ([`Full`](crate::channel::EngineError::Full)).
    pub full: u64,
    /// Sleeps of waits that had polled for long enough, or that only sleep.
    pub sleeps: u64,
    /// Those of them after which the work was found finished although no interrupt had ended them: it was lost, or late.
    pub missed: u64,
    /// Waits that reached their deadline ([`Deadline`](crate::channel::EngineError::Deadline)).
    pub late: u64,
    /// Times that a receiver had no buffer left for the engine, so that the stream waited for the program to give one back.
    pub starved: u64,
    /// Recoveries that succeeded.
    pub recoveries: u64,
    /// Errors, by kind.
    pub errors: Errors,
}

/// Errors of a channel, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// The engine stopped with one ([`Failed`](crate::channel::EngineError::Failed)).
    pub failed: u64,
    /// The engine did not become idle ([`Hung`](crate::channel::EngineError::Hung)).
    pub hung: u64,
    /// The card was reset, or recalled by the kernel ([`Reset`](crate::channel::EngineError::Reset), [`Recalled`](crate::channel::EngineError::Recalled)).
    pub reset: u64,
    /// The card was gone, or the bus failed ([`Gone`](crate::channel::EngineError::Gone), [`Bus`](crate::channel::EngineError::Bus)).
    pub gone: u64,
}

impl Errors {
    /// All of them.
    pub fn total(&self) -> u64 {
        [self.failed, self.hung, self.reset, self.gone].into_iter().fold(0, u64::wrapping_add)
    }
}

impl Stats {
    /// Transfers and runs that are not finished: the depth of the queue.
    pub fn in_flight(&self) -> u64 {
        self.submitted.saturating_sub(self.completed.saturating_add(self.abandoned))
    }

    /// Number of stalls: submissions refused because the ring was full, waits that timed out, and streams without a receive buffer.
    pub fn stalls(&self) -> u64 {
        [self.full, self.late, self.starved].into_iter().fold(0, u64::wrapping_add)
    }

    /// From the words of a block.
    pub(crate) fn of(words: &[u64]) -> Self {
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
            late: word(Count::Late),
            starved: word(Count::Starved),
            recoveries: word(Count::Recoveries),
            errors: Errors { failed: error(0), hung: error(1), reset: error(2), gone: error(3) },
        }
    }
}

/// How long jobs took, from their submission until they were seen to be finished: about ten of them a second, and one of 256 at
/// least. Jobs that failed are not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies([u64; BUCKETS]);

impl Latencies {
    /// From the words of a block.
    pub(crate) fn of(words: &[u64]) -> Self {
        Self(std::array::from_fn(|at| words[LATENCIES + at]))
    }

    /// Those that are not in an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }

    /// How many jobs were timed.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The time within which a share of the jobs finished, 0.5 being half of them and everything above 1 all: at most a quarter too
    /// long. `None` without any.
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        // Of large counts a float is not exact, and may be more than there are.
        let wanted = ((self.count() as f64 * share).ceil() as u64).clamp(1, self.count().max(1));
        let mut seen = 0u64;
        let bucket = self.0.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= wanted
        })?;
        Some(Duration::from_nanos(upper(bucket)))
    }
}

fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < 1 << FIRST_POWER {
        return 0;
    }
    let power = nanoseconds.ilog2();
    let quarter = (nanoseconds >> (power - 2) & 3) as usize;
    (1 + (power - FIRST_POWER) as usize * 4 + quarter).min(BUCKETS - 1)
}

/// The longest time of a bucket, in nanoseconds.
fn upper(bucket: usize) -> u64 {
    match bucket {
        0 => (1 << FIRST_POWER) - 1,
        _ => {
            let (power, quarter) = ((bucket as u64 - 1) / 4, (bucket as u64 - 1) % 4);
            ((5 + quarter) << (power + u64::from(FIRST_POWER) - 2)) - 1
        }
    }
}

/// There is one writer.
#[inline(always)]
fn add(word: &AtomicU64, more: u64) {
    word.store(word.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// Where a channel counts. It has one writer, the channel; there is no lock, and no locked instruction.
#[derive(Clone, Debug)]
pub struct Counters {
    words: SharedBlock<CHANNEL_WORDS>,
}

impl Counters {
    pub(crate) fn new(words: SharedBlock<CHANNEL_WORDS>) -> Self {
        Self { words }
    }

    /// Counters that no other process sees.
    ///
    /// # Errors
    ///
    /// There is no memory.
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

    /// The engine was given so many descriptors by a doorbell; jobs before this number were submitted.
    #[inline(always)]
    pub(crate) fn count_given(&self, number: u64, descriptors: u32) {
        let words = &*self.words;
        words[Count::Submitted as usize].store(number, Ordering::Relaxed);
        add(&words[Count::Doorbells as usize], 1);
        add(&words[Count::Descriptors as usize], descriptors.into());
    }

    /// Jobs before this number are done, the last of them with so many bytes.
    #[inline(always)]
    pub(crate) fn count_done(&self, number: u64, bytes: u64) {
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
        Stats::of(&self.read())
    }

    pub(crate) fn latencies(&self) -> Latencies {
        Latencies::of(&self.read())
    }
}

/// The job that is timed: one at a time.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The first job that is to be timed next; none while one is timed.
    from: u64,
    /// The job that is timed, if any.
    job: u64,
    /// When the job that is timed, or the last that was, began.
    begin: Option<Instant>,
    /// From one job that is timed to the next.
    stride: u64,
}

/// No job has this number.
const NONE: u64 = u64::MAX;

impl Sample {
    pub fn new() -> Self {
        Self { from: 0, job: NONE, begin: None, stride: STRIDE }
    }

    /// Job `number` is about to be submitted, and is timed if it is its turn. The first job that has to be looked at next: the same
    /// while it is timed, since it may be refused and come again.
    pub fn look(&mut self, number: u64) -> u64 {
        if number < self.from && number != self.job {
            return self.from;
        }
        let now = Instant::now();
        if number != self.job {
            let quick = self.begin.is_some_and(|last| now - last < APART);
            self.stride = if quick { (self.stride * 2).min(STRIDE) } else { (self.stride / 4).max(1) };
        }
        (self.from, self.job, self.begin) = (NONE, number, Some(now));
        number
    }

    /// The job that is timed; no job has such a number if none is.
    pub fn job(&self) -> u64 {
        self.job
    }

    /// The job that is timed was seen to be finished.
    pub fn finish(&mut self, counters: &Counters) {
        counters.add_latency(self.begin.map_or(Duration::ZERO, |begin| begin.elapsed()));
        (self.from, self.job) = (self.job.saturating_add(self.stride), NONE);
    }

    /// All jobs before `number` are over; one that was timed and is not done, is timed no longer.
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
        fn a_time_lies_in_its_bucket(time: u64) {
            let time = time >> (time % 64);
            let at = bucket(time);
            prop_assert!(at < BUCKETS);
            prop_assert!(time <= upper(at) || at == BUCKETS - 1);
            prop_assert!(at == 0 || time > upper(at - 1));
            prop_assert!(at == 0 || at == BUCKETS - 1 || upper(at) <= time + time / 4);
        }
    }

    #[test]
    fn percentiles_are_of_what_was_added_since() {
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

    /// Submits job `number` and sees it finished.
    fn pass(sample: &mut Sample, number: u64, counters: &Counters) {
        sample.look(number);
        if sample.job() == number {
            sample.finish(counters);
        }
    }

    #[test]
    fn each_job_is_timed_while_there_are_few() {
        let (counters, mut sample) = (Counters::private().unwrap(), Sample { stride: 1, ..Sample::new() });
        for number in 0..3 {
            pass(&mut sample, number, &counters);
            std::thread::sleep(2 * APART);
        }
        assert_eq!(counters.latencies().count(), 3);
    }

    #[test]
    fn one_job_of_many_is_timed_and_none_twice() {
        let (counters, mut sample) = (Counters::private().unwrap(), Sample::new());
        (0..STRIDE * 10).for_each(|number| pass(&mut sample, number, &counters));
        let timed = counters.latencies().count();
        assert!((10..STRIDE * 10).contains(&timed), "{timed}");
        assert_eq!(sample.look(STRIDE * 100), STRIDE * 100);
        sample.abandon(STRIDE * 101);
        assert_eq!(sample.job(), NONE);
        pass(&mut sample, STRIDE * 101, &counters);
        assert_eq!(counters.latencies().count(), timed + 1);
    }

    #[test]
    fn a_job_that_comes_again_is_timed_from_then_on() {
        let (counters, mut sample) = (Counters::private().unwrap(), Sample::new());
        sample.look(0);
        std::thread::sleep(Duration::from_millis(20));
        for _ in 0..100 {
            assert_eq!(sample.look(0), 0);
        }
        assert!(sample.stride < STRIDE, "one job, however often it comes");
        sample.finish(&counters);
        let took = counters.latencies().percentile(1.0).unwrap();
        assert!(took < Duration::from_millis(20), "{took:?}");
    }
}
