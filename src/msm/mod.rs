//! The client of the MSM design: it sends points and scalars, and receives their multi-scalar product, one point.
//!
//! The design reads scalars and points from two FIFOs behind two windows of the card's address space, and consumes a scalar
//! only together with its point ([`crate::regs::msm`]). A job is one interleaved [`Program`](crate::channel::Program), S0 P0 S1
//! P1 ..., with a descriptor per chunk. [`Msm::prepare`] builds it once, and [`Msm::submit`] starts it by one doorbell. The
//! host takes no part in the streaming, so the next job can be submitted while the previous one is being reduced.
//!
//! All numbers are little-endian. A scalar has 32 bytes, canonical or in Montgomery form (times 2^256 modulo r). A point has
//! 64: x then y, each in Montgomery form modulo p, all zeros for infinity. A result has 96: X, Y, Z, homogeneous (x = X/Z, y =
//! Y/Z), in Montgomery form, any representative below 2p, Z = 0 for infinity.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ark_bn254::{Fr, G1Affine};
//! use ark_ec::{AffineRepr, CurveGroup};
//! use std::time::Duration;
//! use xdma::card::CardOptions;
//! use xdma_emulator::CardFile;
//! use xdma::msm::curve::arkworks::{points_to_bytes, result_to_point, scalars_to_bytes};
//! use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
//!
//! let card = xdma_emulated_card::start_like(CardFile::f1(), CardOptions::default())?; // carries the MSM design
//! let mut msm = Msm::open(&card, MsmOptions::default())?;
//! let mut points = Points::allocate(&card, 3)?; // written once
//! points.fill(|bytes| points_to_bytes(&[G1Affine::generator(); 3], bytes))??;
//! let mut scalars = Scalars::allocate(&card, 3, ScalarForm::Montgomery)?;
//! let job = msm.prepare(&points, &scalars)?; // built once
//!
//! scalars.fill(|bytes| scalars_to_bytes(&[1, 2, 3].map(Fr::from), bytes))??; // for each job
//! let ticket = msm.submit(&job)?;
//! let output = msm.wait(ticket, Duration::from_secs(5))?;
//! let expected = (G1Affine::generator() * Fr::from(6)).into_affine();
//! assert_eq!(result_to_point(&output.bytes)?, expected);
//! # Ok(())
//! # }
//! ```

pub mod curve;
mod data;
mod design;
mod error;
mod job;
mod options;
mod result_buffer;
pub(crate) mod running;
mod statistics;
mod timeout;

pub use data::{Points, Scalars};
pub use design::{Design, DesignState};
pub use error::{DataError, DesignError, JobError, MsmOpenError, MsmSubmitError, PrepareError};
pub use job::Job;
pub use options::{MsmOptions, ScalarForm};
pub use statistics::MsmStats;
pub use timeout::TimeoutEstimator;

use crate::bus::BusError;
use crate::card::{Card, Interrupt, Source, UserBar};
use crate::channel::{Channel, ChannelOptions, EngineError, Poll, Ring, Wait, WaitError};
use crate::regs::{Direction, GONE, msm as regs};
use result_buffer::ResultBuffer;
use running::{RunningJob, Stage};
use statistics::{ClientCounters, SAMPLE_INTERVAL};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The result of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// Label of the job.
    pub label: u32,
    /// X, Y, Z, 96 bytes; see the [module](self).
    pub bytes: [u8; regs::RESULT_BYTES],
}

/// Identifies a submitted job. It is a plain number: dropping it does not affect the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobTicket {
    /// The client, identified by its streaming channel.
    client: u64,
    sequence: u64,
}

/// Maximum number of results that are stored until they are polled.
const MAX_RESULTS: usize = 1024;
/// Shortest and longest pause between two reads of the design's registers. A pause is an eighth of the time waited so far,
/// within these bounds: it delays results little, and a long reduction costs few register reads.
pub(crate) const PAUSE_BOUNDS: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(1)];

/// The client of the MSM design. See the [module](self).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use xdma::card::CardOptions;
/// # use xdma_emulator::CardFile;
/// use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
///
/// # let card = xdma_emulated_card::start_like(CardFile::f1(), CardOptions::default())?;
/// let mut msm = Msm::open(&card, MsmOptions::default())?;
/// let points = Points::from_bytes(&card, &[0; 64])?; // one point, infinity
/// let scalars = Scalars::from_bytes(&card, &[1; 32], ScalarForm::Canonical)?;
/// let job = msm.prepare(&points, &scalars)?;
///
/// let ticket = msm.submit(&job)?;
/// let output = loop {
///     match msm.poll(ticket)? {
///         Some(output) => break output,
///         None => std::thread::yield_now(), // or do other work
///     }
/// };
/// assert_eq!(output.label, 0); // the first job
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Msm {
    card: Card,
    pub(crate) user: UserBar,
    pub(crate) design: Design,
    pub(crate) h2c: Channel,
    pub(crate) c2h: Channel,
    result: ResultBuffer,
    /// Fires when a result is available, if waits sleep.
    pub(crate) result_interrupt: Option<Interrupt>,
    chunk: Option<u32>,
    pub(crate) running: VecDeque<RunningJob>,
    finished: VecDeque<(u64, Output)>,
    /// Jobs lost in recoveries: tickets in these ranges have no result.
    lost: Vec<Range<u64>>,
    next: u64,
    label: u32,
    counters: ClientCounters,
}

impl Msm {
    /// Opens the design on `card`: resets it, which drops data of an earlier client, and opens one channel of each direction.
    ///
    /// # Errors
    ///
    /// The card's logic is not this design, a channel is already open, or memory cannot be allocated.
    pub fn open(card: &Card, options: MsmOptions) -> Result<Self, MsmOpenError> {
        let user = card.user()?;
        let design = Design::read(&user)?;
        let channel = ChannelOptions { ring: Some(options.ring.unwrap_or(Ring::Chain)), ..options.channel };
        let h2c = card.channel(Direction::H2C, options.h2c, channel)?;
        let c2h = card.c2h(options.c2h)?;
        let result = ResultBuffer::allocate(card)?;
        user.write(regs::CTRL, regs::Ctrl::SOFT_RESET.bits())?;
        // On a card without interrupts, the channel polls whatever was requested.
        let result_interrupt = match h2c.options().wait.sleeps() {
            true => Some(card.interrupt(Source::User(0))?),
            false => None,
        };
        if result_interrupt.is_some() {
            user.write(regs::IRQ_ENABLE, !0)?;
        }
        if let Some(chunk) = options.chunk {
            design.check_chunk(chunk)?;
        }
        let counters = ClientCounters::new(card, &design);
        Ok(Self {
            card: card.clone(),
            user,
            design,
            h2c,
            c2h,
            result,
            result_interrupt,
            chunk: options.chunk,
            running: VecDeque::with_capacity(design.tasks as usize),
            finished: VecDeque::new(),
            lost: vec![],
            next: 0,
            label: 0,
            counters,
        })
    }

    /// Returns the parameters of the design.
    pub fn design(&self) -> &Design {
        &self.design
    }

    /// Returns the card.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Returns the streaming channel, for jobs whose data the caller streams ([`start`](Self::start)).
    pub fn channel(&mut self) -> &mut Channel {
        &mut self.h2c
    }

    /// Returns the number of pairs per chunk that [`prepare`](Self::prepare) uses.
    pub fn chunk(&self) -> u32 {
        self.chunk.unwrap_or_else(|| self.design.default_chunk())
    }

    /// Returns the number of jobs without a result.
    pub fn in_flight(&self) -> usize {
        self.running.len()
    }

    /// Starts a job: pushes its task, and starts its program by one doorbell.
    ///
    /// Up to [`Design::tasks`] jobs can be in flight. Data of a job that is lost between host and design without an error is then
    /// replaced by data of the next one, so that both results are wrong. A job that is alone does not finish instead.
    ///
    /// # Errors
    ///
    /// [`MsmSubmitError::Busy`] if the design's task queue is full: poll earlier jobs first. Nothing was started.
    pub fn submit(&mut self, job: &Job) -> Result<JobTicket, MsmSubmitError> {
        let Some(program) = &job.program else { return Ok(self.finish_empty()) };
        self.check_queue()?;
        let stream = self.h2c.run(program)?;
        self.push_task(job.pairs, job.form)?;
        Ok(self.track(job.pairs, Stage::Streaming(stream)))
    }

    /// Starts a task whose data the caller streams, through [`channel`](Self::channel) or another channel.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit); [`MsmSubmitError::TooMany`].
    pub fn start(&mut self, pairs: u32, form: ScalarForm) -> Result<JobTicket, MsmSubmitError> {
        if !self.design.allows(pairs.into()) {
            return Err(MsmSubmitError::TooMany { pairs: pairs.into(), max: self.design.max_pairs });
        }
        if pairs == 0 {
            return Ok(self.finish_empty());
        }
        self.check_queue()?;
        self.push_task(pairs, form)?;
        Ok(self.track(pairs, Stage::Reducing))
    }

    fn check_queue(&self) -> Result<(), MsmSubmitError> {
        let (running, capacity) = (self.running.len(), self.design.tasks as usize);
        if running >= capacity { Err(MsmSubmitError::Busy { running, capacity }) } else { Ok(()) }
    }

    fn push_task(&self, pairs: u32, form: ScalarForm) -> Result<(), BusError> {
        let mode = match form {
            ScalarForm::Canonical => regs::Mode::empty(),
            ScalarForm::Montgomery => regs::Mode::MONTGOMERY,
        };
        self.user.write(regs::N_ELEMENTS, pairs)?;
        self.user.write(regs::MODE, mode.bits())?;
        self.user.write(regs::LABEL, self.label)?;
        self.user.write(regs::PUSH_TASK, 1)
    }

    fn track(&mut self, pairs: u32, stage: Stage) -> JobTicket {
        let (sequence, label) = (self.next, self.label);
        self.next += 1;
        self.label = self.label.wrapping_add(1);
        self.counters.submitted();
        let span = tracing::debug_span!("job", label, pairs);
        tracing::debug!(parent: &span, "submitted");
        self.running.push_back(RunningJob { sequence, label, pairs, stage, span });
        self.ticket(sequence)
    }

    fn ticket(&self, sequence: u64) -> JobTicket {
        JobTicket { client: self.h2c.id(), sequence }
    }

    /// Returns the number of a ticket's job, if this client issued the ticket.
    fn sequence(&self, ticket: JobTicket) -> Result<u64, JobError> {
        if ticket.client == self.h2c.id() { Ok(ticket.sequence) } else { Err(JobError::ForeignTicket) }
    }

    /// Finishes a job without pairs, whose result is infinity, without accessing the card.
    fn finish_empty(&mut self) -> JobTicket {
        let (sequence, label) = (self.next, self.label);
        self.next += 1;
        self.label = self.label.wrapping_add(1);
        let mut bytes = [0; regs::RESULT_BYTES];
        bytes[32] = 1; // (0 : Y : 0) with any Y but 0
        self.store_result(sequence, Output { label, bytes });
        self.ticket(sequence)
    }

    fn store_result(&mut self, sequence: u64, output: Output) {
        if self.finished.len() == MAX_RESULTS {
            self.finished.pop_front();
        }
        self.finished.push_back((sequence, output));
    }

    /// Sets the label of the next job. It is incremented with each job.
    pub fn set_label(&mut self, label: u32) {
        self.label = label;
    }

    /// Returns whether the card has accepted all data of a job. Its buffers may be written again from then on.
    ///
    /// # Errors
    ///
    /// The streaming channel failed.
    pub fn poll_accepted(&mut self, ticket: JobTicket) -> Result<Poll, JobError> {
        let wanted = self.sequence(ticket)?;
        let Some(job) = self.job(wanted) else {
            return self.check_known(wanted).map(|()| Poll::Ready);
        };
        match job.stage {
            Stage::Streaming(stream) => self.h2c.poll(stream).map_err(|error| self.interrupted(error.into())),
            _ => Ok(Poll::Ready),
        }
    }

    /// Returns a job's result, if it is available. Each result is returned once.
    ///
    /// While data is streaming, this reads host memory only. After all of it was accepted, each poll reads one register.
    ///
    /// # Errors
    ///
    /// A channel failed, the design reports another job's result, or the ticket has no result, or no longer has one.
    pub fn poll(&mut self, ticket: JobTicket) -> Result<Option<Output>, JobError> {
        let wanted = self.sequence(ticket)?;
        if self.job(wanted).is_none() {
            return self.take_result(wanted).map(Some);
        }
        match self.advance().map_err(|error| self.interrupted(error))? {
            Some((sequence, output)) if sequence == wanted => Ok(Some(output)),
            Some((sequence, output)) => {
                self.store_result(sequence, output);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Returns the job with this number, if it has no result yet. Numbers ascend, and it is nearly always the oldest.
    #[inline]
    fn job(&self, sequence: u64) -> Option<&RunningJob> {
        match self.running.front() {
            Some(oldest) if oldest.sequence == sequence => Some(oldest),
            _ => self.later_job(sequence),
        }
    }

    #[cold]
    fn later_job(&self, sequence: u64) -> Option<&RunningJob> {
        let at = self.running.binary_search_by_key(&sequence, |job| job.sequence).ok()?;
        self.running.get(at)
    }

    /// Returns the stored result of a finished job.
    fn take_result(&mut self, sequence: u64) -> Result<Output, JobError> {
        let at = self.finished.iter().position(|&(finished, _)| finished == sequence);
        if let Some((_, output)) = at.and_then(|at| self.finished.remove(at)) {
            return Ok(output);
        }
        self.check_known(sequence)?;
        Err(JobError::NoResult)
    }

    fn check_known(&self, sequence: u64) -> Result<(), JobError> {
        match sequence {
            _ if self.lost.iter().any(|range| range.contains(&sequence)) => Err(JobError::Lost),
            _ if sequence < self.next => Ok(()),
            _ => Err(JobError::NoResult),
        }
    }

    /// Advances the oldest job by one step, if possible. Returns its number and result after the last step.
    #[inline]
    fn advance(&mut self) -> Result<Option<(u64, Output)>, JobError> {
        // Polls all streams, because a poll also starts a program that waits for the previous one.
        for job in &mut self.running {
            if let Stage::Streaming(stream) = job.stage {
                match self.h2c.poll(stream)? {
                    Poll::Ready => {
                        tracing::debug!(parent: &job.span, "accepted");
                        job.stage = Stage::Reducing;
                    }
                    Poll::Pending => break,
                }
            }
        }
        let Some(job) = self.running.front_mut() else { return Ok(None) };
        match job.stage {
            Stage::Streaming(_) => Ok(None),
            Stage::Reducing => {
                match self.user.read(regs::RESULT_VALID)? {
                    1 => {}
                    GONE => return Err(JobError::Gone),
                    _ => return Ok(None),
                }
                job.stage = Stage::Fetching(self.result.fetch(&mut self.c2h)?);
                Ok(None)
            }
            Stage::Fetching(fetch) => {
                if self.c2h.poll(fetch)? == Poll::Pending {
                    return Ok(None);
                }
                let (expected, label) = (job.label, self.user.read(regs::RESULT_LABEL)?);
                match label {
                    label if label == expected => {}
                    GONE => return Err(JobError::Gone),
                    label => return Err(JobError::WrongLabel { expected, label }),
                }
                let bytes = self.result.bytes();
                self.user.write(regs::POP_RESULT, 1)?;
                let sequence = job.sequence;
                tracing::debug!(parent: &job.span, "result");
                self.counters.completed(job.pairs);
                self.running.pop_front();
                Ok(Some((sequence, Output { label, bytes })))
            }
        }
    }

    /// Waits for a job's result.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll), and [`JobError::Deadline`], which reports what delays the job; it is then still in flight.
    pub fn wait(&mut self, ticket: JobTicket, limit: Duration) -> Result<Output, JobError> {
        let mut begin = None;
        loop {
            if let Some(output) = self.poll(ticket)? {
                return Ok(output);
            }
            self.pause(ticket, &mut begin, limit)?;
        }
    }

    /// Waits until the card has accepted all data of a job.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_accepted(&mut self, ticket: JobTicket, limit: Duration) -> Result<(), JobError> {
        let mut begin = None;
        while self.poll_accepted(ticket)? == Poll::Pending {
            self.pause(ticket, &mut begin, limit)?;
        }
        Ok(())
    }

    /// Processes an error. If it ends the oldest job, reports how far the job came, and recovers for the next one.
    #[cold]
    pub(crate) fn interrupted(&mut self, error: JobError) -> JobError {
        let ends = match &error {
            JobError::Design(_) => true,
            other => matches!(other.engine(), Some(EngineError::Failed { .. })),
        };
        let Some((label, pairs)) = self.running.front().filter(|_| ends).map(|job| (job.label, job.pairs))
        else {
            return error;
        };
        let Ok(state) = self.state() else { return error };
        let taken = pairs.saturating_sub(state.pairs_left);
        // An error of the design takes precedence, because it explains that of the channel.
        let error = if state.errors.is_empty() { error } else { JobError::Design(state.errors) };
        if let Err(error) = self.recover() {
            tracing::warn!(%error, "could not recover the client after a failed job");
        }
        JobError::Interrupted { label, pairs, taken, chunks: taken / self.chunk(), cause: Box::new(error) }
    }

    /// Waits for a short time, at most until `limit` after `begin`, which the first call sets. If a channel moves data, waits
    /// on that channel, which finds engine errors; otherwise sleeps. Reads the clock once.
    fn pause(
        &mut self,
        ticket: JobTicket,
        begin: &mut Option<Instant>,
        limit: Duration,
    ) -> Result<(), JobError> {
        let now = Instant::now();
        let past = now - *begin.get_or_insert(now);
        if past >= limit {
            return Err(self.deadline(ticket, limit));
        }
        self.counters.sample(&self.user, now)?;
        // Only the oldest job can be fetching, and all others wait for it.
        let fetching = self.running.front().filter(|job| matches!(job.stage, Stage::Fetching(_)));
        let job = fetching.or_else(|| self.job(ticket.sequence));
        // Returns in time for the next sample of the FIFO levels, which other processes read.
        let left = (limit - past).min(SAMPLE_INTERVAL);
        let waited = match job.map(|job| &job.stage) {
            Some(&Stage::Streaming(stream)) => self.h2c.wait(stream, left),
            Some(&Stage::Fetching(fetch)) => self.c2h.wait(fetch, left),
            _ => {
                self.wait_for_design(past)?;
                return self.design.check_alive(&self.user).map_err(|error| self.interrupted(error));
            }
        };
        match waited {
            Ok(()) | Err(WaitError::Deadline { .. }) => Ok(()),
            Err(error) => Err(self.interrupted(error.into())),
        }
    }

    /// Waits for a short time while the design computes; `waited` is the time waited so far.
    fn wait_for_design(&self, waited: Duration) -> Result<(), JobError> {
        match (&self.result_interrupt, self.h2c.options().wait) {
            (Some(interrupt), _) => {
                // Deasserts the interrupt line. A result between this write and the sleep ends the sleep.
                self.user.write(regs::IRQ_STATUS, !0)?;
                if self.user.read(regs::RESULT_VALID)? == 0 {
                    interrupt.wait(PAUSE_BOUNDS[1] * 10).map_err(WaitError::Sleep)?;
                }
            }
            (None, Wait::Spin) => std::hint::spin_loop(),
            (None, _) => {
                crate::bus::counts::system_call();
                std::thread::sleep((waited / 8).clamp(PAUSE_BOUNDS[0], PAUSE_BOUNDS[1]));
            }
        }
        Ok(())
    }

    /// Returns the error of a wait that reached its limit of `waited`. If the state cannot be read, it is the error of reading
    /// it.
    pub(crate) fn deadline(&mut self, ticket: JobTicket, waited: Duration) -> JobError {
        let Some(job) = self.job(ticket.sequence) else { return JobError::NoResult };
        let (label, pairs, streaming) = (job.label, job.pairs, matches!(job.stage, Stage::Streaming(_)));
        let channel = if streaming { self.h2c.snapshot().map(Box::new).map(Some) } else { Ok(None) };
        match (self.state(), channel) {
            (Ok(state), Ok(channel)) => {
                JobError::Deadline { label, pairs, waited, state: Box::new(state), channel }
            }
            (Err(error), _) => error.into(),
            (_, Err(error)) => error.into(),
        }
    }

    /// Returns the levels of the design's FIFOs, and its progress.
    ///
    /// # Errors
    ///
    /// The bus failed.
    pub fn state(&self) -> Result<DesignState, DesignError> {
        DesignState::read(&self.user, &self.design)
    }

    /// Samples the levels of the design's FIFOs and the load of its core for the statistics that other processes read
    /// ([`MsmStats`]), unless the last sample is less than 100 ms old. [`wait`](Self::wait) does so automatically; call this
    /// from programs that poll instead.
    ///
    /// # Errors
    ///
    /// The bus failed.
    pub fn sample_counters(&mut self) -> Result<(), DesignError> {
        self.counters.sample(&self.user, Instant::now())
    }

    /// Recovers after an error: drops all jobs, empties the design, and makes the channels usable again.
    ///
    /// # Errors
    ///
    /// An engine does not become idle, or the bus failed.
    pub fn recover(&mut self) -> Result<(), DesignError> {
        use regs::Ctrl;
        let user = self.user.clone();
        // Data that waits for space in a FIFO keeps the engine busy, so the FIFOs are flushed until it is idle.
        let flush = || user.write(regs::CTRL, (Ctrl::ABORT | Ctrl::FLUSH).bits());
        flush()?;
        // A failed flush is ignored: reading the engine's status next reports the same failure.
        self.h2c.recover_with(&mut || drop(flush()))?;
        self.c2h.recover()?;
        self.user.write(regs::CTRL, Ctrl::SOFT_RESET.bits())?;
        self.running.iter().for_each(|job| tracing::debug!(parent: &job.span, "lost"));
        if let Some(first) = self.running.front() {
            self.lost.push(first.sequence..self.next);
        }
        self.running.clear();
        Ok(())
    }
}

impl Drop for Msm {
    fn drop(&mut self) {
        if self.result_interrupt.is_some() && !self.h2c.is_forked() {
            // A card that is gone does not interrupt.
            let _ = self.user.write(regs::IRQ_ENABLE, 0);
        }
    }
}
