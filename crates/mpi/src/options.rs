//! Time limits.

use std::time::Duration;

/// Time limits of a job. Every wait has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Limit of each step of a sum: sending the scalars, computing, reducing. The default is 60 s.
    pub deadline: Duration,
    /// Limit for starting all ranks, and for distributing and registering bases. With the check of `xdma-cards`, registering
    /// takes about 2 s of CPU time for each 2^16 points. The default is 10 minutes.
    pub load_deadline: Duration,
    /// How long a worker waits for the root's next order. The root does other work between orders, so the limit is long. It
    /// only ends workers whose root hangs. The default is an hour.
    pub idle_limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(60),
            load_deadline: Duration::from_secs(600),
            idle_limit: Duration::from_secs(3600),
        }
    }
}

/// The root waits this much longer than a worker, so that a worker that is only late can report the cause.
pub(crate) const ROOT_GRACE: Duration = Duration::from_secs(2);
/// A worker waits this much longer than the root for the same event, so that the root names the rank that is silent.
pub(crate) const WORKER_GRACE: Duration = Duration::from_secs(6);
/// At a deadline, a rank that does not answer within this time is silent. A rank that answers is late.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(1);
