//! Reports the driver's allocations and releases to an emulated card.

use std::sync::{Arc, Mutex, PoisonError};
use xdma::memory;
use xdma_emulator::EmulatedCard;
use xdma_emulator::control::{Client, Request};

/// An observer that reports to a card in this process.
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

/// An observer that reports to a card in another process, which takes [requests](xdma_emulator::control) from `control`.
pub fn remote_witness(control: Arc<Mutex<Client>>) -> Arc<dyn memory::Witness> {
    Arc::new(Remote(control))
}

struct Remote(Arc<Mutex<Client>>);

impl memory::Witness for Remote {
    fn taken(&self, address: u64, len: u64) {
        self.tell(Request::Taken(address, len));
    }

    fn released(&self, address: u64, len: u64) {
        self.tell(Request::Released(address, len));
    }
}

impl Remote {
    fn tell(&self, request: Request) {
        let mut client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = client.ask(request) {
            tracing::error!(%error, "could not report an allocation or a release to the emulated card; it may report false rule violations");
        }
    }
}
