//! A true emulated card, of whose answers not all arrive as they were given.

use crate::scribbler::Scribbler;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::fmt;
use std::sync::{Arc, Mutex};
use vmm_sys_util::eventfd::EventFd;
use xdma::memory::{Access, MapError};
use xdma::unstable::bus::vfio_user::VfioUser;
use xdma::unstable::bus::{Bar, Bus, BusError, Description};
use xdma::unstable::memory::{Addressing, CallerMemory, Extent, Isolation, Mapper, MemoryRef};
use xdma_emulator::logic::Design;
use xdma_emulator::{EmulatedCard, Options};

/// What becomes of an answer.
#[derive(Clone, Copy, Debug)]
pub enum Lie {
    /// Nothing, and no memory is scribbled on.
    None,
    Constant(u32),
    Noise,
    /// One in so many has a bit turned over.
    Flip(u32),
    /// One in so many is anything, in configuration space too.
    Replace(u32),
    /// The first so many are true.
    After {
        after: u64,
        then: Turn,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Turn {
    Ones,
    Zeros,
    Noise,
    /// The lowest bit is set, which is BUSY where it matters.
    Busy,
}

pub fn lies() -> impl Strategy<Value = Lie> {
    prop_oneof![
        (1u32..200).prop_map(Lie::Flip),
        (1u32..200).prop_map(Lie::Replace),
        (0u64..400).prop_map(|after| Lie::After { after, then: Turn::Noise }),
        (0u64..400).prop_map(|after| Lie::After { after, then: Turn::Busy }),
    ]
}

struct Distorted {
    // Closed before the card ends.
    inner: VfioUser,
    _card: EmulatedCard,
    liar: Arc<Liar>,
}

#[derive(Debug)]
struct Liar {
    lie: Lie,
    state: Mutex<(StdRng, u64)>,
    scribbler: Scribbler,
}

impl Liar {
    fn distort(&self, value: u32) -> u32 {
        if !matches!(self.lie, Lie::None) {
            self.scribbler.scribble();
        }
        let (rng, asked) = &mut *self.state.lock().unwrap();
        *asked += 1;
        match self.lie {
            Lie::Constant(constant) => constant,
            Lie::Noise => rng.next_u32(),
            Lie::Flip(of) if rng.random_ratio(1, of) => value ^ 1 << rng.random_range(0..32),
            Lie::Replace(of) if rng.random_ratio(1, of) => rng.next_u32(),
            Lie::After { after, then } if *asked > after => match then {
                Turn::Ones => !0,
                Turn::Zeros => 0,
                Turn::Noise => rng.next_u32(),
                Turn::Busy => value | 1,
            },
            _ => value,
        }
    }
}

pub fn bus(lie: Lie, design: Design, seed: u64) -> Arc<dyn Bus> {
    let options = Options { seed, function_reset: seed % 2 == 1, ..Options::default() };
    let card = EmulatedCard::start(options, design.build()).expect("it starts");
    let inner = VfioUser::connect(card.socket()).expect("it is there");
    let state = Mutex::new((StdRng::seed_from_u64(seed), 0));
    let liar = Arc::new(Liar { lie, state, scribbler: Scribbler::new(seed) });
    Arc::new(Distorted { inner, _card: card, liar })
}

// SAFETY: as the card behind it, and the scribbler forgets what is unmapped.
unsafe impl Mapper for Distorted {
    fn addressing(&self) -> Addressing {
        self.inner.addressing()
    }

    fn caller_memory(&self) -> CallerMemory {
        self.inner.caller_memory()
    }

    unsafe fn map(&self, memory: MemoryRef<'_>, iova: u64, access: Access) -> Result<Vec<Extent>, MapError> {
        // SAFETY: the caller's promise is handed on.
        let extents = unsafe { self.inner.map(memory, iova, access) }?;
        self.liar.scribbler.mapped(memory, iova, access);
        Ok(extents)
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<(), MapError> {
        self.liar.scribbler.unmapped(iova);
        self.inner.unmap(iova, len)
    }

    fn isolation(&self) -> Isolation {
        self.inner.isolation()
    }
}

impl Bus for Distorted {
    fn description(&self) -> &Description {
        self.inner.description()
    }

    fn bar(&self, index: usize) -> Result<Arc<dyn Bar>, BusError> {
        Ok(Arc::new(DistortedBar { inner: self.inner.bar(index)?, liar: self.liar.clone() }))
    }

    fn config_read(&self, offset: u16, width: u8) -> Result<u32, BusError> {
        let value = self.liar.distort(self.inner.config_read(offset, width)?);
        Ok(value & (u32::MAX >> (32 - 8 * u32::from(width))))
    }

    fn config_write(&self, offset: u16, width: u8, value: u32) -> Result<(), BusError> {
        self.inner.config_write(offset, width, value)
    }

    fn reset(&self) -> Result<(), BusError> {
        self.inner.reset()
    }

    fn set_interrupts(&self, first: u32, events: &[&EventFd]) -> Result<(), BusError> {
        self.inner.set_interrupts(first, events)
    }
}

struct DistortedBar {
    inner: Arc<dyn Bar>,
    liar: Arc<Liar>,
}

impl fmt::Debug for DistortedBar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

// SAFETY: nothing is mapped.
unsafe impl Bar for DistortedBar {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read32(&self, offset: u64) -> Result<u32, BusError> {
        Ok(self.liar.distort(self.inner.read32(offset)?))
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
        self.inner.write32(offset, value)
    }
}
