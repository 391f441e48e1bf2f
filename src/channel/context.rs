//! Resources that a card hands to a channel when it opens it, and the state that both share.

use super::write_back::WriteBackArea;
use crate::bus::{Bar, BusError};
use crate::memory::DmaSpace;
use crate::regs::Direction;
use crate::stats::Counters;
use std::any::Any;
use std::fmt;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Default time limit for an engine to become idle: longer than the 5 s after which the F1 shell aborts an access that receives
/// no response.
pub const IDLE_LIMIT: Duration = Duration::from_secs(6);

/// The resources of a channel, provided by its card.
pub struct ChannelContext {
    /// The BAR with the XDMA registers.
    pub bar: Arc<dyn Bar>,
    /// The card's address space.
    pub space: Arc<DmaSpace>,
    /// The words that the engine writes completions to; no two channels share one.
    pub write_back: Arc<WriteBackArea>,
    /// Direction of the channel.
    pub direction: Direction,
    /// Number of the channel.
    pub channel: usize,
    /// Time limit for the engine to become idle.
    pub idle_limit: Duration,
    /// Set when the kernel requests the card back.
    pub recalled: Arc<AtomicBool>,
    /// The event that [`Wait::Hybrid`](super::Wait::Hybrid) and [`Wait::Interrupt`](super::Wait::Interrupt) sleep on.
    pub event: Option<Arc<dyn Event>>,
    /// State shared by the card and all of its channels.
    pub shared: Arc<SharedState>,
    /// The channel's counters; no two channels share them.
    pub counters: Counters,
    /// Dropped when the channel is closed.
    pub lease: Box<dyn Any + Send>,
}

/// State shared by a card and its channels.
#[derive(Debug, Default)]
pub struct SharedState {
    /// Number of times the card was reset, or recovered after its link was down, while channels were open. Each open channel
    /// must be recovered after that.
    pub resets: AtomicU64,
    /// Whether an engine did not become idle. Closing the card does not wait for it a second time.
    pub hung: AtomicBool,
    setup: Mutex<()>,
}

impl SharedState {
    /// Returns a guard that a channel holds while it is set up, and the card while it stops all engines. Without it, the card could
    /// disable credits after the channel enabled them and before it sets Run: the engine would then run through its whole ring,
    /// including descriptors of earlier transfers.
    pub(crate) fn lock_setup(&self) -> MutexGuard<'_, ()> {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The eventfd that a channel sleeps on.
pub trait Event: AsFd + Send + Sync + fmt::Debug {
    /// Enables the channel's interrupt: when the channel is opened, and again after a reset.
    ///
    /// # Errors
    ///
    /// The bus failed.
    fn enable(&self) -> Result<(), BusError>;

    /// Enables the channel's interrupt again after it has fired, if firing disables it.
    ///
    /// # Errors
    ///
    /// The bus failed.
    fn rearm(&self) -> Result<(), BusError> {
        Ok(())
    }

    /// Clears the eventfd, so that the channel's next interrupt makes it readable again.
    fn clear(&self);
}
