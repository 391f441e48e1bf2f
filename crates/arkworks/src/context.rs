//! The card for sums, and what happens when it fails.

use crate::crossover::{self, Crossover};
use crate::error::{ContextError, SumError};
use crate::report::{Counters, Stats, Sum};
use crate::slots::Slots;
use crate::worker::{Request, Shared, Worker};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use xdma::card::Card;
use xdma::msm::{Msm, MsmOptions};

/// What happens when the card does not compute a sum, or computes a wrong one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnError {
    /// The CPU computes the sum, and a warning is logged.
    #[default]
    Cpu,
    /// The sum panics: for programs that must not become slow without being noticed.
    Panic,
}

/// Options of a [`Context`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Sums of fewer pairs run on the CPU. `None` measures the size at which the card becomes faster ([`Context::crossover`]),
    /// which takes up to a few seconds.
    pub crossover: Option<usize>,
    /// What happens when the card fails.
    pub on_error: OnError,
    /// Whether every sum on the card is checked, by a second sum on the card over tags of the points. A wrong result is then
    /// found with certainty, whatever the card does. It doubles the work of the card and the memory of the points; the CPU
    /// computes an inner product of the scalars, about 0.5 % of the sum that it replaces. Putting a key on the card takes
    /// seconds for each 2^16 points. Proofs need no such check: [`OnCard::prove`](crate::OnCard::prove) verifies them.
    pub check_sums: bool,
    /// Whether [`OnCard::prove`](crate::OnCard::prove) verifies each proof. It takes about 2 ms.
    pub verify: bool,
    /// Time allowed for a sum in addition to 16 times what its pairs take at the pace seen so far
    /// ([`Pace`](xdma::msm::Pace)). A card that is silent for longer has failed.
    pub allowance: Duration,
    /// Options of the MSM client.
    pub msm: MsmOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            crossover: None,
            on_error: OnError::Cpu,
            check_sums: false,
            verify: true,
            allowance: Duration::from_secs(10),
            msm: MsmOptions::default(),
        }
    }
}

/// A card that computes sums, shared by any number of keys and threads. Clones refer to the same card.
///
/// A program makes one at its start. The card is free again when the last clone, and the last key on the card, is dropped.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use xdma_arkworks::{Context, Options};
///
/// # let card = xdma_emulated_card::start_like(xdma_emulated_card::emulator::CardFile::f1(), Default::default())?;
/// // let card = "0000:3b:00.0".parse::<CardName>()?.open(CardOptions::default())?;
/// let context = Context::open(&card, Options { crossover: Some(1000), ..Options::default() })?;
/// assert_eq!(context.crossover().pairs(), Some(1000));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    options: Options,
    card: Card,
    shared: Arc<Shared>,
    /// `None` while the context is being dropped.
    requests: Option<Sender<Request>>,
    worker: Option<JoinHandle<()>>,
    crossover: OnceLock<Crossover>,
    max_pairs: usize,
    counters: Counters,
    observer: OnceLock<Observer>,
}

type Observer = Box<dyn Fn(&Sum) + Send + Sync>;

impl Context {
    /// Opens the MSM design of a card, and starts the thread that serves it. Measures the crossover, unless it is given.
    ///
    /// # Errors
    ///
    /// [`ContextError`].
    pub fn open(card: &Card, options: Options) -> Result<Self, ContextError> {
        let msm = Msm::open(card, options.msm)?;
        let max_pairs = msm.design().max_pairs as usize;
        let (sender, requests) = channel();
        let slots = Slots::new(card.clone());
        let shared = Arc::new(Shared { slots, in_service: AtomicBool::new(true) });
        let worker = Worker::new(msm, shared.clone(), options.allowance, requests);
        let worker = thread::Builder::new().name("xdma-msm".into()).spawn(|| worker.run())?;
        let this = Self(Arc::new(Inner {
            options,
            card: card.clone(),
            shared,
            requests: Some(sender),
            worker: Some(worker),
            crossover: OnceLock::new(),
            max_pairs,
            counters: Counters::default(),
            observer: OnceLock::new(),
        }));
        let crossover = match options.crossover {
            Some(pairs) => Crossover::given(pairs),
            None => crossover::measure(&this)?,
        };
        tracing::info!("{crossover}");
        let _ = this.0.crossover.set(crossover);
        Ok(this)
    }

    /// Returns the options.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Returns the card.
    pub fn card(&self) -> &Card {
        &self.0.card
    }

    /// Returns the size from which sums run on the card, with the measured times.
    pub fn crossover(&self) -> &Crossover {
        self.0.crossover.get().unwrap_or(Crossover::UNKNOWN)
    }

    /// Returns whether the card is in service. It is taken out of service after two failures in a row or two wrong results; all
    /// sums run on the CPU from then on.
    pub fn is_in_service(&self) -> bool {
        self.0.shared.in_service.load(Ordering::Relaxed)
    }

    /// Takes the card back into service, after its problem was solved.
    ///
    /// # Errors
    ///
    /// The MSM client cannot recover: [`SumError::Recover`]. If the card was removed or reset, open it again and make another
    /// context.
    pub fn resume(&self) -> Result<(), SumError> {
        let (reply, resumed) = channel();
        self.send(Request::Resume(reply))?;
        resumed.recv().map_err(|_| SumError::OutOfService)?
    }

    /// Returns the counts of sums since the context was opened.
    pub fn stats(&self) -> Stats {
        self.0.counters.stats()
    }

    /// Returns the statistics of the channel that sends points and scalars: bytes, descriptors, doorbells.
    ///
    /// # Errors
    ///
    /// [`SumError::OutOfService`] if the thread that serves the card has ended.
    pub fn channel_stats(&self) -> Result<xdma::channel::Stats, SumError> {
        let (reply, stats) = channel();
        self.send(Request::Stats(reply))?;
        stats.recv().map_err(|_| SumError::OutOfService)
    }

    /// Calls a function after each sum over registered points, on the thread that asked for it. Only the first call has an
    /// effect.
    ///
    /// Returns whether this was the first call.
    pub fn observe(&self, observer: impl Fn(&Sum) + Send + Sync + 'static) -> bool {
        self.0.observer.set(Box::new(observer)).is_ok()
    }

    pub(crate) fn send(&self, request: Request) -> Result<(), SumError> {
        self.requests()?.send(request).map_err(|_| SumError::OutOfService)
    }

    pub(crate) fn requests(&self) -> Result<&Sender<Request>, SumError> {
        self.0.requests.as_ref().ok_or(SumError::OutOfService)
    }

    pub(crate) fn slots(&self) -> &Slots {
        &self.0.shared.slots
    }

    /// Returns the maximum number of pairs of a job.
    pub(crate) fn max_pairs(&self) -> usize {
        self.0.max_pairs
    }

    /// Counts a proof that was wrong because of a sum of the card.
    #[cfg(feature = "groth16")]
    pub(crate) fn wrong_proof(&self) {
        crate::report::add(&self.counters().wrong_proofs, 1);
        tracing::error!(
            "a sum of the card was wrong: the proof was made again on the CPU; check the card with `xdma selftest`"
        );
        // Without a worker, the card is out of service already.
        let _ = self.send(Request::WrongResult);
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(crate) fn report(&self, sum: &Sum) {
        self.0.counters.count(sum);
        tracing::debug!(bases = sum.bases, pairs = sum.pairs, place = ?sum.place, time = ?sum.time, "sum");
        if let Some(observer) = self.0.observer.get() {
            observer(sum);
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The worker ends without senders.
        self.requests = None;
        if let Some(worker) = self.worker.take() {
            // A panic has been printed by its thread, and callers have been told by `SumError::OutOfService`.
            let _ = worker.join();
        }
    }
}
