//! The ranks of a job: messages, waits with a deadline, and the end of the job.
//!
//! Only the main thread calls MPI. Operations that could block use the immediate functions of MPI (`MPI_Isend` and others).
//! They are polled, with sleeps in between. A waiting rank thus leaves the processor to its cards' threads, notices failures of
//! other ranks, and answers the root's questions.

use crate::failure::{Failure, Place};
use crate::message::{Order, Record};
use crate::options::{ANSWER_LIMIT, Options, ROOT_GRACE, WORKER_GRACE};
use crate::process::{Pause, abort_if_finalizing_takes_longer_than, abort_on_panic, launched_processes};
use mpi::collective::UnsafeUserOperation;
use mpi::environment::{Universe, processor_name};
use mpi::request::{LocalScope, Request, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Source};
use mpi::{Tag, Threading};
use serde::de::DeserializeOwned;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

/// Orders from the root to a worker.
const ORDER: Tag = 1;
/// Records from a worker to the root.
const RECORD: Tag = 2;
/// Questions from the root to a worker, to find out whether the worker is alive.
const QUESTION: Tag = 3;
/// How long a worker that has reported its failure waits for the root to end the job. After that, it ends the job itself.
const ABORT_GRACE: Duration = Duration::from_secs(5);

/// The ranks of a job that a launcher started.
pub(crate) struct World {
    // Fields are dropped in this order: finalizing MPI comes last.
    addition: UnsafeUserOperation,
    pub communicator: SimpleCommunicator,
    pub options: Options,
    /// Each rank's host, and the records that it sent and that were not yet consumed. A worker knows only its own host.
    mailboxes: RefCell<Vec<Mailbox>>,
    phase: Cell<&'static str>,
    /// Whether the root has said that the job is done.
    done: Cell<bool>,
    universe: Universe,
}

#[derive(Clone, Default)]
struct Mailbox {
    host: Option<String>,
    records: VecDeque<Record>,
}

impl World {
    /// Initializes MPI if a launcher started this process. Otherwise, returns `None` without calling MPI.
    pub fn join(options: Options) -> Result<Option<Self>, Failure> {
        let Some(launched) = launched_processes() else { return Ok(None) };
        let initialized = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, _) = initialized.ok_or(Failure::AlreadyInitialized)?;
        let communicator = universe.world();
        abort_on_panic(&communicator);
        let host = processor_name().unwrap_or_else(|_| "unknown".into());
        let seen = communicator.size() as usize;
        let this = Self {
            addition: crate::wire::addition(),
            communicator,
            options,
            mailboxes: RefCell::new(vec![Mailbox::default(); seen]),
            phase: Cell::new("the start"),
            done: Cell::new(false),
            universe,
        };
        if launched.is_some_and(|launched| launched != seen) {
            this.abort(&Failure::OtherMpi { launched: launched.unwrap_or(0), seen });
        }
        this.mailboxes.borrow_mut()[this.rank()].host = Some(host.clone());
        if !this.is_root() {
            this.record(&Record::Joined { host, version: env!("CARGO_PKG_VERSION").into() });
        }
        Ok(Some(this))
    }

    pub fn rank(&self) -> usize {
        self.communicator.rank() as usize
    }

    pub fn size(&self) -> usize {
        self.communicator.size() as usize
    }

    pub fn is_root(&self) -> bool {
        self.rank() == 0
    }

    /// Returns the ranks other than the root.
    pub fn workers(&self) -> std::ops::Range<usize> {
        1..self.size()
    }

    /// Returns a rank with its host. A worker knows only its own.
    pub fn place(&self, rank: usize) -> Place {
        Place { rank, host: self.mailboxes.borrow()[rank].host.clone() }
    }

    /// Returns the reduction of partial sums.
    pub fn addition(&self) -> &UnsafeUserOperation {
        &self.addition
    }

    /// Prints why the job fails, and ends it on all ranks.
    pub fn abort(&self, failure: &Failure) -> ! {
        // The process ends here, so no caller could print it. MPI's own text names the rank that aborts, not the one that failed.
        eprintln!(
            "xdma-mpi: {failure}\nxdma-mpi: the job ends without a result (exit code {})",
            failure.code()
        );
        self.communicator.abort(failure.code().into())
    }

    /// Ends the job because this rank failed. A worker reports the failure to the root, which knows the hosts of all ranks.
    pub fn fail(&self, cause: String) -> ! {
        if !self.is_root() {
            self.record(&Record::Failed { cause: cause.clone() });
            self.await_abort();
        }
        self.abort(&Failure::Rank { place: self.place(self.rank()), cause })
    }

    /// Waits until the root ends the job.
    fn await_abort(&self) {
        let end = Instant::now() + ABORT_GRACE;
        while Instant::now() < end {
            // Lets MPI send what it has buffered.
            self.answer();
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until `ready` returns a value. Meanwhile, notices failures on other ranks and answers the root. At the deadline,
    /// ends the job and names the ranks in `pending` that are silent. A worker always waits for the root, whatever `pending`
    /// returns.
    pub fn wait<T>(
        &self,
        phase: &'static str,
        limit: Duration,
        pending: impl Fn() -> Vec<usize>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> T {
        let grace = if self.is_root() { ROOT_GRACE } else { WORKER_GRACE };
        match self.wait_until(phase, limit.saturating_add(grace), &mut ready) {
            Ok(value) => value,
            Err(waited) if self.is_root() => self.end_at_deadline(phase, waited, &pending()),
            Err(waited) => {
                let reporter = self.place(self.rank());
                self.abort(&Failure::RootSilent { phase, waited, reporter })
            }
        }
    }

    /// Waits as [`wait`](Self::wait) does, but for this rank's own work. At the deadline, this rank reports a failure.
    pub fn wait_for_own<T>(
        &self,
        phase: &'static str,
        limit: Duration,
        mut ready: impl FnMut() -> Option<T>,
    ) -> T {
        let result = self.wait_until(phase, limit, &mut ready);
        result.unwrap_or_else(|waited| self.fail(format!("waited {waited:.1?} for {phase}")))
    }

    /// Returns how long this waited if `ready` returned no value in time.
    fn wait_until<T>(
        &self,
        phase: &'static str,
        limit: Duration,
        ready: &mut dyn FnMut() -> Option<T>,
    ) -> Result<T, Duration> {
        self.phase.set(phase);
        let (begin, mut pause) = (Instant::now(), Pause::new());
        loop {
            // The time is read before `ready` is called: even if this process was stopped until now, `ready` may succeed.
            let is_over = begin.elapsed() > limit;
            if let Some(value) = ready() {
                return Ok(value);
            }
            match self.is_root() {
                true => self.receive_records(),
                false => self.answer(),
            }
            if is_over {
                return Err(begin.elapsed());
            }
            pause.sleep();
        }
    }

    /// Waits until MPI has completed the request that `start` makes. At the deadline, any rank can be the one that is late.
    pub fn complete<'a, D: ?Sized + 'a>(
        &self,
        phase: &'static str,
        limit: Duration,
        start: impl for<'s> FnOnce(&'s LocalScope<'a>) -> Request<'a, D, &'s LocalScope<'a>>,
    ) {
        scope(|scope| {
            let mut request = Some(start(scope));
            // On failure, `wait` ends the process, so no request is left behind.
            self.wait(
                phase,
                limit,
                || self.workers().collect(),
                || match request.take()?.test() {
                    Ok(_) => Some(()),
                    Err(unfinished) => {
                        request = Some(unfinished);
                        None
                    }
                },
            );
        });
    }

    /// Waits until each worker has sent a record for which `accept` returns a value. Returns the values in the order of the
    /// workers. Drops records that are not accepted.
    pub fn collect<T>(
        &self,
        phase: &'static str,
        limit: Duration,
        mut accept: impl FnMut(usize, Record) -> Option<T>,
    ) -> Vec<T> {
        let values: RefCell<Vec<Option<T>>> = RefCell::new(self.workers().map(|_| None).collect());
        let pending =
            || self.workers().filter(|rank| values.borrow()[rank - 1].is_none()).collect::<Vec<_>>();
        self.wait(phase, limit, pending, || {
            for rank in pending() {
                while let Some(record) = self.next_record(rank) {
                    if let Some(value) = accept(rank, record) {
                        values.borrow_mut()[rank - 1] = Some(value);
                        break;
                    }
                }
            }
            pending().is_empty().then_some(())
        });
        values.into_inner().into_iter().flatten().collect()
    }

    fn next_record(&self, rank: usize) -> Option<Record> {
        self.mailboxes.borrow_mut()[rank].records.pop_front()
    }

    /// Receives the records that have arrived. Ends the job if one reports a failure.
    fn receive_records(&self) {
        while let Some((rank, record)) = self.receive::<Record>(None, RECORD) {
            match record {
                Record::Joined { host, version } => {
                    self.mailboxes.borrow_mut()[rank].host = Some(host);
                    if version != env!("CARGO_PKG_VERSION") {
                        self.abort(&Failure::Version { place: self.place(rank), version });
                    }
                }
                Record::Failed { cause } => self.abort(&Failure::Rank { place: self.place(rank), cause }),
                Record::Left => self.abort(&Failure::Left { place: self.place(rank) }),
                record => self.mailboxes.borrow_mut()[rank].records.push_back(record),
            }
        }
    }

    /// Answers the root if it has asked whether this worker is alive.
    fn answer(&self) {
        if self.receive::<()>(Some(0), QUESTION).is_some() {
            self.record(&Record::Alive { phase: self.phase.get().into() });
        }
    }

    /// Ends the job at a deadline of the root. Asks the pending ranks what they are doing, and names those that do not answer.
    fn end_at_deadline(&self, phase: &'static str, waited: Duration, pending: &[usize]) -> ! {
        let mut answers: Vec<Option<String>> = vec![None; self.size()];
        pending.iter().for_each(|rank| self.send(*rank, QUESTION, &()));
        let end = Instant::now() + ANSWER_LIMIT;
        while Instant::now() < end && pending.iter().any(|rank| answers[*rank].is_none()) {
            self.receive_records();
            for rank in pending {
                while let Some(record) = self.next_record(*rank) {
                    if let Record::Alive { phase } = record {
                        answers[*rank] = Some(format!("{} (waits for {phase})", self.place(*rank)));
                    }
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
        let silent = pending.iter().filter(|rank| answers[**rank].is_none());
        let silent = silent.map(|rank| self.place(*rank).to_string()).collect();
        self.abort(&Failure::Silent { phase, waited, silent, late: answers.into_iter().flatten().collect() })
    }

    /// Sends a record to the root.
    pub fn record(&self, record: &Record) {
        self.send(0, RECORD, record);
    }

    /// Sends an order to a worker.
    pub fn order(&self, rank: usize, order: &Order) {
        self.send(rank, ORDER, order);
    }

    /// Waits for the root's next order.
    pub fn next_order(&self, limit: Duration) -> Order {
        let receive = || self.receive::<Order>(Some(0), ORDER);
        let (_, order) = self.wait("an order of the root", limit, Vec::new, receive);
        order
    }

    fn send(&self, rank: usize, tag: Tag, message: &impl serde::Serialize) {
        let bytes =
            serde_json::to_vec(message).unwrap_or_else(|error| self.fail(format!("message: {error}")));
        let process = self.communicator.process_at_rank(rank as i32);
        self.complete_quickly(rank, |scope| process.immediate_send_with_tag(scope, &bytes[..], tag));
    }

    /// Receives a message from `rank`, or from any rank if it is `None`, if one has arrived.
    fn receive<T: DeserializeOwned>(&self, rank: Option<usize>, tag: Tag) -> Option<(usize, T)> {
        let (message, status) = match rank {
            Some(rank) => {
                self.communicator.process_at_rank(rank as i32).immediate_matched_probe_with_tag(tag)?
            }
            None => self.communicator.any_process().immediate_matched_probe_with_tag(tag)?,
        };
        let rank = status.source_rank() as usize;
        let mut bytes =
            vec![0u8; status.count(<u8 as mpi::traits::Equivalence>::equivalent_datatype()) as usize];
        self.complete_quickly(rank, |scope| message.immediate_matched_receive_into(scope, &mut bytes[..]));
        match serde_json::from_slice(&bytes) {
            Ok(message) => Some((rank, message)),
            Err(error) => {
                self.abort(&Failure::Unreadable { place: self.place(rank), cause: error.to_string() })
            }
        }
    }

    /// Waits until MPI has completed a request over a small message. This takes no time unless the other rank hangs in between.
    fn complete_quickly<'a, D: ?Sized + 'a>(
        &self,
        other: usize,
        start: impl for<'s> FnOnce(&'s LocalScope<'a>) -> Request<'a, D, &'s LocalScope<'a>>,
    ) {
        scope(|scope| {
            let (mut request, begin, mut pause) = (start(scope), Instant::now(), Pause::new());
            while let Err(unfinished) = request.test() {
                request = unfinished;
                if begin.elapsed() > self.options.deadline.saturating_add(WORKER_GRACE) {
                    let (phase, waited) = ("a control message", begin.elapsed());
                    let silent = vec![self.place(other).to_string()];
                    self.abort(&Failure::Silent { phase, waited, silent, late: vec![] });
                }
                pause.sleep();
            }
        });
    }

    /// Records that the root has said that the job is done.
    pub fn set_done(&self) {
        self.done.set(true);
    }

    /// Ends a job that has succeeded. No rank finalizes MPI before all ranks have reported the end.
    pub fn finish(self) {
        if self.is_root() {
            self.workers().for_each(|rank| self.order(rank, &Order::Done));
            let finished = |_, record| matches!(record, Record::Finished).then_some(());
            self.collect("the end of the job", self.options.load_deadline, finished);
            self.workers().for_each(|rank| self.order(rank, &Order::Release));
        } else if self.done.get() {
            self.record(&Record::Finished);
            self.next_order(self.options.load_deadline);
        } else {
            self.record(&Record::Left);
            self.await_abort();
            self.abort(&Failure::Left { place: self.place(self.rank()) });
        }
        let finalizing =
            abort_if_finalizing_takes_longer_than(self.options.deadline.saturating_add(WORKER_GRACE));
        let Self { addition, communicator, universe, .. } = self;
        drop((addition, communicator));
        drop(universe);
        drop(finalizing);
    }
}
