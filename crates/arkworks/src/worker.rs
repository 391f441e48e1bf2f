//! The worker thread, which owns the card's MSM client: it submits jobs, waits for results, and recovers the card after errors.
//!
//! A separate thread keeps the card busy while callers compute, and callers need no lock on the client.
//!
//! The worker submits one job at a time. If a second job were queued and data of the first were lost on its way to the card,
//! the design would use data of the second job in its place, and the results would be wrong. A single job that lacks data does
//! not finish, and times out instead.

use crate::error::MsmError;
use crate::scalar_buffers::{JobInputs, ScalarBuffer, ScalarBufferPool};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use xdma::channel::Stats;
use xdma::msm::{JobError, Msm, TimeoutEstimator};
use xdma::regs::msm::RESULT_BYTES;

/// The card goes out of service after this many consecutive failures, each of which can last as long as a timeout, or after this
/// many wrong results.
const MAX_FAILURES: u32 = 2;
/// Interval at which a wait checks whether its result is still needed.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The bytes of a result.
pub(crate) type ResultBytes = [u8; RESULT_BYTES];
/// The index of a job in its batch, and its result.
type Reply = (usize, Result<ResultBytes, MsmError>);

/// Jobs that share a buffer of scalars.
pub(crate) struct Batch {
    buffer: ScalarBuffer,
    jobs: Vec<JobInputs>,
    reply: Sender<Reply>,
    abandoned: Arc<AtomicBool>,
}

/// A request to the worker.
pub(crate) enum Request {
    Batch(Batch),
    /// Recovers the card and returns it to service.
    Resume(Sender<Result<(), MsmError>>),
    /// Reports that a result was wrong.
    ReportWrongResult,
    /// Requests the statistics of the H2C channel.
    Stats(Sender<Stats>),
}

/// A batch whose results arrive one by one. Dropping it abandons the jobs that have not finished.
#[derive(Debug)]
pub(crate) struct PendingBatch {
    replies: Receiver<Reply>,
    arrived: Vec<Reply>,
    abandoned: Arc<AtomicBool>,
}

impl PendingBatch {
    /// Sends a batch to the worker.
    pub fn start(
        requests: &Sender<Request>,
        buffer: ScalarBuffer,
        jobs: Vec<JobInputs>,
    ) -> Result<Self, MsmError> {
        let ((reply, replies), abandoned) = (channel(), Arc::<AtomicBool>::default());
        let batch = Batch { buffer, jobs, reply, abandoned: abandoned.clone() };
        requests.send(Request::Batch(batch)).map_err(|_| MsmError::OutOfService)?;
        Ok(Self { replies, arrived: vec![], abandoned })
    }

    /// Waits for the result of one job. The wait is bounded, because the worker applies a timeout to each job.
    pub fn wait(&mut self, job: usize) -> Result<ResultBytes, MsmError> {
        loop {
            if let Some(at) = self.arrived.iter().position(|(index, _)| *index == job) {
                return self.arrived.swap_remove(at).1;
            }
            // The sender is dropped if the worker has exited.
            let reply = self.replies.recv().map_err(|_| MsmError::OutOfService)?;
            self.arrived.push(reply);
        }
    }
}

impl Drop for PendingBatch {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

/// State that the worker shares with callers.
#[derive(Debug)]
pub(crate) struct SharedState {
    pub scalar_buffers: ScalarBufferPool,
    pub in_service: AtomicBool,
    /// Set when the context is dropped. Results are no longer needed then.
    pub closing: AtomicBool,
}

pub(crate) struct Worker {
    msm: Msm,
    shared: Arc<SharedState>,
    timeouts: TimeoutEstimator,
    /// Failures since the latest result.
    failures: u32,
    /// Wrong results since the card was last returned to service.
    wrong_results: u32,
}

impl Worker {
    pub fn new(msm: Msm, shared: Arc<SharedState>, timeout_margin: Duration) -> Self {
        let timeouts = TimeoutEstimator::new(timeout_margin);
        Self { msm, shared, timeouts, failures: 0, wrong_results: 0 }
    }

    /// Runs until all senders of requests are dropped.
    pub fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(request) = requests.recv() {
            // Sending a reply fails if the caller has stopped waiting.
            match request {
                Request::Batch(batch) => self.compute_batch(batch),
                Request::Resume(reply) => drop(reply.send(self.resume())),
                Request::Stats(reply) => drop(reply.send(self.msm.channel().stats())),
                Request::ReportWrongResult => self.count_wrong_result(),
            }
        }
    }

    fn compute_batch(&mut self, mut batch: Batch) {
        let mut failed = false;
        for (index, inputs) in batch.jobs.iter().enumerate() {
            let result = self.compute(&mut batch.buffer, inputs, &batch.abandoned);
            failed |= result.is_err();
            // Sending fails if the caller has abandoned its MSM.
            let _ = batch.reply.send((index, result));
        }
        if !failed {
            // After a failure, the card may still read the buffer. In that case, the buffer is dropped, and `xdma` keeps its
            // memory until the card has finished with it.
            self.shared.scalar_buffers.release(batch.buffer);
        }
    }

    fn compute(
        &mut self,
        buffer: &mut ScalarBuffer,
        inputs: &JobInputs,
        abandoned: &AtomicBool,
    ) -> Result<ResultBytes, MsmError> {
        if !self.shared.in_service.load(Ordering::Relaxed) || self.is_unwanted(abandoned) {
            return Err(MsmError::OutOfService);
        }
        // An error here concerns only this job, not the card.
        let job = buffer.job(&self.msm, inputs).map_err(MsmError::Prepare)?;
        let (pairs, begin) = (u64::from(job.pairs()), Instant::now());
        let submitted = self.msm.submit(job).map_err(MsmError::Submit);
        let result = submitted.and_then(|ticket| {
            let timeout = self.timeouts.timeout(pairs);
            loop {
                let remaining = timeout.saturating_sub(begin.elapsed());
                match self.msm.wait(ticket, remaining.min(CHECK_INTERVAL)) {
                    Ok(output) => return Ok(output.bytes),
                    Err(JobError::Deadline { .. }) if self.is_unwanted(abandoned) => {
                        return Err(MsmError::OutOfService);
                    }
                    Err(JobError::Deadline { .. }) if remaining > CHECK_INTERVAL => {}
                    Err(JobError::Deadline { label, pairs, state, channel, .. }) => {
                        // Report the whole timeout. The last wait was only a part of it.
                        let error = JobError::Deadline { label, pairs, waited: timeout, state, channel };
                        return Err(MsmError::Job(error));
                    }
                    Err(error) => return Err(MsmError::Job(error)),
                }
            }
        });
        match &result {
            Ok(_) => {
                self.timeouts.record(pairs, begin.elapsed());
                self.failures = 0;
            }
            // Remove the abandoned job from the card. This is not a failure of the card.
            Err(MsmError::OutOfService) => self.recover_or_take_out_of_service(),
            Err(_) => self.count_failure(),
        }
        result
    }

    fn is_unwanted(&self, abandoned: &AtomicBool) -> bool {
        abandoned.load(Ordering::Relaxed) || self.shared.closing.load(Ordering::Relaxed)
    }

    fn resume(&mut self) -> Result<(), MsmError> {
        if !self.shared.in_service.load(Ordering::Relaxed) {
            self.msm.recover().map_err(MsmError::Recover)?;
            (self.failures, self.wrong_results) = (0, 0);
            self.shared.in_service.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn count_failure(&mut self) {
        self.failures += 1;
        self.recover_or_take_out_of_service();
        if self.failures >= MAX_FAILURES {
            self.take_out_of_service(&format!("{} consecutive MSMs failed", self.failures));
        }
    }

    fn count_wrong_result(&mut self) {
        self.wrong_results += 1;
        if self.wrong_results >= MAX_FAILURES {
            self.take_out_of_service(&format!("{} results were wrong", self.wrong_results));
        }
    }

    fn recover_or_take_out_of_service(&mut self) {
        if let Err(error) = self.msm.recover() {
            self.take_out_of_service(&error.to_string());
        }
    }

    fn take_out_of_service(&mut self, reason: &str) {
        if self.shared.in_service.swap(false, Ordering::Relaxed) {
            tracing::error!(
                reason,
                "the card is out of service; all MSMs run on the CPU until `Context::resume` is called"
            );
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // This also runs if the thread panics, so that callers do not try the card again.
        self.shared.in_service.store(false, Ordering::Relaxed);
    }
}
