//! Reports the driver's allocations and releases to an emulated card.

use std::sync::{Arc, Mutex, PoisonError};
use xdma::unstable::memory;
use xdma_emulator::EmulatedCard;
use xdma_emulator::control::{ControlClient, Request};

/// Returns an observer that reports to a card in this process.
pub fn witness(card: &EmulatedCard) -> Arc<dyn memory::Witness> {
    Arc::new(Watched(card.witness()))
}

struct Watched(xdma_emulator::Witness);

impl memory::Witness for Watched {
    fn taken(&self, address: u64, len: u64) {
        self.0.taken(address, len);
    }

    fn released(&self, address: u64, len: u64) {
        self.0.released(address, len);
    }
}

/// Returns an observer that reports to a card in another process, through its [control interface](xdma_emulator::control).
pub fn remote_witness(control: Arc<Mutex<ControlClient>>) -> Arc<dyn memory::Witness> {
    Arc::new(Remote(control))
}

struct Remote(Arc<Mutex<ControlClient>>);

impl memory::Witness for Remote {
    fn taken(&self, address: u64, len: u64) {
        self.report(Request::Taken(address, len));
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
