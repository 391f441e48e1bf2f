//! Memory behind the AXI port.

use super::{AxiResponse, Burst, Logic, Shell};
use crate::log::lock;
use crate::mapping::Mapping;
use std::sync::{Arc, Mutex, OnceLock};
use vm_memory::VolatileSlice;
use xdma_card_file::{CardFile, MemoryRange};

/// The least size of a mapping in bytes. Its pages are allocated when they are first written.
const CHUNK: u64 = 64 << 20;
/// The largest number of mappings of a region. Mappings of large regions are larger.
const MAX_CHUNKS: u64 = 1 << 16;
/// The number of scratch registers in each user BAR, starting at offset 0.
const REGISTERS: usize = 1024;
/// The number of BARs.
const BARS: usize = 6;

/// A range of card addresses with memory.
struct Region {
    range: MemoryRange,
    chunk_bytes: u64,
    chunks: Vec<OnceLock<Option<Mapping>>>,
}

impl Region {
    fn new(range: MemoryRange) -> Self {
        let chunk_bytes = range.size.div_ceil(MAX_CHUNKS).next_power_of_two().max(CHUNK);
        let chunks = range.size.div_ceil(chunk_bytes) as usize;
        Self { range, chunk_bytes, chunks: std::iter::repeat_with(OnceLock::new).take(chunks).collect() }
    }

    /// Returns the offset of an access of `len` bytes, if it lies in this region.
    fn offset(&self, address: u64, len: u64) -> Option<u64> {
        let offset = address.checked_sub(self.range.address)?;
        (offset.checked_add(len)? <= self.range.size).then_some(offset)
    }
}

/// Sparse memory, 64 GiB by default, with scratch registers in the first 4 KiB of each user BAR.
///
/// Each bit of the register at [`Memory::USER_IRQ`] drives one of the 16 user interrupts. Addresses beyond the memory answer
/// DECERR. In fixed-address mode every beat accesses the same address. A reset clears the registers and keeps the memory.
pub struct Memory {
    regions: Vec<Region>,
    /// Width of the data path in bytes.
    beat: usize,
    registers: Mutex<Vec<[u32; REGISTERS]>>,
    shell: OnceLock<Arc<dyn Shell>>,
}

impl Memory {
    /// The size in bytes of a memory created by [`Memory::new`]: as large as the four DDR4 channels of an F1 card.
    pub const DEFAULT_SIZE: u64 = 64 << 30;
    /// The offset, in any user BAR, of the register that drives the user interrupts.
    pub const USER_IRQ: u64 = 0xd00;

    /// Creates a memory of [`Memory::DEFAULT_SIZE`] bytes.
    pub fn new() -> Self {
        Self::with_size(Self::DEFAULT_SIZE)
    }

    /// Creates a memory of `size` bytes.
    pub fn with_size(size: u64) -> Self {
        Self::with_regions(vec![Region::new(MemoryRange { address: 0, size })], BEAT)
    }

    /// Creates the memory that a description states: its ranges, and the width of its data path.
    pub fn of(card: &CardFile) -> Self {
        let all = || vec![MemoryRange { address: 0, size: Self::DEFAULT_SIZE }];
        let ranges = card.logic.memory.clone().known().unwrap_or_else(all);
        Self::with_regions(ranges.into_iter().map(Region::new).collect(), card.beat() as usize)
    }

    fn with_regions(regions: Vec<Region>, beat: usize) -> Self {
        let registers = Mutex::new(vec![[0; REGISTERS]; BARS]);
        Self { regions, beat, registers, shell: OnceLock::new() }
    }

    /// Reads the memory at `address` directly, without the AXI port.
    ///
    /// # Panics
    /// Panics if the range is not inside the memory, or if the host is out of memory.
    pub fn peek(&self, address: u64, buffer: &mut [u8]) {
        let buffer = VolatileSlice::from(buffer);
        self.each(address, &buffer, |memory, buffer| memory.copy_to_volatile_slice(*buffer));
    }

    /// Writes the memory at `address` directly, without the AXI port.
    ///
    /// # Panics
    /// As [`Memory::peek`].
    pub fn poke(&self, address: u64, bytes: &[u8]) {
        let mut copy = bytes.to_vec();
        let bytes = VolatileSlice::from(&mut copy[..]);
        self.each(address, &bytes, |memory, bytes| bytes.copy_to_volatile_slice(*memory));
    }

    fn each(
        &self,
        address: u64,
        buffer: &VolatileSlice<'_>,
        copy: impl Fn(&VolatileSlice<'_>, &VolatileSlice<'_>),
    ) {
        let mut done = 0;
        while done < buffer.len() {
            let at = address + done as u64;
            let piece = self.room(at).min(buffer.len() - done);
            let part = buffer.subslice(done, piece).expect("inside the buffer");
            let response = self.access(at, piece, |memory| copy(memory, &part));
            assert!(matches!(response, AxiResponse::Okay(_)), "no memory at {at:#x}");
            done += piece;
        }
    }

    /// Returns the number of bytes from an address to the end of its mapping.
    fn room(&self, address: u64) -> usize {
        let place = |region: &Region| {
            region.offset(address, 1).map(|offset| region.chunk_bytes - offset % region.chunk_bytes)
        };
        self.regions.iter().find_map(place).unwrap_or(1) as usize
    }

    /// Calls `f` with a view of `len` bytes, which must not cross a mapping.
    fn access(&self, address: u64, len: usize, f: impl FnOnce(&VolatileSlice<'_>)) -> AxiResponse {
        let place = |region: &Region| region.offset(address, len as u64);
        let found = self.regions.iter().find_map(|region| place(region).map(|offset| (region, offset)));
        let Some((region, offset)) = found else { return AxiResponse::DecodeError };
        let chunk = &region.chunks[(offset / region.chunk_bytes) as usize];
        match chunk.get_or_init(|| Mapping::anonymous(region.chunk_bytes as usize).ok()) {
            Some(mapping) => {
                f(&mapping.slice((offset % region.chunk_bytes) as usize, len));
                AxiResponse::Okay(len)
            }
            // The host has no address space left.
            None => AxiResponse::SlaveError,
        }
    }

    fn register(bar: usize, offset: u64) -> Option<(usize, usize)> {
        let index = usize::try_from(offset / 4).ok().filter(|&index| index < REGISTERS)?;
        (bar < BARS).then_some((bar, index))
    }

    fn drive_user_irqs(&self, levels: u32) {
        if let Some(shell) = self.shell.get() {
            (0..xdma_regs::USER_IRQS).for_each(|line| shell.user_irq(line, levels >> line & 1 != 0));
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes in a beat of a 512-bit port.
const BEAT: usize = 64;

/// Returns how many bytes of memory an access of `len` bytes covers. In a fixed burst every beat has the same address, so a write leaves the
/// last beat and a read repeats the first.
fn beats(burst: Burst, len: usize, beat: usize) -> usize {
    match burst {
        Burst::Increment => len,
        Burst::Fixed => len.min(beat),
    }
}

impl Logic for Memory {
    fn attach(&self, shell: Arc<dyn Shell>) {
        // A memory serves only one card: the first shell stays attached.
        let _ = self.shell.set(shell);
    }

    fn write(&self, _channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse {
        let len = beats(burst, data.len(), self.beat);
        let last = data.offset(data.len() - len).expect("inside the data");
        self.access(address, len, |memory| last.copy_to_volatile_slice(*memory)).covering(data.len())
    }

    fn read(&self, _channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse {
        let len = beats(burst, data.len(), self.beat);
        let copy = |memory: &VolatileSlice<'_>| {
            for at in (0..data.len()).step_by(len) {
                memory.copy_to_volatile_slice(data.offset(at).expect("inside the data"));
            }
        };
        self.access(address, len, copy).covering(data.len())
    }

    fn user_read(&self, bar: usize, offset: u64) -> u32 {
        Self::register(bar, offset).map_or(0, |(bar, index)| lock(&self.registers)[bar][index])
    }

    fn user_write(&self, bar: usize, offset: u64, value: u32) {
        if let Some((bar, index)) = Self::register(bar, offset) {
            lock(&self.registers)[bar][index] = value;
            if offset == Self::USER_IRQ {
                self.drive_user_irqs(value);
            }
        }
    }

    fn reset(&self) {
        lock(&self.registers).fill([0; REGISTERS]);
        self.drive_user_irqs(0);
    }

    fn clear_memory(&self) {
        let zeros = [0_u8; BEAT * BEAT];
        for region in &self.regions {
            for mapping in region.chunks.iter().filter_map(|chunk| chunk.get()?.as_ref()) {
                let page = |at| mapping.slice(at, zeros.len());
                (0..region.chunk_bytes as usize)
                    .step_by(zeros.len())
                    .for_each(|at| page(at).copy_from(&zeros));
            }
        }
    }
}

impl AxiResponse {
    /// Extends a successful response for a part of a transfer to the whole transfer.
    fn covering(self, len: usize) -> Self {
        match self {
            Self::Okay(_) => Self::Okay(len),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_of_any_size_and_place_are_read_and_written_across_mappings() {
        let huge = MemoryRange { address: 1 << 62, size: 1 << 62 };
        let odd = MemoryRange { address: 0x1000, size: 256 << 20 };
        let memory = Memory::with_regions(vec![Region::new(odd), Region::new(huge)], BEAT);
        let bytes: Vec<u8> = (0..200).collect();
        for address in [0x1000 + CHUNK - 100, CHUNK - 100, 2 * CHUNK - 7] {
            memory.poke(address, &bytes);
            let mut seen = [0; 200];
            memory.peek(address, &mut seen);
            assert_eq!(seen[..], bytes);
        }
        // The host has no address space for so much, which is an error of that access only.
        let view = &mut [0; 64][..];
        let answer = memory.read(0, 1 << 62, Burst::Increment, &VolatileSlice::from(view));
        assert!(matches!(answer, AxiResponse::Okay(64) | AxiResponse::SlaveError), "{answer:?}");
    }
}
