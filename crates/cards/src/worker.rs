//! The thread of a card. It owns everything that belongs to the card, so callers need no lock on the card, and the card stays
//! busy while callers compute.

use crate::bases::BasesData;
use crate::computer::{Computer, Inputs};
use crate::error::{MemberError, PartError};
use crate::numa;
use crate::options::CardsOptions;
use crate::queues::{Control, Next, Part, ReadmitFailure};
use crate::shared::{Computed, Shared};
use crate::source::CardSource;
use crate::sum::SumState;
use ark_bn254::G1Projective;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};
use std::time::Instant;
use xdma::Remedy;
use xdma::msm::DataError;

pub(crate) struct Worker {
    index: usize,
    source: CardSource,
    options: CardsOptions,
    shared: Arc<Shared>,
    /// `None` if the card could not be opened.
    computer: Option<Computer>,
    /// All registered points, from which a reopened card gets its copies.
    bases: HashMap<u64, Weak<BasesData>>,
    /// What was prepared for the next part while the card computed.
    ahead: Option<Ahead>,
    /// Failures since the latest result.
    failures: u32,
    /// Wrong results since the card was last put into service.
    wrong_results: u32,
}

impl Worker {
    pub fn new(index: usize, source: CardSource, options: CardsOptions, shared: Arc<Shared>) -> Self {
        let bases = HashMap::new();
        Self {
            index,
            source,
            options,
            shared,
            computer: None,
            bases,
            ahead: None,
            failures: 0,
            wrong_results: 0,
        }
    }

    /// Opens the card, reports whether that succeeded, and runs until the cards are closed.
    pub fn run(mut self, opened: Sender<(usize, Result<(), MemberError>)>) {
        let shared = Arc::clone(&self.shared);
        let _ending = Ending { shared: &shared, card: self.index };
        let result = self.open();
        match &result {
            Ok(()) => self.put_in_service(),
            Err(error) => self.shared.take_out(self.index, &error.to_string()),
        }
        // Sending fails if another card failed to open and the caller has stopped waiting.
        let _ = opened.send((self.index, result));
        // The caller waits until all senders are dropped.
        drop(opened);
        loop {
            let next = self.shared.try_next(self.index).unwrap_or_else(|| {
                // The queue is empty, so another card took the part that was prepared.
                self.release_ahead();
                self.shared.next(self.index)
            });
            match next {
                Next::Close => break,
                Next::Control(control) => self.control(control),
                Next::Part(part) => self.compute(part),
            }
        }
    }

    fn open(&mut self) -> Result<(), MemberError> {
        let card = self.source.open().map_err(MemberError::Open)?;
        self.pin(&card);
        self.computer = Some(Computer::open(&card, &self.options)?);
        self.load_missing()
    }

    /// Pins this thread to the processors of the card's NUMA node. A failure affects only the speed, so it is logged and ignored.
    fn pin(&self, card: &xdma::card::Card) {
        let node = card.report().ok().and_then(|report| report.bus.node);
        let Some(node) = node.filter(|_| self.options.pin) else { return };
        match numa::pin_to_node(node) {
            Ok(pinned) => {
                self.shared.with_card(self.index, |queue| queue.status.pinned_to = pinned.then_some(node));
            }
            Err(error) => {
                tracing::warn!(card = %self.source.name, node, %error, "cannot pin the card's thread to its NUMA node");
            }
        }
    }

    fn put_in_service(&mut self) {
        let max_pairs = self.computer.as_ref().map_or(0, Computer::max_pairs);
        (self.failures, self.wrong_results) = (0, 0);
        self.shared.put_in_service(self.index, max_pairs);
    }

    fn control(&mut self, control: Control) {
        // Sending a reply fails if the caller has stopped waiting.
        match control {
            Control::Load(bases, reply) => drop(reply.send(self.load(&bases))),
            Control::Unload(bases) => {
                self.bases.remove(&bases);
                if self.ahead.as_ref().is_some_and(|ahead| ahead.inputs.bases == bases) {
                    self.release_ahead();
                }
                if let Some(computer) = &mut self.computer {
                    computer.unload(bases);
                }
            }
            Control::ReportWrongResult => {
                self.wrong_results += 1;
                self.shared.with_card(self.index, |queue| queue.status.wrong_results += 1);
                if self.wrong_results >= self.options.max_failures.max(1) {
                    self.shared.take_out(self.index, &format!("{} results were wrong", self.wrong_results));
                }
            }
            Control::Readmit(reply) => drop(reply.send(self.readmit())),
            Control::Stats(reply) => {
                if let Some(computer) = &mut self.computer {
                    let _ = reply.send(computer.stats());
                }
            }
        }
    }

    /// Copies points to the card. A card that is out of service gets them when it is readmitted.
    fn load(&mut self, bases: &Arc<BasesData>) -> Result<(), DataError> {
        self.bases.insert(bases.id, Arc::downgrade(bases));
        let is_in_service = self.shared.with_card(self.index, |queue| queue.status.is_in_service());
        match &mut self.computer {
            Some(computer) if is_in_service => computer.load(bases),
            _ => Ok(()),
        }
    }

    fn compute(&mut self, part: Part) {
        let (shared, begin) = (Arc::clone(&self.shared), Instant::now());
        let mut claim = Claim { shared: &shared, card: self.index, part: Some(part) };
        let Some(part) = &claim.part else { return };
        match self.compute_part(part) {
            Ok((point, bytes_copied)) => {
                self.failures = 0;
                let Some(part) = claim.part.take() else { return };
                self.shared.finish(self.index, part, Computed { point, time: begin.elapsed(), bytes_copied });
            }
            Err(error) => self.handle_failure(claim, &Arc::new(error)),
        }
    }

    /// Returns the result of a part, and the number of bytes of scalars that were copied. Prepares the next part while the card
    /// computes.
    fn compute_part(&mut self, part: &Part) -> Result<(G1Projective, u64), PartError> {
        let is_unwanted = || part.sum.is_unwanted() || self.shared.is_closing();
        if is_unwanted() {
            return Err(PartError::Unwanted);
        }
        let computer = self.computer.as_mut().ok_or(PartError::NoPoints)?;
        let inputs = match self.ahead.take() {
            Some(ahead) if ahead.is_for(part) => ahead.inputs,
            other => {
                other.into_iter().for_each(|ahead| computer.release(ahead.inputs));
                computer.prepare(&part.sum, &part.pairs)?
            }
        };
        let (shared, index, ahead) = (&self.shared, self.index, &mut self.ahead);
        computer.compute(part, inputs, &is_unwanted, |computer, current| {
            let Some((sum, pairs)) = shared.peek(index) else { return };
            // Parts with the same scalars share a buffer, so the next part is prepared after this one.
            if sum.is_unwanted() || current.has_scalars(&sum, &pairs) {
                return;
            }
            // An error can be ignored here: preparing the part fails again when it is its turn.
            *ahead = computer.prepare(&sum, &pairs).ok().map(|inputs| {
                let sum = Arc::downgrade(&sum);
                Ahead { sum, pairs, inputs }
            });
        })
    }

    fn release_ahead(&mut self) {
        if let (Some(ahead), Some(computer)) = (self.ahead.take(), &mut self.computer) {
            computer.release(ahead.inputs);
        }
    }

    /// Gives a part to other cards, and recovers this one or takes it out of service.
    fn handle_failure(&mut self, claim: Claim<'_>, error: &Arc<PartError>) {
        if error.spares_the_card() {
            claim.fail(error);
            if self.computer.as_ref().is_some_and(Computer::is_busy) {
                // Removes the abandoned job from the card. This is not a failure of the card.
                self.recover();
            }
            return;
        }
        let is_gone = error.remedy() == Remedy::Reopen;
        match error.is_wrong_result() {
            true => self.wrong_results += 1,
            false => self.failures += 1,
        }
        if is_gone || self.failures.max(self.wrong_results) >= self.options.max_failures.max(1) {
            self.shared.take_out(self.index, &error.to_string());
        }
        // Reassign the part before the recovery, so that other cards do not wait for this one.
        claim.fail(error);
        if !is_gone && !error.is_wrong_result() {
            self.recover();
        }
    }

    fn recover(&mut self) {
        if let Some(Err(error)) = self.computer.as_mut().map(Computer::recover) {
            self.shared.take_out(self.index, &error.to_string());
        }
    }

    /// Recovers the card, or opens it again if that fails. In both cases, it must pass a test before it is put into service.
    fn readmit(&mut self) -> Result<(), ReadmitFailure> {
        if self.shared.with_card(self.index, |queue| queue.status.is_in_service()) {
            return Ok(());
        }
        if let Err(error) = self.recover_and_test() {
            let failure = |source, is_openable| ReadmitFailure { source, is_openable };
            match error {
                Some(source) if !self.source.is_openable() => return Err(failure(source, false)),
                _ => {}
            }
            // All handles to the card are closed before it is opened again.
            (self.ahead, self.computer) = (None, None);
            let tested = self.open().and_then(|()| self.test());
            tested.map_err(|source| failure(source, self.source.is_openable()))?;
        }
        self.shared.with_card(self.index, |queue| queue.status.readmissions += 1);
        self.put_in_service();
        tracing::info!(card = %self.source.name, "the card is in service again");
        Ok(())
    }

    /// Returns `Err(None)` if the card is not open.
    fn recover_and_test(&mut self) -> Result<(), Option<MemberError>> {
        let computer = self.computer.as_mut().ok_or(None)?;
        computer.restart().map_err(Some)?;
        self.load_missing().and_then(|()| self.test()).map_err(Some)
    }

    /// Copies the points that were registered while the card was out of service.
    fn load_missing(&mut self) -> Result<(), MemberError> {
        self.bases.retain(|_, bases| bases.strong_count() > 0);
        let Some(computer) = &mut self.computer else { return Ok(()) };
        for bases in self.bases.values().filter_map(Weak::upgrade) {
            if !computer.has(bases.id) {
                computer.load(&bases)?;
            }
        }
        Ok(())
    }

    fn test(&mut self) -> Result<(), MemberError> {
        let Some(computer) = &mut self.computer else { return Ok(()) };
        computer.test().map_err(MemberError::Test)
    }
}

/// A part that was prepared while the card computed another one.
struct Ahead {
    /// A weak reference, so that the sum's scalars are not kept in memory.
    sum: Weak<SumState>,
    pairs: Range<usize>,
    inputs: Inputs,
}

impl Ahead {
    fn is_for(&self, part: &Part) -> bool {
        std::ptr::eq(self.sum.as_ptr(), Arc::as_ptr(&part.sum)) && self.pairs == part.pairs
    }
}

/// A part that a card is computing. If the thread panics, other cards get the part, and this card is taken out of service.
struct Claim<'a> {
    shared: &'a Shared,
    card: usize,
    part: Option<Part>,
}

impl Claim<'_> {
    /// Gives the part to other cards.
    fn fail(mut self, error: &Arc<PartError>) {
        if let Some(part) = self.part.take() {
            self.shared.fail(self.card, part, error);
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(part) = self.part.take() {
            self.shared.fail(self.card, part, &Arc::new(PartError::ThreadEnded));
        }
    }
}

/// Marks the end of a thread, even by a panic, so that no caller waits for it.
struct Ending<'a> {
    shared: &'a Shared,
    card: usize,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.shared.end(self.card);
    }
}
