//! The context: a card that computes MSMs, and what happens when it fails.

use crate::crossover::{self, Crossover};
use crate::error::{ContextError, MsmError};
use crate::scalar_buffers::ScalarBufferPool;
use crate::stats::{AtomicStats, ContextStats, MsmReport};
use crate::worker::{Request, SharedState, Worker};
use std::fmt;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use xdma::card::Card;
use xdma::msm::{Msm, MsmOptions};

/// What happens when the card fails to compute an MSM, or when a [check](ContextOptions::check_msms) finds its result wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnError {
    /// The CPU computes the MSM, and a warning is logged.
    #[default]
    FallBackToCpu,
    /// The call panics, for programs in which a slow fallback must not go unnoticed: also while the card is out of service, and if
    /// a proof is invalid because of the card.
    Panic,
}

/// Smallest maximum number of pairs of a job with which a design is usable. Larger MSMs are split into that many jobs.
const MIN_JOB_PAIRS: u32 = 64;

/// Options of a [`Context`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextOptions {
    /// MSMs with fewer pairs run on the CPU. With `None`, opening the context measures from how many pairs the card is faster
    /// ([`Context::crossover`]), which takes up to a few seconds.
    pub crossover: Option<usize>,
    /// What happens when the card fails to compute an MSM.
    pub on_error: OnError,
    /// Whether each MSM on the card is checked by a second MSM on the card, over tags of the points. A wrong result then goes
    /// undetected with a probability of at most 2^-128, whatever the card does. The check doubles the work of the card and the
    /// DMA memory for points; the CPU computes an inner product of the scalars, which costs about 0.5 % of the MSM on the CPU.
    /// Registering a key then takes about 2 s for each 2^16 points. Proofs do not need this check:
    /// [`OnCard::prove`](crate::OnCard::prove) verifies them. It also takes 32 bytes of memory for each point.
    pub check_msms: bool,
    /// Whether [`OnCard::prove`](crate::OnCard::prove) verifies each proof. It takes about 0.7 ms.
    pub verify_proofs: bool,
    /// An MSM times out after 16 times its expected duration, estimated from earlier MSMs
    /// ([`TimeoutEstimator`](xdma::msm::TimeoutEstimator)), plus this margin.
    pub timeout_margin: Duration,
    /// Options of the MSM client.
    pub msm: MsmOptions,
}

impl Default for ContextOptions {
    fn default() -> Self {
        Self {
            crossover: None,
            on_error: OnError::FallBackToCpu,
            check_msms: false,
            verify_proofs: true,
            timeout_margin: Duration::from_secs(10),
            msm: MsmOptions::default(),
        }
    }
}

/// A card that computes MSMs, shared by any number of keys and threads. Clones refer to the same card.
///
/// A program creates one context when it starts. The card is released when the last clone and the last registered key are
/// dropped.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use xdma_arkworks::{Context, ContextOptions};
///
/// # let card = xdma_emulated_card::start_like(xdma_emulated_card::emulator::CardFile::f1(), Default::default())?;
/// // let card = "0000:3b:00.0".parse::<CardName>()?.open(CardOptions::default())?;
/// let context = Context::open(&card, ContextOptions { crossover: Some(1000), ..ContextOptions::default() })?;
/// assert_eq!(context.crossover().min_pairs(), Some(1000));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    options: ContextOptions,
    card: Card,
    shared: Arc<SharedState>,
    /// `None` while the context is being dropped.
    requests: Option<Sender<Request>>,
    worker: Option<JoinHandle<()>>,
    crossover: OnceLock<Crossover>,
    max_pairs: usize,
    /// The process that opened the context. A forked child has no worker thread, and must leave the card alone.
    process: u32,
    stats: AtomicStats,
    observer: OnceLock<Observer>,
}

type Observer = Box<dyn Fn(&MsmReport) + Send + Sync>;

impl Context {
    /// Opens the MSM design of a card and starts the worker thread. Measures the crossover, unless the options set it.
    ///
    /// # Errors
    ///
    /// Returns a [`ContextError`] if the MSM design cannot be opened or used, the worker thread cannot be created, or the
    /// crossover cannot be measured.
    pub fn open(card: &Card, options: ContextOptions) -> Result<Self, ContextError> {
        let msm = Msm::open(card, options.msm)?;
        let design = msm.design();
        if design.stub || design.max_pairs < MIN_JOB_PAIRS {
            return Err(ContextError::Unusable { stub: design.stub, max_pairs: design.max_pairs });
        }
        let max_pairs = design.max_pairs as usize;
        let (sender, requests) = channel();
        let scalar_buffers = ScalarBufferPool::new(card.clone());
        let shared = Arc::new(SharedState {
            scalar_buffers,
            in_service: AtomicBool::new(true),
            closing: AtomicBool::new(false),
        });
        let worker = Worker::new(msm, shared.clone(), options.timeout_margin);
        let worker = thread::Builder::new().name("xdma-msm".into()).spawn(move || worker.run(&requests))?;
        let this = Self(Arc::new(Inner {
            options,
            card: card.clone(),
            shared,
            requests: Some(sender),
            worker: Some(worker),
            crossover: OnceLock::new(),
            max_pairs,
            process: process::id(),
            stats: AtomicStats::default(),
            observer: OnceLock::new(),
        }));
        let crossover = match options.crossover {
            Some(pairs) => Crossover::configured(pairs),
            None => crossover::measure(&this)?,
        };
        tracing::info!("{crossover}");
        let _ = this.0.crossover.set(crossover);
        Ok(this)
    }

    /// Returns the options.
    pub fn options(&self) -> &ContextOptions {
        &self.0.options
    }

    /// Returns the card.
    pub fn card(&self) -> &Card {
        &self.0.card
    }

    /// Returns the number of pairs from which MSMs run on the card, with the measured times.
    pub fn crossover(&self) -> &Crossover {
        self.0.crossover.get().unwrap_or(Crossover::UNMEASURED)
    }

    /// Returns whether the card is in service. It goes out of service after two consecutive failures, after two wrong results, or
    /// if it cannot be recovered. From then on, all MSMs run on the CPU.
    pub fn is_in_service(&self) -> bool {
        !self.0.is_forked() && self.0.shared.in_service.load(Ordering::Relaxed)
    }

    /// Returns the card to service. Call this after fixing the cause of its failures.
    ///
    /// # Errors
    ///
    /// Returns [`MsmError::Recover`] if the MSM client cannot recover the card, and [`MsmError::OutOfService`] if the worker
    /// thread has ended. If the card was removed or reset, open it again and create another context.
    pub fn resume(&self) -> Result<(), MsmError> {
        let (reply, resumed) = channel();
        self.send(Request::Resume(reply))?;
        resumed.recv().map_err(|_| MsmError::OutOfService)?
    }

    /// Returns the counts of MSMs over registered points since the context was opened.
    pub fn stats(&self) -> ContextStats {
        self.0.stats.read()
    }

    /// Returns the statistics of the H2C channel, which sends points and scalars: bytes, descriptors, doorbells.
    ///
    /// # Errors
    ///
    /// Returns [`MsmError::OutOfService`] if the worker thread has ended.
    pub fn h2c_stats(&self) -> Result<xdma::channel::Stats, MsmError> {
        let (reply, stats) = channel();
        self.send(Request::Stats(reply))?;
        stats.recv().map_err(|_| MsmError::OutOfService)
    }

    /// Sets a function that is called after each MSM over registered points, on the thread that requested the MSM. Only the first
    /// call of this method has an effect. A function that owns a clone of the context keeps the card open.
    ///
    /// Returns whether this was the first call.
    pub fn set_observer(&self, observer: impl Fn(&MsmReport) + Send + Sync + 'static) -> bool {
        self.0.observer.set(Box::new(observer)).is_ok()
    }

    pub(crate) fn send(&self, request: Request) -> Result<(), MsmError> {
        self.requests()?.send(request).map_err(|_| MsmError::OutOfService)
    }

    pub(crate) fn requests(&self) -> Result<&Sender<Request>, MsmError> {
        if self.0.is_forked() {
            return Err(MsmError::OutOfService);
        }
        self.0.requests.as_ref().ok_or(MsmError::OutOfService)
    }

    pub(crate) fn is_forked(&self) -> bool {
        self.0.is_forked()
    }

    pub(crate) fn scalar_buffers(&self) -> &ScalarBufferPool {
        &self.0.shared.scalar_buffers
    }

    /// Returns the maximum number of pairs of a job.
    pub(crate) fn max_pairs(&self) -> usize {
        self.0.max_pairs
    }

    /// Records a proof that was invalid because of a wrong result of the card.
    #[cfg(feature = "groth16")]
    pub(crate) fn record_invalid_proof(&self) {
        crate::stats::increment(&self.atomic_stats().invalid_proofs, 1);
        tracing::error!(
            "the card returned a wrong result; the proof was recomputed on the CPU; check the card with `xdma selftest`"
        );
        // If the worker has ended, every MSM already falls back to the CPU.
        let _ = self.send(Request::ReportWrongResult);
        assert!(self.options().on_error != OnError::Panic, "the card returned a wrong result for a proof");
    }

    pub(crate) fn atomic_stats(&self) -> &AtomicStats {
        &self.0.stats
    }

    pub(crate) fn record_msm(&self, msm: &MsmReport) {
        self.0.stats.count(msm);
        let MsmReport { bases, pairs, computed_on, time } = msm;
        tracing::debug!(bases, pairs, ?computed_on, ?time, "MSM");
        if let Some(observer) = self.0.observer.get() {
            observer(msm);
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Inner {
    fn is_forked(&self) -> bool {
        self.process != process::id()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        // The worker ends when all senders are dropped.
        self.requests = None;
        if self.is_forked() {
            // The thread and the memory are the parent's.
            std::mem::forget((self.worker.take(), self.shared.clone()));
        } else if let Some(worker) = self.worker.take() {
            // If the worker panicked, its thread has printed the panic, and callers have received `MsmError::OutOfService`.
            let _ = worker.join();
        }
    }
}
