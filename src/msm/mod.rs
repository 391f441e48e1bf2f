//! The client of the MSM design: points and scalars in, one point out.
//!
//! The design takes scalars and points from two FIFOs behind two windows of the card's address space, a scalar only
//! together with its point ([`crate::regs::msm`]). A job is one interleaved [`Program`](crate::channel::Program), S0 P0 S1 P1
//! ..., a descriptor for each chunk, built once by [`Msm::prepare`] and started by one doorbell in [`Msm::submit`]. The host
//! takes no part in the streaming, so the next job can be submitted while the last one reduces.
//!
//! Bytes are little-endian. A scalar has 32 bytes, canonical or in Montgomery form (times 2^256 modulo r). A point
//! has 64: x then y, each in Montgomery form modulo p, all zeros for infinity. A result has 96: X, Y, Z,
//! homogeneous (x = X/Z, y = Y/Z), in Montgomery form, any representative below 2p, Z = 0 for infinity.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ark_bn254::{Fr, G1Affine};
//! use ark_ec::{AffineRepr, CurveGroup};
//! use std::time::Duration;
//! use xdma::card::CardOptions;
//! use xdma_emulator::Profile;
//! use xdma::msm::curve::arkworks::{points_to_bytes, result_to_point, scalars_to_bytes};
//! use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
//!
//! let card = xdma_emulated_card::start_msm(Profile::F1, CardOptions::default())?; // carries the MSM design
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
mod plan;
pub(crate) mod running;
mod statistics;

pub use data::{Points, Scalars};
pub use design::{Design, Fill};
pub use error::MsmError;
pub use plan::Job;
pub use statistics::MsmStats;

use crate::bus::BusError;
use crate::card::{Card, Interrupt, Source, UserBar};
use crate::channel::{Channel, ChannelOptions, EngineError, Poll, Ring, Wait};
use crate::memory::Buffer;
use crate::regs::{Direction, GONE, msm as regs};
use running::{Running, Stage};
use statistics::{Counters, LOOK};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How scalars lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ScalarForm {
    /// The number itself, below r.
    #[default]
    Canonical,
    /// The number times 2^256 modulo r: what arkworks and halo2curves hold in memory.
    Montgomery,
}

/// How a client is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MsmOptions {
    /// H2C channel that streams (0 to 3).
    pub h2c: usize,
    /// C2H channel that fetches results (0 to 3).
    pub c2h: usize,
    /// Ring of the streaming channel; `None` takes chains, which start a whole program by one doorbell. Credits are no faster on
    /// the emulated card (`cargo bench --bench feed -- --sweep`).
    pub ring: Option<Ring>,
    /// Pairs a chunk; `None` takes [`Design::default_chunk`].
    pub chunk: Option<u32>,
    /// Set up the streaming channel's other options. How it waits is how the client waits for results too: asleep with the
    /// design's interrupt where [`ChannelOptions::wait`] sleeps.
    pub channel: ChannelOptions,
}

/// A result and what it is the result of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// The job's label.
    pub label: u32,
    /// 96 bytes: X, Y, Z; see the [module](self).
    pub bytes: [u8; regs::RESULT_BYTES],
}

/// Names a submitted job. It is a number: losing it loses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobTicket {
    /// The client, by the channel that it has for itself.
    client: u64,
    sequence: u64,
}

/// How many results are kept for tickets that nobody asked about.
const KEPT_RESULTS: usize = 1024;
/// Shortest and longest pause between two looks at the design's registers. In between, a pause is an eighth of the time
/// waited so far: results come little later, and a long reduction costs few register reads.
pub(crate) const PAUSE: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(1)];

/// The client. See the [module](self).
#[derive(Debug)]
pub struct Msm {
    card: Card,
    pub(crate) user: UserBar,
    pub(crate) design: Design,
    pub(crate) h2c: Channel,
    pub(crate) c2h: Channel,
    result: Buffer,
    /// Fires when a result is there, if waiting is to sleep.
    pub(crate) done: Option<Interrupt>,
    chunk: Option<u32>,
    pub(crate) running: VecDeque<Running>,
    finished: VecDeque<(u64, Output)>,
    /// Jobs lost by a recovery: tickets in these ranges have no result.
    lost: Vec<Range<u64>>,
    next: u64,
    label: u32,
    counters: Counters,
}

impl Msm {
    /// Takes the design on `card` over: drops what a predecessor left, and takes one channel of each direction.
    ///
    /// # Errors
    ///
    /// The card's logic is not this design, a channel is taken, or memory cannot be had.
    pub fn open(card: &Card, options: MsmOptions) -> Result<Self, MsmError> {
        let user = card.user()?;
        let design = Design::read(&user)?;
        let channel = ChannelOptions { ring: Some(options.ring.unwrap_or(Ring::Chain)), ..options.channel };
        let h2c = card.channel(Direction::H2C, options.h2c, channel)?;
        let c2h = card.c2h(options.c2h)?;
        let result = card.allocate(regs::RESULT_BYTES as u64, Direction::C2H)?;
        user.write(regs::CTRL, regs::Ctrl::SOFT_RESET.bits())?;
        let done = match channel.wait.sleeps() {
            true => Some(card.interrupt(Source::User(0))?),
            false => None,
        };
        if done.is_some() {
            user.write(regs::IRQ_ENABLE, !0)?;
        }
        if let Some(chunk) = options.chunk {
            design.check_chunk(chunk)?;
        }
        let counters = Counters::new(card, &design);
        Ok(Self {
            card: card.clone(),
            user,
            design,
            h2c,
            c2h,
            result,
            done,
            chunk: options.chunk,
            running: VecDeque::with_capacity(design.tasks as usize),
            finished: VecDeque::new(),
            lost: vec![],
            next: 0,
            label: 0,
            counters,
        })
    }

    /// What the design is.
    pub fn design(&self) -> &Design {
        &self.design
    }

    /// The card.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The streaming channel, for feeding by hand ([`start`](Self::start)).
    pub fn channel(&mut self) -> &mut Channel {
        &mut self.h2c
    }

    /// Pairs a chunk that [`prepare`](Self::prepare) uses.
    pub fn chunk(&self) -> u32 {
        self.chunk.unwrap_or_else(|| self.design.default_chunk())
    }

    /// Jobs that have no result yet.
    pub fn in_flight(&self) -> usize {
        self.running.len()
    }

    /// Starts a job: pushes its task, and rings the doorbell of its program.
    ///
    /// # Errors
    ///
    /// [`MsmError::Busy`] when the design's task queue is full: poll earlier jobs first. Nothing was started then.
    pub fn submit(&mut self, job: &Job) -> Result<JobTicket, MsmError> {
        let Some(program) = &job.program else { return Ok(self.finish_empty()) };
        self.check_room()?;
        let stream = self.h2c.run(program)?;
        self.push_task(job.pairs, job.form)?;
        Ok(self.track(job.pairs, Stage::Streaming(stream)))
    }

    /// Starts a task whose data the caller streams, through [`channel`](Self::channel) or another channel.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit); [`MsmError::TooMany`].
    pub fn start(&mut self, pairs: u32, form: ScalarForm) -> Result<JobTicket, MsmError> {
        self.design.check_pairs(pairs.into())?;
        if pairs == 0 {
            return Ok(self.finish_empty());
        }
        self.check_room()?;
        self.push_task(pairs, form)?;
        Ok(self.track(pairs, Stage::Reducing))
    }

    fn check_room(&self) -> Result<(), MsmError> {
        let (running, room) = (self.running.len(), self.design.tasks as usize);
        if running >= room { Err(MsmError::Busy { running, room }) } else { Ok(()) }
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
        self.running.push_back(Running { sequence, label, pairs, stage, span });
        self.ticket(sequence)
    }

    fn ticket(&self, sequence: u64) -> JobTicket {
        JobTicket { client: self.h2c.id(), sequence }
    }

    /// Number of the job that a ticket names, if it is one of this client's.
    fn sequence(&self, ticket: JobTicket) -> Result<u64, MsmError> {
        if ticket.client == self.h2c.id() { Ok(ticket.sequence) } else { Err(MsmError::ForeignTicket) }
    }

    /// A job of no pairs: infinity, without asking the card.
    fn finish_empty(&mut self) -> JobTicket {
        let (sequence, label) = (self.next, self.label);
        self.next += 1;
        self.label = self.label.wrapping_add(1);
        let mut bytes = [0; regs::RESULT_BYTES];
        bytes[32] = 1; // (0 : Y : 0) with any Y but 0
        self.keep(sequence, Output { label, bytes });
        self.ticket(sequence)
    }

    fn keep(&mut self, sequence: u64, output: Output) {
        if self.finished.len() == KEPT_RESULTS {
            self.finished.pop_front();
        }
        self.finished.push_back((sequence, output));
    }

    /// The label of the next job; each job adds one.
    pub fn set_label(&mut self, label: u32) {
        self.label = label;
    }

    /// Whether all of a job's data was accepted by the card: the moment at which its buffers may be written again.
    ///
    /// # Errors
    ///
    /// The streaming channel failed.
    pub fn poll_accepted(&mut self, ticket: JobTicket) -> Result<Poll, MsmError> {
        let wanted = self.sequence(ticket)?;
        let Some(job) = self.job(wanted) else {
            return self.known(wanted).map(|()| Poll::Ready);
        };
        match job.stage {
            Stage::Streaming(stream) => self.h2c.poll(stream).map_err(|error| self.interrupted(error.into())),
            _ => Ok(Poll::Ready),
        }
    }

    /// A job's result, if it is there. Gives it once.
    ///
    /// While data streams this reads host memory only; once all of it was accepted, each poll reads one register.
    ///
    /// # Errors
    ///
    /// A channel failed, the design reports another job's result, or the ticket has no result (any more).
    pub fn poll(&mut self, ticket: JobTicket) -> Result<Option<Output>, MsmError> {
        let wanted = self.sequence(ticket)?;
        if self.job(wanted).is_none() {
            return self.take(wanted).map(Some);
        }
        match self.advance().map_err(|error| self.interrupted(error))? {
            Some((sequence, output)) if sequence == wanted => Ok(Some(output)),
            Some((sequence, output)) => {
                self.keep(sequence, output);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// The job with this number, if it has no result yet. Numbers ascend, and it is nearly always the oldest.
    #[inline]
    fn job(&self, sequence: u64) -> Option<&Running> {
        match self.running.front() {
            Some(oldest) if oldest.sequence == sequence => Some(oldest),
            _ => self.later_job(sequence),
        }
    }

    #[cold]
    fn later_job(&self, sequence: u64) -> Option<&Running> {
        let at = self.running.binary_search_by_key(&sequence, |job| job.sequence).ok()?;
        self.running.get(at)
    }

    /// The result of a job that is over.
    fn take(&mut self, sequence: u64) -> Result<Output, MsmError> {
        let at = self.finished.iter().position(|&(finished, _)| finished == sequence);
        if let Some((_, output)) = at.and_then(|at| self.finished.remove(at)) {
            return Ok(output);
        }
        self.known(sequence)?;
        Err(MsmError::NoResult)
    }

    fn known(&self, sequence: u64) -> Result<(), MsmError> {
        match sequence {
            _ if self.lost.iter().any(|range| range.contains(&sequence)) => Err(MsmError::Lost),
            _ if sequence < self.next => Ok(()),
            _ => Err(MsmError::NoResult),
        }
    }

    /// Brings the oldest job one step further, if it can go; its number and result, if it was the last step.
    #[inline]
    fn advance(&mut self) -> Result<Option<(u64, Output)>, MsmError> {
        // All streams are polled, as polling starts the program that waits for the one before.
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
                    GONE => return Err(MsmError::Gone),
                    _ => return Ok(None),
                }
                let len = regs::RESULT_BYTES as u64;
                job.stage = Stage::Fetching(self.c2h.submit(&self.result, 0..len, regs::RESULT_WINDOW)?);
                Ok(None)
            }
            Stage::Fetching(fetch) => {
                if self.c2h.poll(fetch)? == Poll::Pending {
                    return Ok(None);
                }
                let (expected, label) = (job.label, self.user.read(regs::RESULT_LABEL)?);
                match label {
                    label if label == expected => {}
                    GONE => return Err(MsmError::Gone),
                    label => return Err(MsmError::WrongLabel { expected, label }),
                }
                let mut bytes = [0; regs::RESULT_BYTES];
                self.result.read(0, &mut bytes)?;
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
    /// As [`poll`](Self::poll), and [`MsmError::Deadline`], which tells what holds the job up; it is then still in flight.
    pub fn wait(&mut self, ticket: JobTicket, limit: Duration) -> Result<Output, MsmError> {
        let mut begin = None;
        loop {
            if let Some(output) = self.poll(ticket)? {
                return Ok(output);
            }
            self.pause(ticket, &mut begin, limit)?;
        }
    }

    /// Waits until a job's data was accepted: the article's timer ends here.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_accepted(&mut self, ticket: JobTicket, limit: Duration) -> Result<(), MsmError> {
        let mut begin = None;
        while self.poll_accepted(ticket)? == Poll::Pending {
            self.pause(ticket, &mut begin, limit)?;
        }
        Ok(())
    }

    /// What becomes of the oldest job with an error that ended it: how far it came is told, and the way is cleared for the next.
    #[cold]
    pub(crate) fn interrupted(&mut self, error: MsmError) -> MsmError {
        let ends = matches!(error, MsmError::Engine(EngineError::Failed { .. }) | MsmError::Design(_));
        let Some((label, pairs)) = self.running.front().filter(|_| ends).map(|job| (job.label, job.pairs))
        else {
            return error;
        };
        let Ok(fill) = self.fill() else { return error };
        let taken = pairs.saturating_sub(fill.pairs_left);
        // What the design says of itself explains what the channel says.
        let error = if fill.errors.is_empty() { error } else { MsmError::Design(fill.errors) };
        if let Err(error) = self.recover() {
            tracing::warn!(%error, "the design could not be flushed after a job that failed");
        }
        MsmError::Interrupted { label, pairs, taken, chunks: taken / self.chunk(), cause: Box::new(error) }
    }

    /// Lets some time pass, until `limit` after `begin`, which is set by the first call: on a channel that moves data, which finds engine
    /// errors; asleep otherwise. The clock is read once.
    fn pause(
        &mut self,
        ticket: JobTicket,
        begin: &mut Option<Instant>,
        limit: Duration,
    ) -> Result<(), MsmError> {
        let now = Instant::now();
        let past = now - *begin.get_or_insert(now);
        if past >= limit {
            return Err(self.deadline(ticket, limit)?);
        }
        self.counters.look(&self.user, now)?;
        // Only the oldest job can be fetching, and all others wait for it.
        let fetching = self.running.front().filter(|job| matches!(job.stage, Stage::Fetching(_)));
        let job = fetching.or_else(|| self.job(ticket.sequence));
        // Now and then others are to see how full the FIFOs are.
        let left = (limit - past).min(LOOK);
        let waited = match job.map(|job| &job.stage) {
            Some(&Stage::Streaming(stream)) => self.h2c.wait(stream, left),
            Some(&Stage::Fetching(fetch)) => self.c2h.wait(fetch, left),
            _ => {
                self.rest(past)?;
                return self.design.check_alive(&self.user).map_err(|error| self.interrupted(error));
            }
        };
        match waited {
            Ok(()) | Err(EngineError::Deadline { .. }) => Ok(()),
            Err(error) => Err(self.interrupted(error.into())),
        }
    }

    /// Lets some time pass while the design computes, having waited for `waited`.
    fn rest(&self, waited: Duration) -> Result<(), MsmError> {
        match (&self.done, self.h2c.options().wait) {
            (Some(done), _) => {
                // Its line stays up until this; what comes between here and the sleep ends the sleep.
                self.user.write(regs::IRQ_STATUS, !0)?;
                if self.user.read(regs::RESULT_VALID)? == 0 {
                    done.wait(PAUSE[1] * 10).map_err(|error| EngineError::Sleep(error.into()))?;
                }
            }
            (None, Wait::Spin) => std::hint::spin_loop(),
            (None, _) => {
                crate::bus::counts::system_call();
                std::thread::sleep((waited / 8).clamp(PAUSE[0], PAUSE[1]));
            }
        }
        Ok(())
    }

    pub(crate) fn deadline(&mut self, ticket: JobTicket, waited: Duration) -> Result<MsmError, MsmError> {
        let job = self.job(ticket.sequence).ok_or(MsmError::NoResult)?;
        let (label, pairs, streaming) = (job.label, job.pairs, matches!(job.stage, Stage::Streaming(_)));
        let fill = self.fill()?;
        let channel = if streaming { Some(Box::new(self.h2c.snapshot()?)) } else { None };
        Ok(MsmError::Deadline { label, pairs, waited, fill: Box::new(fill), channel })
    }

    /// How full the design's FIFOs are, and how far it came.
    ///
    /// # Errors
    ///
    /// The bus failed.
    pub fn fill(&self) -> Result<Fill, MsmError> {
        Fill::read(&self.user, &self.design)
    }

    /// Reads how full the design's FIFOs are and how busy its core was, for the statistics that others see
    /// ([`MsmStats`]), if that was not done in the last 100 ms. [`wait`](Self::wait) does so by itself; this
    /// is for programs that poll and rest in their own way.
    ///
    /// # Errors
    ///
    /// The bus failed.
    pub fn look(&mut self) -> Result<(), MsmError> {
        self.counters.look(&self.user, Instant::now())
    }

    /// After an error: drops all jobs, empties the design, and makes the channels usable again.
    ///
    /// # Errors
    ///
    /// An engine does not become idle, or the bus failed.
    pub fn recover(&mut self) -> Result<(), MsmError> {
        use regs::Ctrl;
        let user = self.user.clone();
        // Data that waits for room in a FIFO keeps the engine busy, so the FIFOs are emptied until it is idle.
        let flush = || user.write(regs::CTRL, (Ctrl::ABORT | Ctrl::FLUSH).bits());
        flush()?;
        self.h2c.recover_with(&mut || Ok(flush()?))?;
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
        if self.done.is_some() && !self.h2c.is_forked() {
            // A card that is gone interrupts nobody.
            let _ = self.user.write(regs::IRQ_ENABLE, 0);
        }
    }
}
