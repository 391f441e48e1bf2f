//! Memory by address: what the library would never give to a card.

use memmap2::MmapMut;
use std::sync::Arc;
use xdma::bus::vfio::{Mode, Vfio};
use xdma::bus::{Bus, PciAddress};
use xdma::card::{Card, CardOptions};
use xdma::memory::{
    Access, Addressing, Buffer, CallerMemory, DmaSpace, Extent, HugePages, MapError, Mapper, MemoryRef,
    PageSize,
};

/// The card, and the bus below it.
pub fn open() -> (Card, Arc<dyn Bus>) {
    let address: PciAddress = std::env::var("XDMA_CARD").unwrap().parse().unwrap();
    let bus: Arc<dyn Bus> = Arc::new(Vfio::open(address, Mode::from_environment().unwrap()).unwrap());
    (Card::on_bus(bus.clone(), CardOptions::default()).unwrap(), bus)
}

/// Pretends that memory is mapped at an address.
struct Pretender(u64);

impl Mapper for Pretender {
    fn addressing(&self) -> Addressing {
        Addressing::Chosen { ranges: vec![self.0..=self.0 + (1 << 30)], page_bytes: 4096 }
    }

    fn caller_memory(&self) -> CallerMemory {
        CallerMemory::Staged("nothing is mapped here")
    }

    unsafe fn map(&self, memory: MemoryRef<'_>, iova: u64, _: Access) -> Result<Vec<Extent>, MapError> {
        Ok(vec![Extent { offset: 0, address: iova, len: memory.len }])
    }

    fn unmap(&self, _: u64, _: u64) -> Result<(), MapError> {
        Ok(())
    }
}

/// A buffer that the card is told to find at `address`, whatever is there.
pub fn buffer_at(address: u64, len: u64, access: Access) -> Buffer {
    DmaSpace::new(Arc::new(Pretender(address)), HugePages::default(), None).allocate(len, access).unwrap()
}

const BYTES: u64 = 2 << 20;

/// A page of 2 MiB that holds `data`, mapped for the card to read at the address returned.
pub fn mapped_for_reading(bus: &dyn Bus, data: &[u8]) -> (MmapMut, u64) {
    let mut memory = memmap2::MmapOptions::new().len(BYTES as usize).huge(Some(21)).map_anon().unwrap();
    memory[..data.len()].copy_from_slice(data);
    let page = MemoryRef { ptr: memory.as_mut_ptr(), len: BYTES, file: None, page: PageSize::Huge2M };
    // SAFETY: the card only reads, and no test frees the memory before it is done.
    let extents = unsafe { bus.map(page, 1 << 33, Access::CardReads) }.unwrap();
    (memory, extents[0].address)
}

/// The same, but it is not mapped any more.
pub fn mapped_once(bus: &dyn Bus, data: &[u8]) -> (MmapMut, u64) {
    let (memory, address) = mapped_for_reading(bus, data);
    bus.unmap(address, BYTES).unwrap();
    (memory, address)
}
