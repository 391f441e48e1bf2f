//! Claims to channels.

use super::{Inner, channel_index};
use crate::channel::OpenError;
use crate::regs::{Direction, MAX_CHANNELS};
use std::sync::Arc;

/// The claim to a channel, released when the channel is closed. It keeps the card open.
pub(super) struct Lease {
    card: Arc<Inner>,
    bit: u32,
}

impl Lease {
    pub(super) fn acquire(
        card: &Arc<Inner>,
        direction: Direction,
        channel: usize,
    ) -> Result<Self, OpenError> {
        if channel >= MAX_CHANNELS {
            return Err(OpenError::BadNumber { direction, channel });
        }
        let bit = 1 << channel_index(direction, channel);
        if !card.claims.acquire(bit) {
            return Err(OpenError::Taken { direction, channel });
        }
        Ok(Self { card: card.clone(), bit })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.card.claims.release(self.bit);
    }
}
