//! A bus without a card: registers are mapped memory, as under `vfio-pci`, and a thread writes random values to them and to memory
//! that the card may write.

use crate::scribbler::Scribbler;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use vmm_sys_util::eventfd::EventFd;
use xdma::memory::CallerMemory;
use xdma::memory::{Access, MapError};
use xdma::unstable::bus::{BARS, Bar, Bus, BusError, Description, InterruptKind, Mapped};
use xdma::unstable::memory::{Addressing, Extent, Isolation, Mapper, MemoryRef};

/// Number of registers of the XDMA BAR.
const WORDS: usize = 1 << 14;

struct RandomCard {
    description: Description,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    registers: Box<[AtomicU32]>,
    scribbler: Scribbler,
    rng: Mutex<StdRng>,
    /// Whether identifier registers always have correct values.
    valid_identifiers: bool,
    over: AtomicBool,
}

impl Shared {
    /// Returns a random value for a register.
    fn value(&self, offset: u64) -> u32 {
        let rng = &mut *self.rng.lock().unwrap();
        // The identifiers of blocks and channels are at the start of each 256 bytes (PG195).
        if offset.is_multiple_of(0x100) && (self.valid_identifiers || rng.random_bool(0.9)) {
            return 0x1fc0_0006 | (offset as u32 & 0xf000) << 4 | offset as u32 & 0xf00;
        }
        match rng.random_range(0..4) {
            0 => 0,
            1 => 1 << rng.random_range(0..32),
            2 => rng.random_range(0..2000),
            _ => rng.next_u32(),
        }
    }

    /// Writes random values until the bus is dropped.
    fn run(&self) {
        let mut at = 0;
        while !self.over.load(Ordering::Relaxed) {
            for _ in 0..64 {
                at = (at + 1) % WORDS;
                self.registers[at].store(self.value(4 * at as u64), Ordering::Relaxed);
            }
            self.scribbler.scribble();
            std::thread::yield_now();
        }
    }
}

pub fn bus(seed: u64, valid_identifiers: bool) -> Arc<dyn Bus> {
    let mut bars = [0; BARS];
    (bars[0], bars[2]) = (32 << 20, 4 * WORDS as u64);
    let description = Description {
        kind: "random",
        location: "nowhere".into(),
        bars,
        vectors: 33,
        msi_vectors: 1,
        intx: true,
        resettable: seed.is_multiple_of(2),
        registers_by_system_call: false,
        page_sizes: 4096,
        iova_bits: 47,
        node: None,
        notes: vec![],
    };
    let shared = Arc::new(Shared {
        registers: std::iter::repeat_with(AtomicU32::default).take(WORDS).collect(),
        scribbler: Scribbler::new(seed),
        rng: Mutex::new(StdRng::seed_from_u64(seed)),
        valid_identifiers,
        over: AtomicBool::new(false),
    });
    for (at, register) in shared.registers.iter().enumerate() {
        register.store(shared.value(4 * at as u64), Ordering::Relaxed);
    }
    let thread = {
        let shared = shared.clone();
        std::thread::spawn(move || shared.run())
    };
    Arc::new(RandomCard { description, shared, thread: Some(thread) })
}

impl Drop for RandomCard {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread does not panic");
        }
    }
}

// SAFETY: the scribbler only writes to memory that is mapped.
unsafe impl Mapper for RandomCard {
    fn addressing(&self) -> Addressing {
        Addressing::Chosen { ranges: vec![0..=1 << 46], page_bytes: 4096 }
    }

    fn caller_memory(&self) -> CallerMemory {
        CallerMemory::Pinned
    }

    unsafe fn map(&self, memory: MemoryRef<'_>, iova: u64, access: Access) -> Result<Vec<Extent>, MapError> {
        self.shared.scribbler.mapped(memory, iova, access);
        Ok(vec![Extent { offset: 0, address: iova, len: memory.len }])
    }

    fn unmap(&self, iova: u64, _: u64) -> Result<(), MapError> {
        self.shared.scribbler.unmapped(iova);
        Ok(())
    }

    fn isolation(&self) -> Isolation {
        Isolation::Iommu
    }
}

impl Bus for RandomCard {
    fn description(&self) -> &Description {
        &self.description
    }

    fn bar(&self, index: usize) -> Result<Arc<dyn Bar>, BusError> {
        match self.description.bars[index] {
            0 => Err(BusError::NoBar(index)),
            size => Ok(Arc::new(RandomBar { shared: self.shared.clone(), size, registers: index == 2 })),
        }
    }

    fn config_read(&self, offset: u16, width: u8) -> Result<u32, BusError> {
        // Return the vendor whose cards have their registers in BAR2, so that the driver finds them.
        let value = if offset == 0 { 0x1d0f } else { self.shared.value(u64::from(offset) + 1) };
        Ok(value & (u32::MAX >> (32 - 8 * u32::from(width))))
    }

    fn config_write(&self, _: u16, _: u8, _: u32) -> Result<(), BusError> {
        Ok(())
    }

    fn reset(&self) -> Result<(), BusError> {
        Ok(())
    }

    fn set_interrupts(&self, _: InterruptKind, _: &[&EventFd]) -> Result<(), BusError> {
        Ok(())
    }

    fn unmask_intx(&self) -> Result<(), BusError> {
        Ok(())
    }
}

#[derive(Debug)]
struct RandomBar {
    shared: Arc<Shared>,
    size: u64,
    registers: bool,
}

// SAFETY: `mapped` returns the registers, which `shared` keeps alive.
unsafe impl Bar for RandomBar {
    fn size(&self) -> u64 {
        self.size
    }

    fn read32(&self, offset: u64) -> Result<u32, BusError> {
        use xdma::regs::msm::{
            EXTENSION_ID, EXTENSION_ID_VALUE, IMAGE_ID, IMAGE_ID_VALUE, IMAGE_PARAMETERS, RESULT_VALID,
        };
        let value = self.shared.value(offset);
        // The user BAR looks like the MSM design, with random parameters.
        Ok(match u32::try_from(offset) {
            Ok(IMAGE_ID) if !self.registers => IMAGE_ID_VALUE,
            Ok(EXTENSION_ID) if !self.registers => EXTENSION_ID_VALUE,
            Ok(IMAGE_PARAMETERS) if !self.registers => value & 0xf00f_ffff | 1 << 20,
            Ok(RESULT_VALID) if !self.registers => value & 1,
            _ => value,
        })
    }

    fn write32(&self, _: u64, _: u32) -> Result<(), BusError> {
        Ok(())
    }

    fn mapped(&self) -> Option<Mapped<'_>> {
        let base = NonNull::new(self.shared.registers.as_ptr().cast_mut().cast())?;
        // SAFETY: the registers are atomics, and live as long as `self.shared`.
        self.registers.then(|| unsafe { Mapped::new(base, self.size) })
    }
}
