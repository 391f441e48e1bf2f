//! An emulated card with distorted register values.

use crate::scribbler::Scribbler;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::fmt;
use std::sync::{Arc, Mutex};
use vmm_sys_util::eventfd::EventFd;
use xdma::memory::CallerMemory;
use xdma::memory::{Access, MapError};
use xdma::unstable::bus::vfio_user::VfioUser;
use xdma::unstable::bus::{Bar, Bus, BusError, Description, InterruptKind};
use xdma::unstable::memory::{Addressing, Extent, Isolation, Mapper, MemoryRef};
use xdma_emulator::logic::Design;
use xdma_emulator::{EmulatedCard, EmulatorOptions};

/// Ways of distorting register values.
#[derive(Clone, Copy, Debug)]
pub enum Distortion {
    /// Not at all, and memory is not changed either.
    None,
    Constant(u32),
    Noise,
    /// One in this number of values has a flipped bit.
    Flip(u32),
    /// One in this number of values is random, including those of configuration space.
    Replace(u32),
    /// All values after the first `after` are replaced.
    After {
        after: u64,
        then: Replacement,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Replacement {
    Ones,
    Zeros,
    Noise,
    /// Bit 0 is set in addition, which is BUSY in status registers.
    Busy,
}

pub fn distortions() -> impl Strategy<Value = Distortion> {
    prop_oneof![
        (1u32..200).prop_map(Distortion::Flip),
        (1u32..200).prop_map(Distortion::Replace),
        (0u64..400).prop_map(|after| Distortion::After { after, then: Replacement::Noise }),
        (0u64..400).prop_map(|after| Distortion::After { after, then: Replacement::Busy }),
    ]
}

struct DistortedBus {
    // Dropped before the card.
    inner: VfioUser,
    _card: EmulatedCard,
    distorter: Arc<Distorter>,
}

#[derive(Debug)]
struct Distorter {
    distortion: Distortion,
    /// The random generator, and the number of values so far.
    state: Mutex<(StdRng, u64)>,
    scribbler: Scribbler,
}

impl Distorter {
    fn distort(&self, value: u32) -> u32 {
        if !matches!(self.distortion, Distortion::None) {
            self.scribbler.scribble();
        }
        let (rng, count) = &mut *self.state.lock().unwrap();
        *count += 1;
        match self.distortion {
            Distortion::Constant(constant) => constant,
            Distortion::Noise => rng.next_u32(),
            Distortion::Flip(of) if rng.random_ratio(1, of) => value ^ 1 << rng.random_range(0..32),
            Distortion::Replace(of) if rng.random_ratio(1, of) => rng.next_u32(),
            Distortion::After { after, then } if *count > after => match then {
                Replacement::Ones => !0,
                Replacement::Zeros => 0,
                Replacement::Noise => rng.next_u32(),
                Replacement::Busy => value | 1,
            },
            _ => value,
        }
    }
}

pub fn bus(distortion: Distortion, design: Design, seed: u64) -> Arc<dyn Bus> {
    let options = EmulatorOptions { seed, ..EmulatorOptions::default() }.with_function_reset(seed % 2 == 1);
    let card = EmulatedCard::start(options, design.build()).expect("an emulated card can be started");
    let inner = VfioUser::connect(card.socket()).expect("the card accepts a connection");
    let state = Mutex::new((StdRng::seed_from_u64(seed), 0));
    let distorter = Arc::new(Distorter { distortion, state, scribbler: Scribbler::new(seed) });
    Arc::new(DistortedBus { inner, _card: card, distorter })
}

// SAFETY: as for the inner bus. The scribbler only writes to memory that is mapped.
unsafe impl Mapper for DistortedBus {
    fn addressing(&self) -> Addressing {
        self.inner.addressing()
    }

    fn caller_memory(&self) -> CallerMemory {
        self.inner.caller_memory()
    }

    unsafe fn map(&self, memory: MemoryRef<'_>, iova: u64, access: Access) -> Result<Vec<Extent>, MapError> {
        // SAFETY: the caller's contract.
        let extents = unsafe { self.inner.map(memory, iova, access) }?;
        self.distorter.scribbler.mapped(memory, iova, access);
        Ok(extents)
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<(), MapError> {
        self.distorter.scribbler.unmapped(iova);
        self.inner.unmap(iova, len)
    }

    fn isolation(&self) -> Isolation {
        self.inner.isolation()
    }
}

impl Bus for DistortedBus {
    fn description(&self) -> &Description {
        self.inner.description()
    }

    fn bar(&self, index: usize) -> Result<Arc<dyn Bar>, BusError> {
        Ok(Arc::new(DistortedBar { inner: self.inner.bar(index)?, distorter: self.distorter.clone() }))
    }

    fn config_read(&self, offset: u16, width: u8) -> Result<u32, BusError> {
        let value = self.distorter.distort(self.inner.config_read(offset, width)?);
        Ok(value & (u32::MAX >> (32 - 8 * u32::from(width))))
    }

    fn config_write(&self, offset: u16, width: u8, value: u32) -> Result<(), BusError> {
        self.inner.config_write(offset, width, value)
    }

    fn reset(&self) -> Result<(), BusError> {
        self.inner.reset()
    }

    fn set_interrupts(&self, kind: InterruptKind, events: &[&EventFd]) -> Result<(), BusError> {
        self.inner.set_interrupts(kind, events)
    }

    fn unmask_intx(&self) -> Result<(), BusError> {
        self.inner.unmask_intx()
    }
}

struct DistortedBar {
    inner: Arc<dyn Bar>,
    distorter: Arc<Distorter>,
}

impl fmt::Debug for DistortedBar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

// SAFETY: `mapped` returns no pointer.
unsafe impl Bar for DistortedBar {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read32(&self, offset: u64) -> Result<u32, BusError> {
        Ok(self.distorter.distort(self.inner.read32(offset)?))
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
        self.inner.write32(offset, value)
    }
}
