//! The cost of a sum, and the ranks and cards that computed it.

use serde::{Deserialize, Serialize};

/// A sum over all ranks: the parts of the ranks, and the cost of the communication.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SumReport {
    /// Number of pairs.
    pub pairs: usize,
    /// The parts, by rank.
    pub ranks: Vec<RankReport>,
    /// Seconds to send the scalars to all ranks.
    pub scatter_seconds: f64,
    /// Seconds from the end of sending the scalars until every rank had computed its part.
    pub compute_seconds: f64,
    /// Seconds of the reduction: the root's wait for the sum of all parts, after every rank had computed its part.
    pub reduce_seconds: f64,
}

/// The part of a rank.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RankReport {
    /// The rank.
    pub rank: usize,
    /// Its host.
    pub host: String,
    /// Bytes of scalars sent to the rank, 32 for each of its pairs. The root's own scalars are not sent.
    pub scalar_bytes: usize,
    /// Bytes of the rank's partial sum: a point of 96 bytes.
    pub result_bytes: usize,
    /// The work of its cards.
    #[serde(flatten)]
    pub part: PartReport,
}

/// The work of a rank's cards for a sum.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PartReport {
    /// Number of pairs.
    pub pairs: usize,
    /// Seconds that the cards needed.
    pub seconds: f64,
    /// The cards' parts, whose sum is the rank's part.
    pub cards: Vec<CardPart>,
    /// Parts that a card failed to compute. Another card of the rank computed them.
    pub failures: Vec<FailedPart>,
    /// Cards in service after the sum.
    pub cards_in_service: usize,
    /// Measured pairs per second of these cards together, if all have been measured. The root divides the next sum in
    /// proportion to it.
    pub speed: Option<f64>,
}

/// A part that a card computed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CardPart {
    /// The card's name.
    pub card: String,
    /// Number of pairs.
    pub pairs: usize,
    /// Seconds that it needed.
    pub seconds: f64,
}

/// A part that a card failed to compute.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailedPart {
    /// The card's name.
    pub card: String,
    /// Number of pairs.
    pub pairs: usize,
    /// The cause.
    pub cause: String,
}
