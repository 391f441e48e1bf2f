//! A bus with buffers at arbitrary device addresses, which the library never uses on its own.

use memmap2::MmapMut;
use std::sync::{Arc, Mutex};
use vmm_sys_util::eventfd::EventFd;
use xdma::card::{Card, CardOptions};
use xdma::memory::CallerMemory;
use xdma::memory::{Access, Buffer, MapError, PageSize};
use xdma::regs::Direction;
use xdma::unstable::bus::vfio::{Mode, Vfio};
use xdma::unstable::bus::{Bar, Bus, BusError, Description, InterruptKind, PciAddress};
use xdma::unstable::card::on_bus;
use xdma::unstable::memory::{Addressing, Extent, Isolation, Mapper, MemoryRef};

/// Opens the card on such a bus.
pub fn open() -> (Card, Arc<RemappingBus>) {
    let address: PciAddress = std::env::var("XDMA_CARD").unwrap().parse().unwrap();
    let bus = Vfio::open(address, Mode::from_environment().unwrap()).unwrap();
    let bus = Arc::new(RemappingBus { bus, next_address: Mutex::default() });
    // SAFETY: this is the only user of the card.
    let card = unsafe { on_bus(bus.clone(), CardOptions::default()) }.unwrap();
    (card, bus)
}

/// Forwards everything to a VFIO bus, but can report a mapping at another address without creating it.
pub struct RemappingBus {
    bus: Vfio,
    /// If set, the next call to `map` creates no mapping, and claims one at this address.
    next_address: Mutex<Option<u64>>,
}

// SAFETY: memory that is reported at another address is not mapped, so the card cannot reach it.
unsafe impl Mapper for RemappingBus {
    fn addressing(&self) -> Addressing {
        self.bus.addressing()
    }

    fn caller_memory(&self) -> CallerMemory {
        self.bus.caller_memory()
    }

    unsafe fn map(&self, memory: MemoryRef<'_>, iova: u64, access: Access) -> Result<Vec<Extent>, MapError> {
        match self.next_address.lock().unwrap().take() {
            Some(address) => Ok(vec![Extent { offset: 0, address, len: memory.len }]),
            // SAFETY: the caller's contract.
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

impl Bus for RemappingBus {
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

    fn set_interrupts(&self, kind: InterruptKind, events: &[&EventFd]) -> Result<(), BusError> {
        self.bus.set_interrupts(kind, events)
    }

    fn unmask_intx(&self) -> Result<(), BusError> {
        self.bus.unmask_intx()
    }
}

impl RemappingBus {
    /// Returns a buffer with the device address `address`, whatever is mapped there. It is leaked, since it has no mapping that
    /// could be removed.
    pub fn buffer_at(&self, card: &Card, address: u64, direction: Direction) -> &'static Buffer {
        *self.next_address.lock().unwrap() = Some(address);
        let buffer = card.allocate(BYTES, direction).unwrap();
        assert_eq!(buffer.address(), address);
        Box::leak(Box::new(buffer))
    }

    /// Maps a page of 2 MiB with `data` for reading by the card. Returns the page and its device address.
    pub fn map_read_only(&self, data: &[u8]) -> (MmapMut, u64) {
        let mut memory = memmap2::MmapOptions::new().len(BYTES as usize).huge(Some(21)).map_anon().unwrap();
        memory[..data.len()].copy_from_slice(data);
        let page = MemoryRef { ptr: memory.as_mut_ptr(), len: BYTES, file: None, page: PageSize::Huge2M };
        // SAFETY: the card only reads, and no test frees the memory before it is done.
        let extents = unsafe { self.bus.map(page, 1 << 33, Access::CardReads) }.unwrap();
        (memory, extents[0].address)
    }

    /// Like `map_read_only`, but unmaps the page again.
    pub fn map_and_unmap(&self, data: &[u8]) -> (MmapMut, u64) {
        let (memory, address) = self.map_read_only(data);
        self.bus.unmap(address, BYTES).unwrap();
        (memory, address)
    }
}

const BYTES: u64 = 2 << 20;
