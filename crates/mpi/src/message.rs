//! Control messages, as JSON: orders of the root, and records of the workers. Points and scalars are sent as MPI data types instead.

use crate::report::PartReport;
use serde::{Deserialize, Serialize};

/// What the root tells a worker to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Take part in the distribution of bases, or register the worker's own.
    Bases {
        /// Number of points.
        count: usize,
        /// Whether the root broadcasts the points. Otherwise, the worker has its own copy.
        broadcast: bool,
    },
    /// Compute a part of a sum.
    Sum {
        /// Index of the bases, in the order of their registration.
        bases: usize,
        /// The worker's first pair.
        first: usize,
        /// Number of the worker's pairs.
        count: usize,
    },
    /// The job is done. Report that, but do not finalize MPI yet: an abort while another rank finalizes upsets the launcher.
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
    /// The worker's program has returned before that.
    Left,
    /// The worker failed.
    Failed { cause: String },
    /// The answer to a question at a deadline: what the worker waits for.
    Alive { phase: String },
}
