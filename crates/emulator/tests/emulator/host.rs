//! A host for the card: memory, and register accesses by address.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfio_user::Client;
use xdma_emulator::logic::{Logic, Memory};
use xdma_emulator::{EmulatedCard, EmulatorOptions};

/// The size of the host's memory in bytes, mapped for the card at IOVA 0.
pub const MEMORY: u64 = 8 << 20;
const DEADLINE: Duration = Duration::from_secs(10);

/// The location of a ring for credit mode.
pub struct Ring {
    pub base: u64,
    pub slots: u64,
}

pub const CREDIT_RING: Ring = Ring { base: 0x2000, slots: 8 };

/// The transfer described by a descriptor.
#[derive(Clone, Copy)]
pub struct Desc {
    pub source: u64,
    pub destination: u64,
    pub length: u32,
}

impl Desc {
    pub fn h2c(host: u64, card: u64, length: u32) -> Self {
        Self { source: host, destination: card, length }
    }

    pub fn c2h(card: u64, host: u64, length: u32) -> Self {
        Self { source: card, destination: host, length }
    }

    pub fn bytes(self, flags: u32, next_adjacent: u32, next: u64) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&(0xad4b_0000 | next_adjacent << 8 | flags).to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.source.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.destination.to_le_bytes());
        bytes[24..].copy_from_slice(&next.to_le_bytes());
        bytes
    }
}

/// A list in host memory.
pub struct List {
    pub base: u64,
    pub bytes: Vec<u8>,
    pub adjacent: u32,
}

/// Builds a list in adjacent blocks of 64, starting at a 4 KiB boundary. The last descriptor has Stop and Completed.
pub fn chain(base: u64, descriptors: &[Desc]) -> List {
    let block_left = |k: usize| (63 - k % 64).min(descriptors.len() - 1 - k) as u32;
    let mut bytes = Vec::new();
    for (k, descriptor) in descriptors.iter().enumerate() {
        let last = k + 1 == descriptors.len();
        let adjacent = match () {
            () if last => 0,
            // The last descriptor of a block counts those that follow the first one of the next block.
            () => block_left(k + 1),
        };
        let next = if last { 0 } else { base + 32 * (k as u64 + 1) };
        bytes.extend(descriptor.bytes(if last { 0x3 } else { 0 }, adjacent, next));
    }
    List { base, bytes, adjacent: block_left(0) }
}

/// A card with its client and host memory.
pub struct Bench {
    pub client: Client,
    pub file: File,
    pub card: EmulatedCard,
    logic: Arc<Memory>,
    xdma: u32,
}

impl Bench {
    pub fn new(options: EmulatorOptions) -> Self {
        let memory = Arc::new(Memory::new());
        Self::build(options, memory.clone(), memory)
    }

    pub fn with_logic(options: EmulatorOptions, logic: Arc<dyn Logic>) -> Self {
        Self::build(options, logic, Arc::new(Memory::with_size(0)))
    }

    fn build(options: EmulatorOptions, logic: Arc<dyn Logic>, memory: Arc<Memory>) -> Self {
        let xdma = options.card.register_bar().unwrap() as u32;
        let card = EmulatedCard::start(options, logic).unwrap();
        let mut client = Client::new(card.socket()).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(MEMORY).unwrap();
        client.dma_map(0, 0, MEMORY, file.as_raw_fd()).unwrap();
        let mut bench = Self { client, file, card, logic: memory, xdma };
        bench.set_bus_master(true);
        bench
    }

    /// Maps `size` bytes of the host's memory from `offset` at `iova`.
    pub fn map(&mut self, iova: u64, size: u64, offset: u64) {
        self.client.dma_map(offset, iova, size, self.file.as_raw_fd()).unwrap();
    }

    /// Reads a word of configuration space.
    pub fn config(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.client.region_read(7, offset, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    pub fn violations(&self) -> Vec<String> {
        self.card.violations().iter().map(|violation| violation.to_string()).collect()
    }

    pub fn memory(&self) -> &Memory {
        &self.logic
    }

    pub fn set_bus_master(&mut self, on: bool) {
        self.client.region_write(7, 4, &[if on { 6 } else { 2 }, 0]).unwrap();
    }

    pub fn read(&mut self, address: u64) -> u32 {
        let mut data = [0; 4];
        self.client.region_read(self.xdma, address, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    pub fn write(&mut self, address: u64, value: u32) {
        self.client.region_write(self.xdma, address, &value.to_le_bytes()).unwrap();
    }

    pub fn put(&self, address: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, address).unwrap();
    }

    pub fn get(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, address).unwrap();
        bytes
    }

    pub fn word(&self, address: u64) -> u32 {
        u32::from_le_bytes(self.get(address, 4).try_into().unwrap())
    }

    /// Starts a list on the channel whose registers are at `channel`. The write-back address is 0x100, plus 16 bytes per channel.
    pub fn start(&mut self, channel: u64, list: &List, control: u32) {
        self.put(list.base, &list.bytes);
        let write_back = 0x100 + (channel >> 4 & 0xf0) + (channel >> 6 & 0x40);
        self.put(write_back, &[0; 4]);
        self.write(channel + 0x88, write_back as u32);
        self.write(channel + 0x8c, 0);
        self.write(channel + 0x4080, list.base as u32);
        self.write(channel + 0x4084, (list.base >> 32) as u32);
        self.write(channel + 0x4088, list.adjacent);
        self.write(channel + 0x0c, 1);
        self.write(channel + 0x04, control);
    }

    /// Waits until the word is `expected` or the deadline has passed, and returns the word.
    pub fn wait_word(&self, address: u64, expected: u32) -> u32 {
        let end = Instant::now() + DEADLINE;
        while self.word(address) != expected && Instant::now() < end {
            std::thread::yield_now();
        }
        self.word(address)
    }

    /// Waits until the register's bits under `mask` are `expected`.
    pub fn wait_register(&mut self, address: u64, mask: u32, expected: u32) {
        let end = Instant::now() + DEADLINE;
        loop {
            let value = self.read(address);
            if value & mask == expected {
                return;
            }
            assert!(Instant::now() < end, "{address:#x} is {value:#x}, not {expected:#x}");
        }
    }

    /// Asserts that no rule was broken and no access refused.
    pub fn clean(&self) {
        assert_eq!(self.violations(), [""; 0]);
        assert_eq!(self.card.dma_faults(), []);
    }
}
