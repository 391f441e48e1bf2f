//! The PCIe link to the host: its state, and the settings from configuration space that the engines obey.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// The state of the link. Sizes are encoded as in DevCtl: 0 = 128 bytes to 5 = 4096.
#[derive(Debug)]
pub(super) struct PcieLink {
    up: RwLock<bool>,
    bus_master: AtomicBool,
    max_payload: AtomicU32,
    max_read_request: AtomicU32,
    /// The limits that software may set in the configuration block.
    user_max_payload: AtomicU32,
    user_max_read_request: AtomicU32,
}

/// The reset value of these limits: no limit.
const UNLIMITED: u32 = 5;

impl Default for PcieLink {
    fn default() -> Self {
        Self {
            up: RwLock::new(true),
            bus_master: AtomicBool::new(false),
            max_payload: AtomicU32::new(0),
            max_read_request: AtomicU32::new(2),
            user_max_payload: AtomicU32::new(UNLIMITED),
            user_max_read_request: AtomicU32::new(UNLIMITED),
        }
    }
}

impl PcieLink {
    /// Returns whether the link is up. The state cannot change while the guard is held; hold it for the duration of an access.
    pub fn is_up(&self) -> RwLockReadGuard<'_, bool> {
        self.up.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the state of the link, after waiting for accesses in progress.
    pub fn set_up(&self, up: bool) {
        *self.up.write().unwrap_or_else(PoisonError::into_inner) = up;
    }

    pub fn bus_master(&self) -> bool {
        self.bus_master.load(Ordering::Acquire)
    }

    pub fn set_bus_master(&self, on: bool) {
        self.bus_master.store(on, Ordering::Release);
    }

    /// Applies the sizes from DevCtl.
    pub fn set_device_control(&self, max_payload: u32, max_read_request: u32) {
        self.max_payload.store(max_payload.min(UNLIMITED), Ordering::Relaxed);
        self.max_read_request.store(max_read_request.min(UNLIMITED), Ordering::Relaxed);
    }

    pub fn max_payload(&self) -> u32 {
        self.max_payload.load(Ordering::Relaxed)
    }

    pub fn max_read_request(&self) -> u32 {
        self.max_read_request.load(Ordering::Relaxed)
    }

    pub fn user_max_payload(&self) -> &AtomicU32 {
        &self.user_max_payload
    }

    pub fn user_max_read_request(&self) -> &AtomicU32 {
        &self.user_max_read_request
    }

    /// Returns the size in bytes of the largest read that the card may request.
    pub fn read_request_bytes(&self) -> u64 {
        let limit = self.user_max_read_request.load(Ordering::Relaxed).min(UNLIMITED);
        128 << self.max_read_request().min(limit)
    }

    pub fn reset_limits(&self) {
        self.user_max_payload.store(UNLIMITED, Ordering::Relaxed);
        self.user_max_read_request.store(UNLIMITED, Ordering::Relaxed);
    }
}
