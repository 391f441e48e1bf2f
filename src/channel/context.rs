//! What a card gives a channel that is opened, and what the two tell each other.

use super::report::WriteBackArea;
use crate::bus::{Bar, BusError};
use crate::memory::DmaSpace;
use crate::regs::Direction;
use crate::stats::Counters;
use std::any::Any;
use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

/// How long an engine may take to become idle, unless said otherwise: longer than the 5 s after which the shell of F1 ends
/// an access that nobody answers.
pub const IDLE_LIMIT: Duration = Duration::from_secs(6);

/// Where a channel is: what its card gives it.
pub struct Place {
    /// The BAR with the XDMA registers.
    pub bar: Arc<dyn Bar>,
    /// The card's address space.
    pub space: Arc<DmaSpace>,
    /// Where the engine reports to; another channel must not have the same.
    pub words: Arc<WriteBackArea>,
    /// Direction of the channel.
    pub direction: Direction,
    /// Its number.
    pub channel: usize,
    /// How long the engine may take to become idle.
    pub idle_limit: Duration,
    /// Set once the kernel wants the card back.
    pub recall: Arc<AtomicBool>,
    /// What [`Wait::Hybrid`](super::Wait::Hybrid) and [`Wait::Interrupt`](super::Wait::Interrupt) sleep on.
    pub event: Option<Arc<dyn Event>>,
    /// What the card and its channels tell each other.
    pub notice: Arc<Notice>,
    /// Where the channel counts; another channel must not have the same.
    pub counters: Counters,
    /// Dropped when the channel is closed.
    pub lease: Box<dyn Any + Send>,
}

/// What a card and its channels tell each other.
#[derive(Debug, Default)]
pub struct Notice {
    /// How often the card was reset or brought back under its channels: each of them has to be recovered then.
    pub resets: AtomicU64,
    /// An engine did not become idle: whoever closes the card need not wait for it again.
    pub hung: AtomicBool,
}

/// What a channel sleeps on: an eventfd.
pub trait Event: AsFd + Send + Sync + fmt::Debug {
    /// Lets the channel's interrupt through, as at first and after a reset.
    ///
    /// # Errors
    ///
    /// The bus failed.
    fn enable(&self) -> Result<(), BusError>;

    /// Forgets that the channel has interrupted, so that its next interrupt makes the eventfd readable again.
    fn clear(&self);
}
