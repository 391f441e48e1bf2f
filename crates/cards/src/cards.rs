//! Several cards behind the interface of one.

use crate::bases::{Bases, PointSource};
use crate::error::{CardsError, MemberError, ReadmitError, RegisterError, SumError};
use crate::options::CardsOptions;
use crate::queues::Control;
use crate::scalars::Scalars;
use crate::shared::Shared;
use crate::source::CardSource;
use crate::status::CardStatus;
use crate::sum::{PendingSum, Sum, SumState};
use crate::tags::Tags;
use crate::worker::Worker;
use ark_std::rand::rngs::OsRng;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use xdma::channel::Stats;
use xdma::msm::curve::CurveError;

/// Several cards as one engine. All methods can be called from any number of threads.
///
/// Each card has a thread, which owns its MSM client. Dropping `Cards` ends all sums with [`SumError::Closed`] and closes the
/// cards.
///
/// ```
/// use ark_bn254::{Fr, G1Affine};
/// use ark_ec::AffineRepr;
/// use std::time::Duration;
/// use xdma::card::CardOptions;
/// use xdma_cards::{CardSource, Cards, CardsOptions, Scalars};
/// use xdma_emulated_card::{emulator::CardFile, start_like};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Real cards: CardSource::named("0000:3b:00.0".parse()?, CardOptions::default())
/// let source = |name| CardSource::with(name, || start_like(CardFile::f1(), CardOptions::default()));
/// let cards = Cards::open([source("a"), source("b")], CardsOptions::default())?;
/// let bases = cards.register(vec![G1Affine::generator(); 100])?; // once
/// let scalars = Scalars::from_fr(vec![Fr::from(2); 100]);
/// let sum = cards.sum(&bases, &scalars, Duration::from_secs(10))?;
/// assert_eq!(sum.point, G1Affine::generator() * Fr::from(200));
/// # Ok(())
/// # }
/// ```
pub struct Cards {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    options: CardsOptions,
}

impl Cards {
    /// Opens all cards, each on its own thread.
    ///
    /// # Errors
    ///
    /// Returns a [`CardsError`] if there is no card, or if a card cannot be opened or used. With
    /// [`require_all`](CardsOptions::require_all) false, this fails only if no card can be used.
    pub fn open(
        sources: impl IntoIterator<Item = CardSource>,
        options: CardsOptions,
    ) -> Result<Self, CardsError> {
        let sources: Vec<_> = sources.into_iter().collect();
        let names: Vec<_> = sources.iter().map(|source| Arc::clone(&source.name)).collect();
        let shared = Arc::new(Shared::new(&names, &options));
        let (sender, opened) = channel();
        // An error below drops this, which closes the cards that are already open.
        let mut this = Self { shared, threads: vec![], options };
        for (index, source) in sources.into_iter().enumerate() {
            let worker = Worker::new(index, source, options, Arc::clone(&this.shared));
            let sender = sender.clone();
            let thread = thread::Builder::new().name(format!("xdma-card-{index}"));
            let thread = thread.spawn(move || worker.run(sender));
            this.threads.push(
                thread
                    .map_err(|error| CardsError::Card { card: names[index].clone(), source: error.into() })?,
            );
        }
        drop(sender);
        // A thread that panics sends nothing.
        let mut results: Vec<_> = names.iter().map(|_| Err(MemberError::ThreadEnded)).collect();
        // Opening a card is bounded by its own deadlines.
        opened.into_iter().for_each(|(index, result)| results[index] = result);
        let is_any_open = results.iter().any(Result::is_ok);
        let failed = results.into_iter().zip(names).filter_map(|(result, name)| Some((name, result.err()?)));
        for (card, source) in failed {
            if options.require_all || !is_any_open {
                return Err(CardsError::Card { card, source });
            }
            tracing::warn!(%card, error = %source, "the card cannot be used; the others are used without it");
        }
        if is_any_open { Ok(this) } else { Err(CardsError::NoCards) }
    }

    /// Returns the options.
    pub fn options(&self) -> &CardsOptions {
        &self.options
    }

    /// Copies points to the memory of every card, 64 bytes each, or twice that with the [check](CardsOptions::check). Every
    /// card gets all points, so that it can compute any part. Cards that are out of service get them when they are readmitted;
    /// `points` is kept for that purpose.
    ///
    /// # Errors
    ///
    /// Returns a [`RegisterError`] if a point is not on the curve, or if a card in service has no memory for them.
    pub fn register(&self, points: impl PointSource) -> Result<Bases, RegisterError> {
        let (mut len, mut tags, mut invalid) = (0, None, None);
        points.read(&mut |points| {
            len = points.len();
            // With an invalid point, a correct card would return wrong results.
            invalid = points.iter().position(|point| !point.is_on_curve());
            tags = (self.options.check && invalid.is_none()).then(|| Tags::new(points, &mut OsRng));
        });
        if let Some(index) = invalid {
            return Err(CurveError::NotOnCurve { index }.into());
        }
        let bases = Bases::new(Box::new(points), len, tags, Arc::clone(&self.shared));
        let mut loads = vec![];
        let sent = self.shared.control_all(|_| {
            let (reply, loaded) = channel();
            loads.push(loaded);
            Control::Load(Arc::clone(bases.data()), reply)
        });
        if !sent {
            return Err(RegisterError::Closed);
        }
        // Each thread computes at most one part first, which its deadline bounds.
        let results = loads.into_iter().enumerate().map(|(index, loaded)| (index, loaded.recv()));
        for (index, result) in results.collect::<Vec<_>>() {
            // Without a reply, the thread of the card has ended, so the card is out of service.
            if let Ok(Err(source)) = result {
                return Err(RegisterError::Card { card: self.name(index), source });
            }
        }
        Ok(bases)
    }

    /// Computes a sum over all points of `bases`, and waits for the result for at most `limit`.
    ///
    /// # Errors
    ///
    /// Returns a [`SumError`] if the numbers of points and scalars differ, if no card is left, or at the deadline. The sum is
    /// then abandoned.
    pub fn sum(&self, bases: &Bases, scalars: &Scalars, limit: Duration) -> Result<Sum, SumError> {
        if bases.len() != scalars.len() {
            return Err(SumError::Counts { points: bases.len(), scalars: scalars.len() });
        }
        self.submit(bases, 0, scalars, 0..scalars.len())?.wait(limit)
    }

    /// Starts a sum over a range of scalars and the same number of points, starting at index `first`. Does not wait for the
    /// result.
    ///
    /// # Errors
    ///
    /// Returns [`SumError::OutOfRange`], [`SumError::ForeignBases`] or [`SumError::Closed`]. Failures of cards are returned by
    /// [`PendingSum::wait`].
    pub fn submit(
        &self,
        bases: &Bases,
        first: usize,
        scalars: &Scalars,
        range: Range<usize>,
    ) -> Result<PendingSum, SumError> {
        if !bases.belong_to(&self.shared) {
            return Err(SumError::ForeignBases);
        }
        let is_inside = range.start <= range.end
            && range.end <= scalars.len()
            && first.checked_add(range.len()).is_some_and(|end| end <= bases.len());
        if !is_inside {
            return Err(SumError::OutOfRange {
                first,
                first_scalar: range.start,
                pairs: range.len(),
                points: bases.len(),
                scalars: scalars.len(),
            });
        }
        let is_empty = range.is_empty();
        let state = SumState::new(Arc::clone(bases.data()), first, scalars.clone(), range);
        if !is_empty {
            self.shared.start(&state)?;
        }
        Ok(PendingSum::new(state, Arc::clone(&self.shared), bases.clone()))
    }

    /// Returns the status of each card, in the order in which the cards were opened.
    pub fn status(&self) -> Vec<CardStatus> {
        self.shared.status()
    }

    /// Returns the number of cards in service.
    pub fn in_service(&self) -> usize {
        self.status().iter().filter(|card| card.is_in_service()).count()
    }

    /// Returns a card to service after the cause of its failure was fixed. The card is recovered. If that fails, it is opened
    /// again and gets its copies of all registered points. It must then compute a small test sum correctly. Does nothing if the
    /// card is in service. Waits for at most `limit`.
    ///
    /// # Errors
    ///
    /// Returns a [`ReadmitError`], and the card stays out of service.
    pub fn readmit(&self, card: usize, limit: Duration) -> Result<(), ReadmitError> {
        let (reply, readmitted) = channel();
        self.send(card, Control::Readmit(reply))?;
        let name = self.name(card);
        match readmitted.recv_timeout(limit) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(match failure.is_openable {
                true => ReadmitError::Card { card: name, source: failure.source },
                false => ReadmitError::NotReopenable { card: name, source: failure.source },
            }),
            Err(RecvTimeoutError::Timeout) => Err(ReadmitError::Deadline { card: name, waited: limit }),
            Err(RecvTimeoutError::Disconnected) => {
                Err(ReadmitError::Card { card: name, source: MemberError::ThreadEnded })
            }
        }
    }

    /// Reports that the caller found a result of this card to be wrong, for example because a proof is invalid. After
    /// [`max_failures`](CardsOptions::max_failures) wrong results, the card is taken out of service.
    ///
    /// # Errors
    ///
    /// Returns [`ReadmitError::NoSuchCard`] or [`ReadmitError::Closed`].
    pub fn report_wrong_result(&self, card: usize) -> Result<(), ReadmitError> {
        self.send(card, Control::ReportWrongResult)
    }

    /// Returns the statistics of a card's H2C channel, which sends points and scalars, or `None` if the card is not open.
    pub fn h2c_stats(&self, card: usize) -> Option<Stats> {
        let (reply, stats) = channel();
        self.send(card, Control::Stats(reply)).ok()?;
        // The thread computes at most one part first, which its deadline bounds.
        stats.recv().ok()
    }

    fn send(&self, card: usize, control: Control) -> Result<(), ReadmitError> {
        let cards = self.threads.len();
        if card >= cards {
            return Err(ReadmitError::NoSuchCard { index: card, cards });
        }
        match self.shared.control(card, control) {
            true => Ok(()),
            false => Err(ReadmitError::Closed),
        }
    }

    fn name(&self, card: usize) -> Arc<str> {
        self.shared.with_card(card, |queue| Arc::clone(&queue.status.name))
    }
}

impl fmt::Debug for Cards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cards").field("options", &self.options).field("cards", &self.status()).finish()
    }
}

impl Drop for Cards {
    fn drop(&mut self) {
        let threads = std::mem::take(&mut self.threads);
        if self.shared.is_forked() {
            // The threads belong to the parent process, so they cannot be joined here.
            return std::mem::forget(threads);
        }
        self.shared.close();
        // A point source can own the cards, and may be dropped by the thread of a card, which then ends by itself.
        let this = thread::current().id();
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != this) {
            // A panic has already been printed, and the card was taken out of service.
            let _ = thread.join();
        }
    }
}
