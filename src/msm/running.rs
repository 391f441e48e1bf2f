//! Jobs in flight on the card.

use crate::channel::Ticket;
use tracing::Span;

#[derive(Debug)]
pub(crate) enum Stage {
    /// The job's data is being sent.
    Streaming(Ticket),
    /// All data was accepted, and the core computes.
    Reducing,
    /// The result is being fetched.
    Fetching(Ticket),
}

#[derive(Debug)]
pub(crate) struct RunningJob {
    pub sequence: u64,
    pub label: u32,
    pub pairs: u32,
    pub stage: Stage,
    /// Lasts from the submission to the result.
    pub span: Span,
}
