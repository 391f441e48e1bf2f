//! Control messages, as JSON: orders from the root, and records from the workers. Points and scalars are sent as MPI data types.

use crate::report::PartReport;
use serde::{Deserialize, Serialize};

/// An order from the root to a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Take part in the distribution of bases, or register the worker's own.
    Bases {
        /// Number of points.
        count: usize,
        /// Whether the root broadcasts the points. Otherwise, the worker has its own copy.
        broadcast: bool,
    },
    /// Compute the worker's part of a sum.
    Sum {
        /// Index of the bases, in the order of their registration.
        bases: usize,
        /// The worker's first pair.
        first: usize,
        /// Number of the worker's pairs.
        count: usize,
    },
    /// The job is done. Report that, but do not finalize MPI yet: the launcher can hang or crash if a rank aborts while another
    /// one finalizes MPI.
    Done,
    /// All ranks have reported the end of the job: finalize MPI.
    Release,
}

/// What a worker reports to the root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    /// The process has started.
    Joined { host: String, version: String },
    /// The worker's cards are open.
    Serving { cards: usize },
    /// The worker has all points, and this is their digest.
    Digest(String),
    /// The worker's cards have all points.
    Registered,
    /// The worker's cards have computed its part. It takes part in the reduction next.
    Part(PartReport),
    /// The worker's program has returned after [`Order::Done`].
    Finished,
    /// The worker's program has returned before [`Order::Done`].
    Left,
    /// The worker failed.
    Failed { cause: String },
    /// The answer to the root's question at a deadline: what the worker is waiting for.
    Alive { phase: String },
}
