//! The thread that owns the card's MSM client: it submits jobs, waits for results, and recovers after errors.
//!
//! A thread of its own keeps the card busy while callers compute, and no caller ever holds a lock while another one needs it.

use crate::error::SumError;
use crate::slots::{Product, Slot, Slots};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use xdma::channel::Stats;
use xdma::msm::{JobError, JobTicket, Msm, MsmSubmitError, Pace};
use xdma::regs::msm::RESULT_BYTES;

/// Failures in a row, or wrong results, after which the card is taken out of service: a failure can cost as long as a deadline.
const MAX_FAILURES: u32 = 2;
/// The bounds of a wait while another job could be submitted.
const WAIT_BOUNDS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

/// The bytes of a result.
pub(crate) type ResultBytes = [u8; RESULT_BYTES];
/// The index of a product in its batch, and its result.
type Reply = (usize, Result<ResultBytes, SumError>);

/// Products that share a slot.
struct Batch {
    slot: Slot,
    products: Vec<Product>,
    reply: Sender<Reply>,
    /// Number of products without a result.
    left: usize,
    failed: bool,
}

/// A request to the worker.
pub(crate) enum Request {
    Batch(Slot, Vec<Product>, Sender<Reply>),
    /// Tries to take the card back into service.
    Resume(Sender<Result<(), SumError>>),
    /// A caller found a wrong result.
    WrongResult,
    /// Asks for the statistics of the channel.
    Stats(Sender<Stats>),
}

/// The results of a batch, as they arrive.
#[derive(Debug)]
pub(crate) struct Pending {
    replies: Receiver<Reply>,
    arrived: Vec<Reply>,
}

impl Pending {
    /// Sends a batch to the worker.
    pub fn start(requests: &Sender<Request>, slot: Slot, products: Vec<Product>) -> Result<Self, SumError> {
        let (reply, replies) = channel();
        let request = Request::Batch(slot, products, reply);
        requests.send(request).map_err(|_| SumError::OutOfService)?;
        Ok(Self { replies, arrived: vec![] })
    }

    /// Waits for one result. The worker bounds the time.
    pub fn wait(&mut self, wanted: usize) -> Result<ResultBytes, SumError> {
        loop {
            if let Some(at) = self.arrived.iter().position(|(index, _)| *index == wanted) {
                return self.arrived.swap_remove(at).1;
            }
            // Without a sender, the worker has ended.
            let reply = self.replies.recv().map_err(|_| SumError::OutOfService)?;
            self.arrived.push(reply);
        }
    }
}

/// A product of a batch.
#[derive(Clone, Copy)]
struct Task {
    batch: u64,
    index: usize,
}

struct Running {
    task: Task,
    ticket: JobTicket,
    pairs: u64,
    submitted: Instant,
}

/// State that callers read.
#[derive(Debug)]
pub(crate) struct Shared {
    pub slots: Slots,
    pub in_service: AtomicBool,
}

pub(crate) struct Worker {
    msm: Msm,
    shared: Arc<Shared>,
    pace: Pace,
    requests: Receiver<Request>,
    batches: HashMap<u64, Batch>,
    next_batch: u64,
    waiting: VecDeque<Task>,
    running: VecDeque<Running>,
    /// When the latest result arrived: the card works on the next job since then.
    last_result: Instant,
    /// Failures since the last result.
    failures: u32,
    /// Wrong results since the card was put into service.
    wrong_results: u32,
}

impl Worker {
    pub fn new(msm: Msm, shared: Arc<Shared>, allowance: Duration, requests: Receiver<Request>) -> Self {
        Self {
            msm,
            shared,
            pace: Pace::new(allowance),
            requests,
            batches: HashMap::new(),
            next_batch: 0,
            waiting: VecDeque::new(),
            running: VecDeque::new(),
            last_result: Instant::now(),
            failures: 0,
            wrong_results: 0,
        }
    }

    /// Runs until all senders of requests are dropped and all jobs have ended.
    pub fn run(mut self) {
        loop {
            if self.running.is_empty() && self.waiting.is_empty() {
                match self.requests.recv() {
                    Ok(request) => self.accept(request),
                    Err(_) => return,
                }
            }
            while let Ok(request) = self.requests.try_recv() {
                self.accept(request);
            }
            self.submit();
            self.advance();
        }
    }

    fn accept(&mut self, request: Request) {
        match request {
            Request::Batch(slot, products, reply) => {
                let (batch, left) = (self.next_batch, products.len());
                self.next_batch += 1;
                self.waiting.extend((0..left).map(|index| Task { batch, index }));
                self.batches.insert(batch, Batch { slot, products, reply, left, failed: false });
                if !self.shared.in_service.load(Ordering::Relaxed) {
                    self.refuse_waiting();
                }
            }
            // Callers may have stopped waiting.
            Request::Resume(reply) => {
                let resumed = self.resume();
                drop(reply.send(resumed));
            }
            Request::Stats(reply) => drop(reply.send(self.msm.channel().stats())),
            Request::WrongResult => {
                self.wrong_results += 1;
                if self.wrong_results >= MAX_FAILURES {
                    self.take_out_of_service(&format!("{} results were wrong", self.wrong_results));
                }
            }
        }
    }

    fn resume(&mut self) -> Result<(), SumError> {
        if !self.shared.in_service.load(Ordering::Relaxed) {
            self.recover()?;
            (self.failures, self.wrong_results) = (0, 0);
            self.shared.in_service.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Submits waiting products, as far as the design's queue has space.
    fn submit(&mut self) {
        while let Some(task) = self.waiting.front().copied() {
            let Some(batch) = self.batches.get_mut(&task.batch) else { return };
            let submitted = match batch.slot.job(&self.msm, &batch.products[task.index]) {
                Ok(job) => match self.msm.submit(job) {
                    Ok(ticket) => Ok((ticket, u64::from(job.pairs()))),
                    Err(MsmSubmitError::Busy { .. }) => return,
                    Err(error) => Err(SumError::Submit(error)),
                },
                Err(error) => Err(SumError::Prepare(error)),
            };
            self.waiting.pop_front();
            match submitted {
                Ok((ticket, pairs)) => {
                    self.running.push_back(Running { task, ticket, pairs, submitted: Instant::now() });
                }
                // This product cannot be computed, but others can.
                Err(error @ SumError::Prepare(_)) => self.finish(task, Err(error)),
                Err(error) => self.fail(task, error),
            }
        }
    }

    /// Waits a short time for the oldest job.
    fn advance(&mut self) {
        let Some(oldest) = self.running.front() else { return };
        let worked = oldest.submitted.max(self.last_result).elapsed();
        let limit = self.pace.limit(oldest.pairs);
        let left = limit.saturating_sub(worked);
        let is_full = self.running.len() >= self.msm.design().tasks as usize;
        let pause = if is_full { WAIT_BOUNDS[1] } else { (worked / 8).clamp(WAIT_BOUNDS[0], WAIT_BOUNDS[1]) };
        match self.msm.wait(oldest.ticket, pause.min(left)) {
            Ok(output) => {
                let (task, pairs) = (oldest.task, oldest.pairs);
                let time = oldest.submitted.max(self.last_result).elapsed();
                self.pace.record(pairs, time);
                self.last_result = Instant::now();
                self.failures = 0;
                self.running.pop_front();
                self.finish(task, Ok(output.bytes));
            }
            Err(JobError::Deadline { .. }) if pause < left => {}
            Err(error) => {
                let task = oldest.task;
                self.running.pop_front();
                self.fail(task, SumError::Job(error));
            }
        }
    }

    /// Ends a product with an error, and recovers.
    fn fail(&mut self, task: Task, error: SumError) {
        self.finish(task, Err(error));
        self.failures += 1;
        match self.recover() {
            Ok(()) if self.failures < MAX_FAILURES => {}
            Ok(()) => self.take_out_of_service(&format!("{} sums in a row failed", self.failures)),
            Err(error) => self.take_out_of_service(&error.to_string()),
        }
    }

    /// Makes the card usable again. Its jobs are lost, and wait to be submitted again.
    fn recover(&mut self) -> Result<(), SumError> {
        while let Some(lost) = self.running.pop_back() {
            self.waiting.push_front(lost.task);
        }
        self.msm.recover().map_err(SumError::Recover)
    }

    fn take_out_of_service(&mut self, why: &str) {
        if self.shared.in_service.swap(false, Ordering::Relaxed) {
            tracing::error!(
                why,
                "the card is out of service: all sums run on the CPU until `Context::resume`"
            );
        }
        self.refuse_waiting();
    }

    fn refuse_waiting(&mut self) {
        while let Some(task) = self.waiting.pop_front() {
            self.finish(task, Err(SumError::OutOfService));
        }
    }

    /// Replies to the caller. After the last product of a batch, its slot becomes idle.
    fn finish(&mut self, task: Task, result: Result<ResultBytes, SumError>) {
        let Some(batch) = self.batches.get_mut(&task.batch) else { return };
        batch.left -= 1;
        batch.failed |= result.is_err();
        // The caller may have abandoned its sum.
        let _ = batch.reply.send((task.index, result));
        if batch.left == 0
            && let Some(batch) = self.batches.remove(&task.batch)
            && !batch.failed
        {
            // After a failure, the card may still read the slot's memory. Dropping it leaves that to the library.
            self.shared.slots.put(batch.slot);
        }
    }
}
