//! A channel of a card that is plain memory: registers store the values written to them, no engine runs, and the bench writes
//! completions.
//!
//! Only benches and tests use it. It panics if it is used incorrectly.

pub mod callgrind;
pub mod comparison;
pub mod in_c;

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use xdma::card::CardOptions;
use xdma::channel::{Channel, ChannelOptions, Program, Ring, Transfers};
use xdma::memory::CallerMemory;
use xdma::memory::{Access, Buffer, HugePages, MapError};
use xdma::regs::channel::{WRITE_BACK_HI, WRITE_BACK_LO};
use xdma::regs::{Direction, Identifier, REGISTER_SPACE, Target};
use xdma::unstable::bus::{Bar, BusError, Mapped, counts};
use xdma::unstable::channel::{self, ChannelContext, Counters, WriteBackArea};
use xdma::unstable::memory::{Addressing, DmaSpace, Extent, Isolation, Mapper, MemoryRef};

/// Registers in plain memory, accessed like those of a mapped BAR.
#[derive(Debug)]
pub struct PlainBar {
    registers: Box<[AtomicU32]>,
}

impl PlainBar {
    fn new() -> Self {
        let registers: Box<[AtomicU32]> = (0..REGISTER_SPACE / 4).map(|_| AtomicU32::new(0)).collect();
        for target in [Target::H2C, Target::C2H] {
            let identifier = Identifier::new(target, 0, false);
            registers[target.base(0) as usize / 4].store(identifier.0, Ordering::Relaxed);
        }
        Self { registers }
    }

    #[inline]
    fn register(&self, offset: u64) -> Result<&AtomicU32, BusError> {
        match self.registers.get(offset as usize / 4) {
            Some(register) if offset.is_multiple_of(4) => Ok(register),
            _ => Err(BusError::BadOffset { offset, size: self.size() }),
        }
    }
}

// SAFETY: `mapped` returns the registers, which are on the heap and live as long as the BAR.
unsafe impl Bar for PlainBar {
    fn size(&self) -> u64 {
        self.registers.len() as u64 * 4
    }

    fn read32(&self, offset: u64) -> Result<u32, BusError> {
        let register = self.register(offset)?;
        counts::register_read();
        Ok(register.load(Ordering::Relaxed))
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
        let register = self.register(offset)?;
        counts::register_write();
        register.store(value, Ordering::Relaxed);
        Ok(())
    }

    fn mapped(&self) -> Option<Mapped<'_>> {
        let base = NonNull::new(self.registers.as_ptr().cast_mut().cast())?;
        // SAFETY: the registers are atomics, and live as long as `self`.
        Some(unsafe { Mapped::new(base, self.size()) })
    }
}

/// Maps device addresses to memory of this process.
#[derive(Debug, Default)]
pub struct PlainMapper(Mutex<BTreeMap<u64, (usize, u64)>>);

impl PlainMapper {
    fn pointer(&self, iova: u64) -> *mut u8 {
        let maps = self.0.lock().unwrap();
        let (base, (ptr, len)) = maps.range(..=iova).next_back().expect("the address is mapped");
        assert!(iova - base < *len, "the address is mapped");
        (ptr + (iova - base) as usize) as *mut u8
    }
}

// SAFETY: only the bench accesses the memory, through this map, which contains only mapped memory.
unsafe impl Mapper for PlainMapper {
    fn addressing(&self) -> Addressing {
        Addressing::Chosen { ranges: vec![0..=1 << 46], page_bytes: 4096 }
    }

    fn caller_memory(&self) -> CallerMemory {
        CallerMemory::Pinned
    }

    unsafe fn map(&self, memory: MemoryRef<'_>, iova: u64, _: Access) -> Result<Vec<Extent>, MapError> {
        self.0.lock().unwrap().insert(iova, (memory.ptr as usize, memory.len));
        Ok(vec![Extent { offset: 0, address: iova, len: memory.len }])
    }

    fn unmap(&self, iova: u64, _: u64) -> Result<(), MapError> {
        self.0.lock().unwrap().remove(&iova);
        Ok(())
    }

    fn isolation(&self) -> Isolation {
        Isolation::Iommu
    }
}

/// A channel of a card in plain memory, with buffers for its transfers.
pub struct Plain {
    pub channel: Channel,
    pub scalars: Buffer,
    pub points: Buffer,
    #[allow(dead_code, reason = "not every user of this type needs it")]
    pub space: Arc<DmaSpace>,
    pub engine: PlainEngine,
}

/// The engine of a channel of a card in plain memory.
pub struct PlainEngine {
    direction: Direction,
    bar: Arc<PlainBar>,
    mapper: Arc<PlainMapper>,
    /// Address of the last write-back.
    address: u64,
    /// Descriptors completed since the engine was last started.
    completed: u32,
}

impl Plain {
    /// Opens an H2C channel.
    pub fn new(ring: Ring) -> Self {
        Self::of(ring, Direction::H2C)
    }

    /// Opens a channel of a direction.
    pub fn of(ring: Ring, direction: Direction) -> Self {
        let (bar, mapper) = (Arc::new(PlainBar::new()), Arc::new(PlainMapper::default()));
        let access = if direction == Direction::H2C { Access::CardReads } else { Access::CardWrites };
        let space = Arc::new(DmaSpace::new(mapper.clone(), HugePages::default(), None, None));
        let [scalars, points] = [1 << 20, 2 << 20].map(|len| space.allocate(len, access).unwrap());
        let context = ChannelContext {
            bar: bar.clone(),
            write_back: Arc::new(WriteBackArea::new(&space).unwrap()),
            space: space.clone(),
            direction,
            channel: 0,
            idle_limit: CardOptions::default().idle_limit,
            recalled: Default::default(),
            event: None,
            shared: Default::default(),
            counters: Counters::private().unwrap(),
            lease: Box::new(()),
        };
        let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
        // SAFETY: this is the only user of the card.
        let channel = unsafe { channel::open(context, options) }.unwrap();
        Self {
            channel,
            scalars,
            points,
            space,
            engine: PlainEngine { direction, bar, mapper, address: 0, completed: 0 },
        }
    }

    /// Returns a list of `pairs` transfers from each of two buffers, interleaved as for an MSM.
    pub fn transfers(&self, pairs: u64) -> Transfers {
        let mut transfers = Transfers::new(self.channel.direction());
        for at in 0..pairs {
            transfers.add(&self.scalars, at * 32..at * 32 + 32, 0x1000_0000).unwrap();
            transfers.add(&self.points, at * 64..at * 64 + 64, 0x2000_0000).unwrap();
        }
        transfers
    }

    /// Builds a program of [`transfers`](Self::transfers).
    pub fn program(&self, pairs: u64) -> Program {
        self.channel.program(&self.transfers(pairs)).unwrap()
    }

    /// Completes this number of descriptors, as [`PlainEngine::complete`] does.
    pub fn complete(&mut self, descriptors: u32) {
        self.engine.complete(descriptors);
    }
}

impl PlainEngine {
    /// Completes this number of descriptors: writes the new count to the write-back address of the channel, as the engine would.
    pub fn complete(&mut self, descriptors: u32) {
        let block = Target::channel(self.direction).base(0);
        let [low, high] =
            [WRITE_BACK_LO, WRITE_BACK_HI].map(|at| self.bar.read32((block + at).into()).unwrap());
        let address = u64::from(high) << 32 | u64::from(low);
        if std::mem::replace(&mut self.address, address) != address {
            // The engine was started again, which resets its count.
            self.completed = 0;
        }
        self.completed = (self.completed + descriptors) & 0xff_ffff;
        let word = self.mapper.pointer(address).cast::<u32>();
        // SAFETY: the channel wrote this aligned address to the card's registers for a 32-bit word, which exists while the channel
        // is open.
        unsafe { word.write_volatile(self.completed.to_le()) };
    }
}
