//! Reports the driver's allocations and releases to an emulated card.

use std::sync::{Arc, Mutex, PoisonError};
use xdma::unstable::memory;
use xdma_emulator::EmulatedCard;
use xdma_emulator::control::{ControlClient, Request};

/// Returns an observer that reports to a card in this process.
pub fn observer(card: &EmulatedCard) -> Arc<dyn memory::ReleaseObserver> {
    Arc::new(Watched(card.observer()))
}

struct Watched(xdma_emulator::ReleaseObserver);

impl memory::ReleaseObserver for Watched {
    fn allocated(&self, address: u64, len: u64) {
        self.0.allocated(address, len);
    }

    fn released(&self, address: u64, len: u64) {
        self.0.released(address, len);
    }
}

/// Returns an observer that reports to a card in another process, through its [control interface](xdma_emulator::control).
pub fn remote_observer(control: Arc<Mutex<ControlClient>>) -> Arc<dyn memory::ReleaseObserver> {
    Arc::new(Remote(control))
}

struct Remote(Arc<Mutex<ControlClient>>);

impl memory::ReleaseObserver for Remote {
    fn allocated(&self, address: u64, len: u64) {
        self.report(Request::Allocated(address, len));
    }

    fn released(&self, address: u64, len: u64) {
        self.report(Request::Released(address, len));
    }
}

impl Remote {
    fn report(&self, request: Request) {
        let mut client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = client.call(request) {
            tracing::error!(%error, "could not report an allocation or release to the emulated card; it may record false rule violations");
        }
    }
}
