//! Options of [`Cards`](crate::Cards).

use std::time::Duration;
use xdma::msm::MsmOptions;

/// Options of [`Cards`](crate::Cards).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardsOptions {
    /// A sum is split over cards only if each part has at least this many pairs. Each part costs its card one reduction of the
    /// design's buckets, so small parts waste time on reductions. The default is 2^15 pairs: the design needs about as long for
    /// them as for one reduction.
    pub min_part: usize,
    /// A card is taken out of service after this many consecutive failures, or after this many wrong results. A card that is
    /// gone, or that cannot be recovered, is taken out immediately. The default is 1; 0 has the same effect as 1.
    pub max_failures: u32,
    /// Whether each part is checked by a second MSM on the same card, over tags of the points. A wrong result then goes
    /// undetected with a probability of at most 2^-128, whatever the card does. The check doubles the work of the cards and
    /// their DMA memory for points. Registering takes about 2 s of CPU time for each 2^16 points. Without the check, a wrong
    /// result that is a point on the curve is **not** detected.
    pub check: bool,
    /// Whether opening fails if one of the cards cannot be opened. Otherwise, such a card is out of service until it is
    /// [readmitted](crate::Cards::readmit), and at least one card must open.
    pub require_all: bool,
    /// Whether the thread of each card runs only on the processors of the card's NUMA node, on hosts with several nodes.
    pub pin: bool,
    /// A part times out after 16 times its expected duration, estimated from the card's earlier parts
    /// ([`TimeoutEstimator`](xdma::msm::TimeoutEstimator)), plus this margin.
    pub timeout_margin: Duration,
    /// Options of each card's MSM client.
    pub msm: MsmOptions,
}

impl Default for CardsOptions {
    fn default() -> Self {
        Self {
            min_part: 1 << 15,
            max_failures: 1,
            check: false,
            require_all: true,
            pin: true,
            timeout_margin: Duration::from_secs(10),
            msm: MsmOptions::default(),
        }
    }
}
