//! The card as the `vfio_user` crate's server wants it.

use super::config_space;
use super::guest::Permissions;
use super::options::Options;
use super::slot::Slot;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_INFO_NORESIZE,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
    vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion};

/// Makes the server that serves a card with these options on the listening socket `socket`.
pub(super) fn server(socket: OwnedFd, options: &Options) -> Server {
    let regions = (0..VFIO_PCI_NUM_REGIONS).map(|index| region(index, options)).collect();
    let irqs = (0..VFIO_PCI_NUM_IRQS).map(|index| irq(index, options)).collect();
    Server::from_owned_fd(socket, options.function_reset, irqs, regions)
}

/// Sizes of the regions, by index.
pub(super) fn region_sizes(options: &Options) -> Vec<u64> {
    (0..VFIO_PCI_NUM_REGIONS).map(|index| region_size(index, options)).collect()
}

fn region_size(index: u32, options: &Options) -> u64 {
    let bar = options.profile.bars().iter().find(|bar| bar.index == index as usize);
    match bar {
        Some(bar) => bar.size,
        None if index == VFIO_PCI_CONFIG_REGION_INDEX => config_space::SIZE,
        None => 0,
    }
}

fn region(index: u32, options: &Options) -> ServerRegion {
    let size = region_size(index, options);
    let flags = if size == 0 { 0 } else { VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE };
    let argsz = size_of::<vfio_region_info>() as u32;
    ServerRegion {
        region_info: vfio_region_info { argsz, flags, index, cap_offset: 0, size, offset: 0 },
        sparse_areas: Vec::new(),
        mmap_fd: None,
    }
}

fn irq(index: u32, options: &Options) -> IrqInfo {
    let (count, extra) = match index {
        VFIO_PCI_INTX_IRQ_INDEX => (1, VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED),
        VFIO_PCI_MSI_IRQ_INDEX => (1, VFIO_IRQ_INFO_NORESIZE),
        VFIO_PCI_MSIX_IRQ_INDEX => (options.profile.vectors() as u32, VFIO_IRQ_INFO_NORESIZE),
        _ => (0, 0),
    };
    IrqInfo { index, flags: VFIO_IRQ_INFO_EVENTFD | extra, count }
}

/// A client's way to the card.
pub(super) struct Backend {
    slot: Arc<Slot>,
    /// The server forgets the number of an error; it is kept here for whoever carries the reply.
    errno: Arc<AtomicI32>,
}

impl Backend {
    pub fn new(slot: Arc<Slot>, errno: Arc<AtomicI32>) -> Self {
        Self { slot, errno }
    }

    fn note(&self, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &result {
            self.errno.store(error.raw_os_error().unwrap_or(libc::EINVAL), Ordering::SeqCst);
        }
        result
    }
}

impl ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        if region == VFIO_PCI_CONFIG_REGION_INDEX {
            self.slot.card().config_read(offset, data);
        } else {
            self.slot.card().bar_read(region as usize, offset, data);
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        if region == VFIO_PCI_CONFIG_REGION_INDEX {
            self.slot.card().config_write(offset, data);
        } else {
            self.slot.card().bar_write(region as usize, offset, data);
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> io::Result<()> {
        let (read, write) = (flags.contains(DmaMapFlags::READ), flags.contains(DmaMapFlags::WRITE));
        let mapped = self.slot.card().shared.guest.map(
            address,
            size,
            Permissions { read, write },
            file.as_ref(),
            offset,
        );
        tracing::trace!("map {address:#x} +{size:#x} read {read} write {write}: {mapped:?}");
        self.note(mapped)
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        tracing::trace!("unmap {address:#x} +{size:#x} {flags:?}");
        if flags.contains(DmaUnmapFlags::UNMAP_ALL) {
            self.slot.card().shared.guest.unmap_all();
            return Ok(());
        }
        self.note(self.slot.card().shared.guest.unmap(address, size))
    }

    fn reset(&mut self) -> io::Result<()> {
        let card = self.slot.card();
        if !card.shared.options.function_reset {
            return self.note(Err(io::Error::from_raw_os_error(libc::ENOTTY)));
        }
        card.reset();
        Ok(())
    }

    fn set_irqs(&mut self, index: u32, flags: u32, start: u32, count: u32, fds: Vec<File>) -> io::Result<()> {
        self.note(self.slot.card().shared.irq.set_irqs(index, flags, start, count, fds))
    }
}
