//! The queues of the cards, which decide what each card computes next.

use crate::bases::BasesData;
use crate::error::{MemberError, PartError};
use crate::split::{Candidate, split};
use crate::status::{CardState, CardStatus};
use crate::sum::SumState;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use xdma::channel::Stats;
use xdma::msm::DataError;

/// Weight of earlier parts in the measured speed, each time a part ends.
const DECAY: f64 = 0.75;

/// A part of a sum.
#[derive(Debug)]
pub(crate) struct Part {
    pub sum: Arc<SumState>,
    /// The pairs, counted from the sum's first pair.
    pub pairs: Range<usize>,
    /// The cards that failed to compute it. They do not get it again.
    pub tried: Vec<usize>,
}

/// A request to the thread of a card. It precedes all parts.
pub(crate) enum Control {
    /// Copies points to the card's memory.
    Load(Arc<BasesData>, Sender<Result<(), DataError>>),
    /// Frees the points with this identity.
    Unload(u64),
    /// Recovers or reopens the card, and returns it to service.
    Readmit(Sender<Result<(), ReadmitFailure>>),
    /// Reports that a result of the card was wrong.
    ReportWrongResult,
    /// Requests the statistics of the H2C channel.
    Stats(Sender<Stats>),
}

/// Why a card was not readmitted, and whether it can be opened again.
pub(crate) struct ReadmitFailure {
    pub source: MemberError,
    pub is_openable: bool,
}

/// The next action of a card's thread.
pub(crate) enum Next {
    Close,
    Control(Control),
    Part(Part),
}

/// A card's queue and its status.
pub(crate) struct Queue {
    pub status: CardStatus,
    /// Maximum number of pairs of a job.
    pub max_pairs: usize,
    /// A smaller part counts as one of this many pairs: its time is mostly that of the design's reduction. Otherwise, a card that
    /// computed a small part would seem so slow that it would get no part of large sums any more.
    smallest: usize,
    parts: VecDeque<Part>,
    controls: VecDeque<Control>,
    /// Whether its thread has ended.
    ended: bool,
    running: usize,
    /// Pairs and seconds of its parts, decayed.
    measured: (f64, f64),
}

impl Queue {
    pub fn new(name: Arc<str>, smallest: usize) -> Self {
        let status = CardStatus {
            name,
            state: CardState::OutOfService { reason: "the card is being opened".into() },
            pinned_to: None,
            parts: 0,
            pairs: 0,
            failures: 0,
            wrong_results: 0,
            readmissions: 0,
            speed: None,
            running_pairs: 0,
            queued_pairs: 0,
            bytes_copied: 0,
            last_error: None,
        };
        let (parts, controls) = (VecDeque::new(), VecDeque::new());
        let (ended, running, measured) = (false, 0, (0.0, 0.0));
        Self { status, max_pairs: 0, smallest, parts, controls, ended, running, measured }
    }

    pub fn status(&self) -> CardStatus {
        let queued = self.queued() as u64;
        CardStatus { running_pairs: self.running as u64, queued_pairs: queued, ..self.status.clone() }
    }

    fn queued(&self) -> usize {
        self.parts.iter().map(|part| part.pairs.len()).sum()
    }

    /// The cost of a part, in pairs.
    fn cost(&self, pairs: usize) -> f64 {
        pairs.max(self.smallest) as f64
    }

    /// The cost of what it computes and of what waits for it.
    fn load(&self) -> f64 {
        let running = if self.running > 0 { self.cost(self.running) } else { 0.0 };
        running + self.parts.iter().map(|part| self.cost(part.pairs.len())).sum::<f64>()
    }

    /// Queues a request. If the thread has ended, drops the request instead, and with it the sender of the reply.
    pub fn control(&mut self, control: Control) {
        if !self.ended {
            self.controls.push_back(control);
        }
    }

    /// Records that the thread has ended. Returns all requests, to be dropped without the lock: they can own the caller's points.
    pub fn end(&mut self) -> VecDeque<Control> {
        self.ended = true;
        std::mem::take(&mut self.controls)
    }

    /// Records that the running part has ended with a result.
    pub fn finish(&mut self, time: Duration, bytes_copied: u64) {
        let pairs = std::mem::take(&mut self.running);
        let (all_pairs, all_seconds) = self.measured;
        self.measured =
            (all_pairs * DECAY + self.cost(pairs), all_seconds * DECAY + time.as_secs_f64().max(1e-9));
        self.status.parts += 1;
        self.status.pairs += pairs as u64;
        self.status.bytes_copied += bytes_copied;
        self.status.speed = Some(self.measured.0 / self.measured.1);
    }

    /// Records that the running part has ended without a result.
    pub fn fail(&mut self, error: &Arc<PartError>) {
        self.running = 0;
        self.status.last_error = Some(Arc::clone(error));
        match error.is_wrong_result() {
            true => self.status.wrong_results += 1,
            false => self.status.failures += 1,
        }
    }

    /// Records that the running part is no longer needed.
    pub fn abandon(&mut self) {
        self.running = 0;
    }
}

/// The queues of all cards.
#[derive(Default)]
pub(crate) struct Queues {
    pub cards: Vec<Queue>,
    pub closing: bool,
}

impl Queues {
    /// Queues a part, or divides it over several cards. Returns the part if no card is left that could compute it.
    pub fn assign(&mut self, part: Part, min_part: usize) -> Result<(), Part> {
        let cards: Vec<usize> = (0..self.cards.len())
            .filter(|card| self.cards[*card].status.is_in_service() && !part.tried.contains(card))
            .collect();
        if cards.is_empty() || self.closing {
            return Err(part);
        }
        let candidates: Vec<_> = cards.iter().map(|card| self.candidate(*card)).collect();
        let mut first = part.pairs.start;
        for (card, share) in cards.into_iter().zip(split(part.pairs.len(), &candidates, min_part)) {
            let end = first + share;
            while first < end {
                let last = end.min(first.saturating_add(self.cards[card].max_pairs.max(1)));
                let (sum, tried) = (Arc::clone(&part.sum), part.tried.clone());
                self.cards[card].parts.push_back(Part { sum, pairs: first..last, tried });
                first = last;
            }
        }
        Ok(())
    }

    fn candidate(&self, card: usize) -> Candidate {
        let speed = self.speed(card);
        Candidate { backlog: self.cards[card].load() / speed, speed }
    }

    /// Returns a card's measured speed. Before the card's first part, returns the mean speed of the other cards.
    fn speed(&self, card: usize) -> f64 {
        let measured: Vec<f64> = self.cards.iter().filter_map(|card| card.status.speed).collect();
        let mean = || measured.iter().sum::<f64>() / measured.len() as f64;
        let speed = self.cards[card].status.speed.unwrap_or_else(mean);
        if speed.is_finite() && speed > 0.0 { speed } else { 1.0 }
    }

    /// Returns the next action of a card.
    pub fn next(&mut self, card: usize) -> Option<Next> {
        if self.closing {
            return Some(Next::Close);
        }
        if let Some(control) = self.cards[card].controls.pop_front() {
            return Some(Next::Control(control));
        }
        if !self.cards[card].status.is_in_service() {
            return None;
        }
        let part = self.cards[card].parts.pop_front().or_else(|| self.steal(card))?;
        self.cards[card].running = part.pairs.len();
        Some(Next::Part(part))
    }

    /// Returns the part that a card will probably compute next.
    pub fn peek(&self, card: usize) -> Option<(&Arc<SumState>, Range<usize>)> {
        self.cards[card].parts.front().map(|part| (&part.sum, part.pairs.clone()))
    }

    /// Takes the last part from the queue of the card that would finish last, if this card can finish the part earlier.
    fn steal(&mut self, thief: usize) -> Option<Part> {
        let backlog = |card: &usize| self.candidate(*card).backlog;
        let waiting = (0..self.cards.len()).filter(|card| !self.cards[*card].parts.is_empty());
        let victim = waiting.max_by(|a, b| backlog(a).total_cmp(&backlog(b)))?;
        let part = self.cards[victim].parts.back()?;
        let cost = self.cards[thief].cost(part.pairs.len());
        let is_earlier = cost / self.speed(thief) < backlog(&victim);
        let fits = part.pairs.len() <= self.cards[thief].max_pairs;
        let allowed = !part.tried.contains(&thief);
        if is_earlier && fits && allowed { self.cards[victim].parts.pop_back() } else { None }
    }

    /// Takes a card out of service, and returns the parts that waited for it.
    pub fn take_out(&mut self, card: usize, reason: Arc<str>) -> Vec<Part> {
        let queue = &mut self.cards[card];
        queue.status.state = CardState::OutOfService { reason };
        queue.parts.drain(..).collect()
    }

    /// Removes and returns all parts.
    pub fn drain(&mut self) -> Vec<Part> {
        self.cards.iter_mut().flat_map(|card| card.parts.drain(..)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalars::Scalars;
    use crate::shared::Shared;
    use crate::{Bases, CardsOptions};

    fn sum(pairs: usize) -> Part {
        let shared = Arc::new(Shared::new(&[], &CardsOptions::default()));
        let bases = Bases::new(Box::new(vec![]), pairs, None, shared);
        let scalars = Scalars::from_fr(vec![Default::default(); pairs]);
        let sum = SumState::new(Arc::clone(bases.data()), 0, scalars, 0..pairs);
        Part { sum, pairs: 0..pairs, tried: vec![] }
    }

    fn queues(speeds: &[Option<f64>]) -> Queues {
        let card = |speed: &Option<f64>| {
            let mut queue = Queue::new("card".into(), 1);
            (queue.status.state, queue.status.speed, queue.max_pairs) = (CardState::InService, *speed, 1000);
            queue
        };
        Queues { cards: speeds.iter().map(card).collect(), closing: false }
    }

    fn loads(queues: &Queues) -> Vec<usize> {
        queues.cards.iter().map(Queue::queued).collect()
    }

    #[test]
    fn many_small_sums_are_distributed_by_finishing_time() {
        let mut queues = queues(&[Some(100.0), Some(300.0)]);
        for _ in 0..40 {
            queues.assign(sum(10), 1 << 15).unwrap();
        }
        assert_eq!(loads(&queues), [100, 300]);
    }

    #[test]
    fn a_large_sum_is_split_and_no_job_is_too_large() {
        let mut queues = queues(&[None, Some(50.0), Some(50.0)]);
        queues.assign(sum(6000), 100).unwrap();
        assert_eq!(loads(&queues), [2000; 3]);
        assert!(queues.cards[0].parts.iter().all(|part| part.pairs.len() <= 1000));
    }

    #[test]
    fn a_part_avoids_the_cards_that_failed_to_compute_it() {
        let mut queues = queues(&[None, None]);
        queues.assign(Part { tried: vec![0], ..sum(500) }, 1).unwrap();
        assert_eq!(loads(&queues), [0, 500]);
        // Card 0 is idle, but does not steal the part.
        assert!(queues.next(0).is_none());
        assert!(queues.assign(Part { tried: vec![0, 1], ..sum(500) }, 1).is_err());
        let parts = queues.take_out(1, "test".into());
        assert_eq!(parts.len(), 1);
        assert!(parts.into_iter().all(|part| queues.assign(part, 1).is_err()));
        queues.assign(sum(500), 1).unwrap();
        assert_eq!(loads(&queues), [500, 0]);
    }

    #[test]
    fn a_card_that_computed_a_small_part_still_gets_large_ones() {
        const MIN_PART: usize = 1000;
        let mut queues = queues(&[None, None]);
        queues.cards.iter_mut().for_each(|queue| queue.smallest = MIN_PART);
        for (card, pairs) in [(0, 10), (1, 1000)] {
            queues.assign(Part { tried: vec![1 - card], ..sum(pairs) }, MIN_PART).unwrap();
            assert!(matches!(queues.next(card), Some(Next::Part(_))));
            // The same speed: a microsecond for each pair, and as long as 1000 pairs for the reduction.
            queues.cards[card].finish(Duration::from_micros(pairs as u64 + 1000), 0);
        }
        queues.assign(sum(10_000), MIN_PART).unwrap();
        assert!(loads(&queues).iter().all(|load| *load > 3000), "{:?}", loads(&queues));
    }

    #[test]
    fn an_idle_card_steals_only_what_it_finishes_earlier() {
        let mut queues = queues(&[Some(100.0), Some(100.0)]);
        for _ in 0..2 {
            queues.assign(Part { tried: vec![1], ..sum(300) }, 1 << 15).unwrap();
        }
        queues.cards[0].parts.iter_mut().for_each(|part| part.tried.clear());
        assert!(matches!(queues.next(0), Some(Next::Part(_))));
        // The other one waits for 300 running pairs.
        queues.cards[1].status.speed = Some(10.0);
        assert!(queues.next(1).is_none());
        queues.cards[1].status.speed = Some(90.0);
        assert!(matches!(queues.next(1), Some(Next::Part(_))));
        assert_eq!(loads(&queues), [0, 0]);
    }
}
