//! Jobs on the card.

use crate::channel::Ticket;
use tracing::Span;

#[derive(Debug)]
pub(crate) enum Stage {
    /// Its data is being sent.
    Streaming(Ticket),
    /// All data was accepted; the core computes.
    Reducing,
    /// The result is being fetched.
    Fetching(Ticket),
}

#[derive(Debug)]
pub(crate) struct Running {
    pub sequence: u64,
    pub label: u32,
    pub pairs: u32,
    pub stage: Stage,
    /// From the submission to the result.
    pub span: Span,
}
