//! What the caller's threads and the cards' threads share.

use crate::error::{CardFailure, PartError, SumError};
use crate::options::CardsOptions;
use crate::queues::{Control, Next, Part, Queue, Queues};
use crate::status::{CardState, CardStatus};
use crate::sum::{PartReport, SumState};
use ark_bn254::G1Projective;
use std::ops::Range;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The queues, behind a lock that is held only to move parts and counts.
pub(crate) struct Shared {
    queues: Mutex<Queues>,
    changed: Condvar,
    closing: AtomicBool,
    min_part: usize,
    /// The process that opened the cards. A forked child has no card threads, and must not use the cards.
    process: u32,
}

/// A part that a card has computed.
pub(crate) struct Computed {
    pub point: G1Projective,
    pub time: Duration,
    pub bytes_copied: u64,
}

impl Shared {
    pub fn new(names: &[Arc<str>], options: &CardsOptions) -> Self {
        // With a larger minimum, which keeps sums whole, the time of a part still depends on its size.
        let smallest = options.min_part.clamp(1, CardsOptions::default().min_part);
        let cards = names.iter().map(|name| Queue::new(Arc::clone(name), smallest)).collect();
        Self {
            queues: Mutex::new(Queues { cards, closing: false }),
            changed: Condvar::new(),
            closing: AtomicBool::new(false),
            min_part: options.min_part.max(1),
            process: process::id(),
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_forked(&self) -> bool {
        self.process != process::id()
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Reads or changes the entry of a card.
    pub fn with_card<R>(&self, card: usize, f: impl FnOnce(&mut Queue) -> R) -> R {
        f(&mut self.queues().cards[card])
    }

    pub fn status(&self) -> Vec<CardStatus> {
        if self.is_forked() {
            return vec![];
        }
        self.queues().cards.iter().map(Queue::status).collect()
    }

    /// Describes what the cards are doing, for the text of an error.
    pub fn describe(&self) -> String {
        let describe = |card: CardStatus| match card.state {
            CardState::InService => {
                format!(
                    "card {}: computes {} pairs, {} wait",
                    card.name, card.running_pairs, card.queued_pairs
                )
            }
            CardState::OutOfService { reason } => format!("card {}: out of service ({reason})", card.name),
        };
        self.status().into_iter().map(describe).collect::<Vec<_>>().join("; ")
    }

    /// Queues all pairs of a sum.
    pub fn start(&self, sum: &Arc<SumState>) -> Result<(), SumError> {
        if self.is_forked() || self.is_closing() {
            return Err(SumError::Closed);
        }
        self.assign(Part { sum: Arc::clone(sum), pairs: 0..sum.scalar_range.len(), tried: vec![] });
        Ok(())
    }

    /// Queues a part. If no card is left for it, its sum ends without a result.
    fn assign(&self, part: Part) {
        let assigned = self.queues().assign(part, self.min_part);
        match assigned {
            Ok(()) => self.changed.notify_all(),
            Err(part) if self.is_closing() => part.sum.fail_closed(),
            Err(part) => part.sum.fail_without_card(part.pairs.len()),
        }
    }

    /// Sends a request to the thread of a card. Returns whether there is such a thread.
    pub fn control(&self, card: usize, control: Control) -> bool {
        if self.is_forked() || self.is_closing() {
            return false;
        }
        self.with_card(card, |queue| queue.control(control));
        self.changed.notify_all();
        true
    }

    /// Sends a request to the thread of each card. Returns whether there are such threads.
    pub fn control_all(&self, mut control: impl FnMut(usize) -> Control) -> bool {
        if self.is_forked() || self.is_closing() {
            return false;
        }
        for (index, card) in self.queues().cards.iter_mut().enumerate() {
            card.control(control(index));
        }
        self.changed.notify_all();
        true
    }

    /// Returns the next action of a card, if there is one.
    pub fn try_next(&self, card: usize) -> Option<Next> {
        self.queues().next(card)
    }

    /// Returns the part that a card will probably compute next.
    pub fn peek(&self, card: usize) -> Option<(Arc<SumState>, Range<usize>)> {
        self.queues().peek(card).map(|(sum, pairs)| (Arc::clone(sum), pairs))
    }

    /// Waits for the next action of a card.
    pub fn next(&self, card: usize) -> Next {
        let mut queues = self.queues();
        loop {
            if let Some(next) = queues.next(card) {
                return next;
            }
            // This wait needs no deadline: it is not a wait for the card. The thread sleeps until it gets work or the cards are
            // closed.
            queues = self.changed.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Records the result of a part.
    pub fn finish(&self, card: usize, part: Part, computed: Computed) {
        let Computed { point, time, bytes_copied } = computed;
        let name = self.with_card(card, |queue| {
            queue.finish(time, bytes_copied);
            Arc::clone(&queue.status.name)
        });
        let pairs = part.pairs.len();
        part.sum.add(&point, PartReport { card: Arc::clone(&name), pairs: part.pairs, time });
        log(|| tracing::debug!(card = %name, pairs, ?time, "part"));
    }

    /// Records that a card failed to compute a part, and gives the part to others.
    pub fn fail(&self, card: usize, mut part: Part, error: &Arc<PartError>) {
        if matches!(**error, PartError::Unwanted) {
            self.with_card(card, Queue::abandon);
            if self.is_closing() {
                part.sum.fail_closed();
            }
            return;
        }
        let name = self.with_card(card, |queue| {
            queue.fail(error);
            Arc::clone(&queue.status.name)
        });
        let pairs = part.pairs.len();
        part.sum.record_failure(CardFailure { card: Arc::clone(&name), pairs, error: Arc::clone(error) });
        part.tried.push(card);
        self.assign(part);
        log(|| {
            tracing::warn!(card = %name, pairs, %error, "the card failed to compute a part of a sum; other cards compute it");
        });
    }

    /// Takes a card out of service, and gives the parts that waited for it to others.
    pub fn take_out(&self, card: usize, reason: &str) {
        let (name, was_in_service, parts) = {
            let mut queues = self.queues();
            let status = &queues.cards[card].status;
            let (name, was_in_service) = (Arc::clone(&status.name), status.is_in_service());
            (name, was_in_service, queues.take_out(card, reason.into()))
        };
        for part in parts {
            self.assign(part);
        }
        if was_in_service {
            log(|| {
                tracing::warn!(card = %name, reason, "the card is out of service until it is readmitted");
            });
        }
    }

    /// Records that the thread of a card has ended.
    pub fn end(&self, card: usize) {
        drop(self.with_card(card, Queue::end));
        if !self.is_closing() {
            self.take_out(card, &PartError::ThreadEnded.to_string());
        }
    }

    /// Returns a card to service, or puts it into service for the first time.
    pub fn put_in_service(&self, card: usize, max_pairs: usize) {
        self.with_card(card, |queue| {
            queue.max_pairs = max_pairs;
            queue.status.state = CardState::InService;
        });
    }

    /// Ends all sums and all card threads.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        let (parts, controls) = {
            let mut queues = self.queues();
            queues.closing = true;
            let controls: Vec<_> = queues.cards.iter_mut().map(Queue::end).collect();
            (queues.drain(), controls)
        };
        drop(controls);
        self.changed.notify_all();
        parts.iter().for_each(|part| part.sum.fail_closed());
    }
}

/// Logs an event, after the work that it reports. A subscriber can panic: that of `tracing_subscriber::fmt` does if it writes to a
/// pipe that was closed. No part is lost then. While the thread unwinds, nothing is logged, since a second panic ends the process.
fn log(event: impl FnOnce()) {
    if !thread::panicking() {
        event();
    }
}
