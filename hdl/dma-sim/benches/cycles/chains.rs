//! Chains of adjacent descriptors, timed.

use xdma_rtl_dma::{Engine, Span, Transfer};

/// The card's memory responds after this number of cycles.
pub const CARD_LATENCY: u64 = 100;
/// Where the lists are: of C2H, and of H2C.
pub const LISTS: [u64; 2] = [0x4000_0000, 0x4001_0000];
/// Where counts are written back.
pub const WORD: u64 = 0x5000_0000;
const HOST: u64 = 0x12_3400_0000;
const CARD: u64 = 0x7_0000_0000;

/// The host's memory, and the chain.
#[derive(Clone, Copy)]
pub struct Case {
    /// Cycles from a request to its response.
    pub latency: u64,
    /// Reads under way.
    pub reads: usize,
    /// Their maximum size, encoded as in DevCtl.
    pub code: u8,
    /// Descriptors, and bytes of each.
    pub count: u64,
    pub len: u32,
}

impl Case {
    /// The bytes of a read.
    pub fn bytes(&self) -> u64 {
        128 << self.code
    }

    /// Returns the limit of H2C in bytes per cycle: the width of the data path, or bytes in flight by latency.
    pub fn limit(&self) -> f64 {
        (self.reads as f64 * self.bytes() as f64 / self.latency as f64).min(64.0)
    }

    /// Runs the chain on the first channel of each of the directions (`true` is H2C). Returns the bytes per cycle of each, from the
    /// first to the last beat written.
    pub fn rates(&self, directions: &[bool]) -> Vec<f64> {
        let rate = |span: &Span| span.count as f64 * 64.0 / span.cycles() as f64;
        self.run(directions).iter().map(rate).collect()
    }

    fn run(&self, directions: &[bool]) -> Vec<Span> {
        let host = Engine::host_memory(self.latency, self.reads);
        let mut engine = Engine::new(host, Engine::card_memory(CARD_LATENCY), self.code);
        for &to_card in directions {
            let list = LISTS[usize::from(to_card)];
            let adjacent = engine.lay(to_card, list, &chain(self.count, self.len));
            engine.prepare(to_card, 0, list, adjacent, WORD + 64 * u64::from(to_card));
        }
        directions.iter().for_each(|&to_card| engine.ring(to_card, 0));
        for &to_card in directions {
            assert_eq!(engine.outcome(to_card, 0), (0x06, self.count as u32));
        }
        directions.iter().map(|&to_card| if to_card { engine.card.data } else { engine.host.data }).collect()
    }
}

/// Returns `count` transfers of `len` bytes, one behind the other.
pub fn chain(count: u64, len: u32) -> Vec<Transfer> {
    (0..count).map(|i| (HOST + i * u64::from(len), CARD + i * u64::from(len), len)).collect()
}
