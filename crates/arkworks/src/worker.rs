//! The worker thread, which owns the card's MSM client: it submits jobs, waits for results, and recovers the card after errors.
//!
//! A separate thread keeps the card busy while callers compute. Callers therefore share no lock on the client.

use crate::error::MsmError;
use crate::scalar_buffers::{JobInputs, ScalarBuffer, ScalarBufferPool};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use xdma::channel::Stats;
use xdma::msm::{JobError, JobTicket, Msm, MsmSubmitError, TimeoutEstimator};
use xdma::regs::msm::RESULT_BYTES;

/// The card goes out of service after this many consecutive failures, each of which can last as long as a timeout, or after this
/// many wrong results.
const MAX_FAILURES: u32 = 2;
/// Shortest and longest time that the worker waits for a result before it handles requests again.
const MIN_WAIT: Duration = Duration::from_millis(1);
const MAX_WAIT: Duration = Duration::from_millis(20);

/// The bytes of a result.
pub(crate) type ResultBytes = [u8; RESULT_BYTES];
/// The index of a job in its batch, and its result.
type Reply = (usize, Result<ResultBytes, MsmError>);

/// Jobs that share a buffer of scalars.
struct Batch {
    buffer: ScalarBuffer,
    jobs: Vec<JobInputs>,
    reply: Sender<Reply>,
    /// Number of jobs that have no result yet.
    remaining: usize,
    failed: bool,
}

/// A request to the worker.
pub(crate) enum Request {
    Batch(ScalarBuffer, Vec<JobInputs>, Sender<Reply>),
    /// Recovers the card and returns it to service.
    Resume(Sender<Result<(), MsmError>>),
    /// Reports that a result was wrong.
    ReportWrongResult,
    /// Requests the statistics of the H2C channel.
    Stats(Sender<Stats>),
}

/// A batch whose results arrive one by one.
#[derive(Debug)]
pub(crate) struct PendingBatch {
    replies: Receiver<Reply>,
    arrived: Vec<Reply>,
}

impl PendingBatch {
    /// Sends a batch to the worker.
    pub fn start(
        requests: &Sender<Request>,
        buffer: ScalarBuffer,
        jobs: Vec<JobInputs>,
    ) -> Result<Self, MsmError> {
        let (reply, replies) = channel();
        let request = Request::Batch(buffer, jobs, reply);
        requests.send(request).map_err(|_| MsmError::OutOfService)?;
        Ok(Self { replies, arrived: vec![] })
    }

    /// Waits for the result of one job. The wait ends, because the worker applies a timeout to each job.
    pub fn wait(&mut self, job: usize) -> Result<ResultBytes, MsmError> {
        loop {
            if let Some(at) = self.arrived.iter().position(|(index, _)| *index == job) {
                return self.arrived.swap_remove(at).1;
            }
            // The sender is gone if the worker has ended.
            let reply = self.replies.recv().map_err(|_| MsmError::OutOfService)?;
            self.arrived.push(reply);
        }
    }
}

/// Identifies a job by its batch and its index there.
#[derive(Clone, Copy)]
struct JobId {
    batch: u64,
    index: usize,
}

struct InFlight {
    job: JobId,
    ticket: JobTicket,
    pairs: u64,
    submitted: Instant,
}

/// State that the worker shares with callers.
#[derive(Debug)]
pub(crate) struct SharedState {
    pub scalar_buffers: ScalarBufferPool,
    pub in_service: AtomicBool,
}

pub(crate) struct Worker {
    msm: Msm,
    shared: Arc<SharedState>,
    timeouts: TimeoutEstimator,
    requests: Receiver<Request>,
    batches: HashMap<u64, Batch>,
    next_batch: u64,
    queued: VecDeque<JobId>,
    in_flight: VecDeque<InFlight>,
    /// When the latest result arrived. The card has worked on the next job since then.
    last_result: Instant,
    /// Failures since the latest result.
    failures: u32,
    /// Wrong results since the card was last put into service.
    wrong_results: u32,
}

impl Worker {
    pub fn new(
        msm: Msm,
        shared: Arc<SharedState>,
        timeout_margin: Duration,
        requests: Receiver<Request>,
    ) -> Self {
        Self {
            msm,
            shared,
            timeouts: TimeoutEstimator::new(timeout_margin),
            requests,
            batches: HashMap::new(),
            next_batch: 0,
            queued: VecDeque::new(),
            in_flight: VecDeque::new(),
            last_result: Instant::now(),
            failures: 0,
            wrong_results: 0,
        }
    }

    /// Runs until all senders of requests are dropped and all jobs have ended.
    pub fn run(mut self) {
        loop {
            if self.in_flight.is_empty() && self.queued.is_empty() {
                match self.requests.recv() {
                    Ok(request) => self.handle_request(request),
                    Err(_) => return,
                }
            }
            while let Ok(request) = self.requests.try_recv() {
                self.handle_request(request);
            }
            self.submit();
            self.poll_oldest();
        }
    }

    fn handle_request(&mut self, request: Request) {
        match request {
            Request::Batch(buffer, jobs, reply) => {
                let (batch, remaining) = (self.next_batch, jobs.len());
                self.next_batch += 1;
                self.queued.extend((0..remaining).map(|index| JobId { batch, index }));
                self.batches.insert(batch, Batch { buffer, jobs, reply, remaining, failed: false });
                if !self.shared.in_service.load(Ordering::Relaxed) {
                    self.reject_queued();
                }
            }
            // Sending a reply fails if the caller has stopped waiting.
            Request::Resume(reply) => {
                let resumed = self.resume();
                drop(reply.send(resumed));
            }
            Request::Stats(reply) => drop(reply.send(self.msm.channel().stats())),
            Request::ReportWrongResult => {
                self.wrong_results += 1;
                if self.wrong_results >= MAX_FAILURES {
                    self.take_out_of_service(&format!("{} results were wrong", self.wrong_results));
                }
            }
        }
    }

    fn resume(&mut self) -> Result<(), MsmError> {
        if !self.shared.in_service.load(Ordering::Relaxed) {
            self.recover()?;
            (self.failures, self.wrong_results) = (0, 0);
            self.shared.in_service.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Submits queued jobs until the design's queue is full.
    fn submit(&mut self) {
        while let Some(job) = self.queued.front().copied() {
            let Some(batch) = self.batches.get_mut(&job.batch) else { return };
            let submitted = match batch.buffer.job(&self.msm, &batch.jobs[job.index]) {
                Ok(prepared) => match self.msm.submit(prepared) {
                    Ok(ticket) => Ok((ticket, u64::from(prepared.pairs()))),
                    Err(MsmSubmitError::Busy { .. }) => return,
                    Err(error) => Err(MsmError::Submit(error)),
                },
                Err(error) => Err(MsmError::Prepare(error)),
            };
            self.queued.pop_front();
            match submitted {
                Ok((ticket, pairs)) => {
                    self.in_flight.push_back(InFlight { job, ticket, pairs, submitted: Instant::now() });
                }
                // The error concerns only this job, not the card.
                Err(error @ MsmError::Prepare(_)) => self.complete(job, Err(error)),
                Err(error) => self.complete_with_failure(job, error),
            }
        }
    }

    /// Waits a short time for the result of the oldest job.
    fn poll_oldest(&mut self) {
        let Some(oldest) = self.in_flight.front() else { return };
        let elapsed = oldest.submitted.max(self.last_result).elapsed();
        let remaining = self.timeouts.timeout(oldest.pairs).saturating_sub(elapsed);
        let is_full = self.in_flight.len() >= self.msm.design().tasks as usize;
        let wait = if is_full { MAX_WAIT } else { (elapsed / 8).clamp(MIN_WAIT, MAX_WAIT) };
        match self.msm.wait(oldest.ticket, wait.min(remaining)) {
            Ok(output) => {
                let (job, pairs) = (oldest.job, oldest.pairs);
                let time = oldest.submitted.max(self.last_result).elapsed();
                self.timeouts.record(pairs, time);
                self.last_result = Instant::now();
                self.failures = 0;
                self.in_flight.pop_front();
                self.complete(job, Ok(output.bytes));
            }
            Err(JobError::Deadline { .. }) if wait < remaining => {}
            Err(error) => {
                let job = oldest.job;
                self.in_flight.pop_front();
                self.complete_with_failure(job, MsmError::Job(error));
            }
        }
    }

    /// Completes a job with an error, and recovers the card.
    fn complete_with_failure(&mut self, job: JobId, error: MsmError) {
        self.complete(job, Err(error));
        self.failures += 1;
        match self.recover() {
            Ok(()) if self.failures < MAX_FAILURES => {}
            Ok(()) => self.take_out_of_service(&format!("{} consecutive MSMs failed", self.failures)),
            Err(error) => self.take_out_of_service(&error.to_string()),
        }
    }

    /// Recovers the card. The jobs in flight are lost, and are queued again.
    fn recover(&mut self) -> Result<(), MsmError> {
        while let Some(lost) = self.in_flight.pop_back() {
            self.queued.push_front(lost.job);
        }
        self.msm.recover().map_err(MsmError::Recover)
    }

    fn take_out_of_service(&mut self, reason: &str) {
        if self.shared.in_service.swap(false, Ordering::Relaxed) {
            tracing::error!(
                reason,
                "the card is out of service; all MSMs run on the CPU until `Context::resume` is called"
            );
        }
        self.reject_queued();
    }

    fn reject_queued(&mut self) {
        while let Some(job) = self.queued.pop_front() {
            self.complete(job, Err(MsmError::OutOfService));
        }
    }

    /// Sends the result of a job to the caller. After the last job of a batch, releases the buffer.
    fn complete(&mut self, job: JobId, result: Result<ResultBytes, MsmError>) {
        let Some(batch) = self.batches.get_mut(&job.batch) else { return };
        batch.remaining -= 1;
        batch.failed |= result.is_err();
        // Sending fails if the caller has abandoned its MSM.
        let _ = batch.reply.send((job.index, result));
        if batch.remaining == 0
            && let Some(batch) = self.batches.remove(&job.batch)
            && !batch.failed
        {
            // After a failure, the card may still read the buffer. It is then dropped instead, and `xdma` keeps the memory until
            // the card has finished with it.
            self.shared.scalar_buffers.release(batch.buffer);
        }
    }
}
