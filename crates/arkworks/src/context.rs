//! The context: cards that compute MSMs, and what happens when they fail.

use crate::crossover::{self, Crossover};
use crate::error::{ContextError, MsmError};
use crate::stats::{AtomicStats, ContextStats, MsmReport};
use std::fmt;
use std::process;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use xdma::card::Card;
use xdma::msm::MsmOptions;
use xdma_cards::{CardSource, CardState, Cards, CardsOptions};

/// A card goes out of service after this many consecutive failures, each of which can last as long as a timeout, or after this many
/// wrong results.
const MAX_FAILURES: u32 = 2;
/// Time limit for returning a card to service.
const RESUME_LIMIT: Duration = Duration::from_secs(60);

/// What happens when the cards fail to compute an MSM, or when a [check](ContextOptions::check_msms) finds its result wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnError {
    /// The CPU computes the MSM, and a warning is logged.
    #[default]
    FallBackToCpu,
    /// The call panics, for programs in which a slow fallback must not go unnoticed: also while all cards are out of service, and
    /// if a proof is invalid because of a card.
    Panic,
}

/// Options of a [`Context`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextOptions {
    /// MSMs with fewer pairs run on the CPU. With `None`, opening the context measures from how many pairs the card is faster
    /// ([`Context::crossover`]), which takes up to a few seconds.
    pub crossover: Option<usize>,
    /// What happens when the cards fail to compute an MSM.
    pub on_error: OnError,
    /// Whether each MSM on the card is checked by a second MSM on the card, over tags of the points. A wrong result then goes
    /// undetected with a probability of at most 2^-128, whatever the card does. Another card computes the MSM again, or the CPU
    /// if there is none. The check doubles the work of the card and the DMA memory for points; the CPU computes an inner product
    /// of the scalars, which costs about 0.5 % of the MSM on the CPU.
    /// Registering a key then takes about 2 s for each 2^16 points. Proofs do not need this check:
    /// [`OnCard::prove`](crate::OnCard::prove) verifies them. It also takes 96 bytes of host memory for each point: its tag, and a
    /// secret scalar.
    pub check_msms: bool,
    /// Whether [`OnCard::prove`](crate::OnCard::prove) verifies each proof. It takes about 0.7 ms.
    pub verify_proofs: bool,
    /// An MSM is divided over several cards only if each part has at least this many pairs ([`CardsOptions::min_part`]).
    pub min_part: usize,
    /// An MSM times out after 16 times its expected duration, estimated from earlier MSMs
    /// ([`TimeoutEstimator`](xdma::msm::TimeoutEstimator)), plus this margin.
    pub timeout_margin: Duration,
    /// Options of each card's MSM client.
    pub msm: MsmOptions,
}

impl Default for ContextOptions {
    fn default() -> Self {
        Self {
            crossover: None,
            on_error: OnError::FallBackToCpu,
            check_msms: false,
            verify_proofs: true,
            min_part: CardsOptions::default().min_part,
            timeout_margin: Duration::from_secs(10),
            msm: MsmOptions::default(),
        }
    }
}

impl ContextOptions {
    fn cards(&self) -> CardsOptions {
        CardsOptions {
            min_part: self.min_part,
            max_failures: MAX_FAILURES,
            check: self.check_msms,
            timeout_margin: self.timeout_margin,
            msm: self.msm,
            ..CardsOptions::default()
        }
    }
}

/// Cards that compute MSMs, shared by any number of keys and threads. Clones refer to the same cards.
///
/// A program creates one context when it starts. The cards are closed when the last clone and the last registered key are dropped.
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
    cards: Cards,
    crossover: OnceLock<Crossover>,
    /// The process that opened the context. A forked child must leave the cards alone.
    process: u32,
    stats: AtomicStats,
    observer: OnceLock<Observer>,
}

type Observer = Box<dyn Fn(&MsmReport) + Send + Sync>;

impl Context {
    /// Opens a context with one card. Measures the crossover, unless the options set it. To open the card again after a failure,
    /// or for several cards, use [`open_cards`](Self::open_cards).
    ///
    /// # Errors
    ///
    /// Returns a [`ContextError`] if the MSM design cannot be opened or used, a thread cannot be created, or the crossover cannot be
    /// measured.
    pub fn open(card: &Card, options: ContextOptions) -> Result<Self, ContextError> {
        let name = card.report().map_or_else(|_| "card".into(), |report| report.bus.location);
        Self::open_cards([CardSource::opened(name, card.clone())], options)
    }

    /// Opens a context with several cards ([`Cards`]). A large MSM is divided over them; small ones run on different cards at the
    /// same time.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_cards(
        cards: impl IntoIterator<Item = CardSource>,
        options: ContextOptions,
    ) -> Result<Self, ContextError> {
        let this = Self(Arc::new(Inner {
            options,
            cards: Cards::open(cards, options.cards())?,
            crossover: OnceLock::new(),
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

    /// Returns the cards, for their status and statistics.
    pub fn cards(&self) -> &Cards {
        &self.0.cards
    }

    /// Returns the number of pairs from which MSMs run on the card, with the measured times.
    pub fn crossover(&self) -> &Crossover {
        self.0.crossover.get().unwrap_or(Crossover::UNMEASURED)
    }

    /// Returns whether a card is in service. A card goes out of service after two consecutive failures, after two wrong results, or
    /// if it cannot be recovered. The others compute its MSMs; if there is none, the CPU does.
    pub fn is_in_service(&self) -> bool {
        self.0.cards.in_service() > 0
    }

    /// Returns all cards to service. Call this after fixing the cause of their failures.
    ///
    /// # Errors
    ///
    /// Returns [`MsmError::Readmit`] with the first card that could not be returned to service, after trying all; and
    /// [`MsmError::OutOfService`] in a forked child. If a context was opened with an open card that was removed or reset, open
    /// the card again and create another context.
    pub fn resume(&self) -> Result<(), MsmError> {
        if self.0.is_forked() {
            return Err(MsmError::OutOfService);
        }
        let cards = self.0.cards.status().into_iter().enumerate();
        let out = cards.filter(|(_, card)| matches!(card.state, CardState::OutOfService { .. }));
        let results: Vec<_> = out.map(|(card, _)| self.0.cards.readmit(card, RESUME_LIMIT)).collect();
        Ok(results.into_iter().collect::<Result<(), _>>()?)
    }

    /// Returns the counts of MSMs over registered points since the context was opened.
    pub fn stats(&self) -> ContextStats {
        let cards = self.0.cards.status();
        ContextStats { bytes_copied: cards.iter().map(|card| card.bytes_copied).sum(), ..self.0.stats.read() }
    }

    /// Sets a function that is called after each MSM over registered points, on the thread that requested the MSM. Only the first
    /// call of this method has an effect. A function that owns a clone of the context keeps the cards open.
    ///
    /// Returns whether this was the first call.
    pub fn set_observer(&self, observer: impl Fn(&MsmReport) + Send + Sync + 'static) -> bool {
        self.0.observer.set(Box::new(observer)).is_ok()
    }

    /// Records a proof that was invalid because of a wrong result. Which card computed it is known only if MSMs are checked, so it
    /// counts against all.
    #[cfg(feature = "groth16")]
    pub(crate) fn record_invalid_proof(&self) {
        crate::stats::increment(&self.atomic_stats().invalid_proofs, 1);
        tracing::error!(
            "a card returned a wrong result; the proof was recomputed on the CPU; check the cards with `xdma selftest`, or find the \
             card with `ContextOptions::check_msms`"
        );
        for card in 0..self.0.cards.status().len() {
            // A card whose thread has ended is out of service already.
            let _ = self.0.cards.report_wrong_result(card);
        }
        assert!(self.options().on_error != OnError::Panic, "a card returned a wrong result for a proof");
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
