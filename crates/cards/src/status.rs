//! The status of the cards.

use crate::error::PartError;
use std::sync::Arc;

/// The state of a card.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CardState {
    /// The card takes parts of sums.
    InService,
    /// The card was taken out of service, or could not be opened.
    OutOfService {
        /// Why, in words for a person to read.
        reason: Arc<str>,
    },
}

/// The status of a card, and counters since it was opened by [`Cards`](crate::Cards).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CardStatus {
    /// The name from its [`CardSource`](crate::CardSource).
    pub name: Arc<str>,
    /// Its state.
    pub state: CardState,
    /// The NUMA node to whose processors the card's thread is pinned, if the thread is pinned.
    pub pinned_to: Option<u32>,
    /// Number of parts that it computed.
    pub parts: u64,
    /// Pairs in these parts.
    pub pairs: u64,
    /// Number of parts that it failed to compute, timeouts included.
    pub failures: u64,
    /// Number of parts whose result was wrong.
    pub wrong_results: u64,
    /// How often it was readmitted.
    pub readmissions: u64,
    /// Measured pairs per second, in which recent parts count most. A part of fewer than
    /// [`min_part`](crate::CardsOptions::min_part) pairs, or 2^15 if that is less, counts as one of that many, since its time is mostly
    /// that of the design's reduction. `None` before the first part.
    pub speed: Option<f64>,
    /// Pairs that it computes now.
    pub running_pairs: u64,
    /// Pairs that wait for it.
    pub queued_pairs: u64,
    /// Bytes of scalars copied to its DMA memory.
    pub bytes_copied: u64,
    /// The error of the last part that it failed to compute.
    pub last_error: Option<Arc<PartError>>,
}

impl CardStatus {
    /// Returns whether the card takes parts of sums.
    pub fn is_in_service(&self) -> bool {
        matches!(self.state, CardState::InService)
    }
}
