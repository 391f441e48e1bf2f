//! Memory by address: what the library would never give to a card.

use memmap2::MmapMut;
use std::sync::{Arc, Mutex};
use vmm_sys_util::eventfd::EventFd;
use xdma::card::{Card, CardOptions};
use xdma::memory::{Access, Buffer, MapError, PageSize};
use xdma::regs::Direction;
use xdma::unstable::bus::vfio::{Mode, Vfio};
use xdma::unstable::bus::{Bar, Bus, BusError, Description, PciAddress};
use xdma::unstable::card::on_bus;
use xdma::unstable::memory::{Addressing, CallerMemory, Extent, Isolation, Mapper, MemoryRef};

/// The card, and the bus below it.
pub fn open() -> (Card, Arc<Liar>) {
    let address: PciAddress = std::env::var("XDMA_CARD").unwrap().parse().unwrap();
    let bus = Vfio::open(address, Mode::from_environment().unwrap()).unwrap();
    let liar = Arc::new(Liar { bus, pretended: Mutex::default() });
    // SAFETY: tests only map and unmap memory of their own.
    let card = unsafe { on_bus(liar.clone(), CardOptions::default()) }.unwrap();
    (card, liar)
}

/// The bus, which maps what it is asked to map, or pretends that it is mapped at an address.
pub struct Liar {
    bus: Vfio,
    /// What the next mapping is said to be.
    pretended: Mutex<Option<u64>>,
}

// SAFETY: what is said to be mapped is not, so the card never reaches that memory.
unsafe impl Mapper for Liar {
    fn addressing(&self) -> Addressing {
        self.bus.addressing()
    }

    fn caller_memory(&self) -> CallerMemory {
        self.bus.caller_memory()
    }

    unsafe fn map(&self, memory: MemoryRef<'_>, iova: u64, access: Access) -> Result<Vec<Extent>, MapError> {
        match self.pretended.lock().unwrap().take() {
            Some(address) => Ok(vec![Extent { offset: 0, address, len: memory.len }]),
            // SAFETY: passed on to our caller.
            None => unsafe { self.bus.map(memory, iova, access) },
        }
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<(), MapError> {
        self.bus.unmap(iova, len)
    }

    fn isolation(&self) -> Isolation {
        self.bus.isolation()
    }

    fn is_cut_off(&self) -> bool {
        self.bus.is_cut_off()
    }
}

impl Bus for Liar {
    fn description(&self) -> &Description {
        self.bus.description()
    }

    fn bar(&self, index: usize) -> Result<Arc<dyn Bar>, BusError> {
        self.bus.bar(index)
    }

    fn config_read(&self, offset: u16, width: u8) -> Result<u32, BusError> {
        self.bus.config_read(offset, width)
    }

    fn config_write(&self, offset: u16, width: u8, value: u32) -> Result<(), BusError> {
        self.bus.config_write(offset, width, value)
    }

    fn reset(&self) -> Result<(), BusError> {
        self.bus.reset()
    }

    fn set_interrupts(&self, first: u32, events: &[&EventFd]) -> Result<(), BusError> {
        self.bus.set_interrupts(first, events)
    }
}

impl Liar {
    /// A buffer that claims to lie at device address `address`, whatever is mapped there. It is leaked, since nothing is mapped for it.
    pub fn buffer_at(&self, card: &Card, address: u64, direction: Direction) -> &'static Buffer {
        *self.pretended.lock().unwrap() = Some(address);
        let buffer = card.allocate(BYTES, direction).unwrap();
        assert_eq!(buffer.address(), address);
        Box::leak(Box::new(buffer))
    }

    /// A page of 2 MiB that holds `data`, mapped for the card to read at the address returned.
    pub fn mapped_for_reading(&self, data: &[u8]) -> (MmapMut, u64) {
        let mut memory = memmap2::MmapOptions::new().len(BYTES as usize).huge(Some(21)).map_anon().unwrap();
        memory[..data.len()].copy_from_slice(data);
        let page = MemoryRef { ptr: memory.as_mut_ptr(), len: BYTES, file: None, page: PageSize::Huge2M };
        // SAFETY: the card only reads, and no test frees the memory before it is done.
        let extents = unsafe { self.bus.map(page, 1 << 33, Access::CardReads) }.unwrap();
        (memory, extents[0].address)
    }

    /// The same, but it is not mapped any more.
    pub fn mapped_once(&self, data: &[u8]) -> (MmapMut, u64) {
        let (memory, address) = self.mapped_for_reading(data);
        self.bus.unmap(address, BYTES).unwrap();
        (memory, address)
    }
}

const BYTES: u64 = 2 << 20;
