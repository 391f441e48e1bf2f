//! A channel whose card is plain memory: registers store what is written, nothing runs, and completions are written by hand.
//!
//! Only benches and tests use it, so it panics where they would: `unwrap` says that the harness itself is broken.

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use xdma::bus::{Bar, BusError, Mapped, counts};
use xdma::channel::{Channel, ChannelOptions, Place, Program, Ring, Transfers, WriteBackArea};
use xdma::memory::{
    Access, Addressing, Buffer, CallerMemory, DmaSpace, Extent, HugePages, Isolation, MapError, Mapper,
    MemoryRef,
};
use xdma::regs::channel::{WRITE_BACK_HI, WRITE_BACK_LO};
use xdma::regs::{Direction, Identifier, REGISTER_SPACE, Target};

/// Registers as a mapped BAR has them.
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

// SAFETY: the registers are a field, on the heap, that is not replaced.
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
        // SAFETY: these are atomics, which live as long as this does.
        Some(unsafe { Mapped::new(base, self.size()) })
    }
}

/// Where device addresses lead to in this process.
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

// SAFETY: only the bench writes to memory, and looks for it here.
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

/// A channel of such a card, and memory for its transfers.
pub struct Plain {
    pub channel: Channel,
    pub scalars: Buffer,
    pub points: Buffer,
    #[allow(dead_code, reason = "not all who include this file need it")]
    pub space: Arc<DmaSpace>,
    bar: Arc<PlainBar>,
    mapper: Arc<PlainMapper>,
    /// Where completions went last, and descriptors completed since the engine was started to send them there.
    address: u64,
    completed: u32,
}

impl Plain {
    pub fn new(ring: Ring) -> Self {
        Self::of(ring, Direction::H2C)
    }

    pub fn of(ring: Ring, direction: Direction) -> Self {
        let (bar, mapper) = (Arc::new(PlainBar::new()), Arc::new(PlainMapper::default()));
        let access = if direction == Direction::H2C { Access::CardReads } else { Access::CardWrites };
        let space = Arc::new(DmaSpace::new(mapper.clone(), HugePages::default(), None, None));
        let [scalars, points] = [1 << 20, 2 << 20].map(|len| space.allocate(len, access).unwrap());
        let place = Place {
            bar: bar.clone(),
            words: Arc::new(WriteBackArea::new(&space).unwrap()),
            space: space.clone(),
            direction,
            channel: 0,
            idle_limit: xdma::channel::IDLE_LIMIT,
            recall: Default::default(),
            event: None,
            notice: Default::default(),
            counters: xdma::channel::Counters::private().unwrap(),
            lease: Box::new(()),
        };
        let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
        // SAFETY: nobody else knows this card.
        let channel = unsafe { Channel::open(place, options) }.unwrap();
        Self { channel, scalars, points, space, bar, mapper, address: 0, completed: 0 }
    }

    /// A program of `pairs` transfers from each of two buffers, as an MSM has them.
    pub fn transfers(&self, pairs: u64) -> Transfers {
        let mut transfers = Transfers::new(self.channel.direction());
        for at in 0..pairs {
            transfers.add(&self.scalars, at * 32..at * 32 + 32, 0x1000_0000).unwrap();
            transfers.add(&self.points, at * 64..at * 64 + 64, 0x2000_0000).unwrap();
        }
        transfers
    }

    pub fn program(&self, pairs: u64) -> Program {
        self.channel.program(&self.transfers(pairs)).unwrap()
    }

    /// The card is done with `descriptors` more: writes their count to where the channel told it to.
    pub fn complete(&mut self, descriptors: u32) {
        let block = Target::channel(self.channel.direction()).base(0);
        let [low, high] =
            [WRITE_BACK_LO, WRITE_BACK_HI].map(|at| self.bar.read32((block + at).into()).unwrap());
        let address = u64::from(high) << 32 | u64::from(low);
        if std::mem::replace(&mut self.address, address) != address {
            // The engine was started anew, and with it its count.
            self.completed = 0;
        }
        self.completed = (self.completed + descriptors) & 0xff_ffff;
        let word = self.mapper.pointer(address).cast::<u32>();
        // SAFETY: the channel gave this aligned address to the card for a 32-bit word, and keeps the word while it is open.
        unsafe { word.write_volatile(self.completed.to_le()) };
    }
}
