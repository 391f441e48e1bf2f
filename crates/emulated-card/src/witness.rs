//! Tells an emulated card what becomes of memory.

use std::sync::{Arc, Mutex, PoisonError};
use xdma::memory;
use xdma_emulator::EmulatedCard;
use xdma_emulator::control::{Client, Request};

/// Tells a card of this process.
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

/// Tells a card of another process, which takes [orders](xdma_emulator::control) from `control`.
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
            tracing::error!(%error, "the card was not told what becomes of memory, and may see rules broken that were not");
        }
    }
}
