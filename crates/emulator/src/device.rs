//! The card as a vfio-user device: executes commands, and describes its regions and interrupts.

use super::command::{Command, MAP_READ, MAP_WRITE, RegionAccess, UNMAP_ALL};
use super::config_space;
use super::guest::{PAGE, Permissions};
use super::options::EmulatorOptions;
use super::slot::Slot;
use super::wire::{MAX_DATA, Message, Reply};
use std::fs::File;
use std::io;
use std::sync::Arc;
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD,
    VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_INFO_NORESIZE, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS,
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
};
use xdma_card_file::Intx;

/// The vfio-user device of a card.
pub(super) struct Device {
    slot: Arc<Slot>,
    /// Region sizes by index. Loading an image does not change them.
    regions: [u64; VFIO_PCI_NUM_REGIONS as usize],
}

fn region_size(index: u32, options: &EmulatorOptions) -> u64 {
    let bar = options.card.bars.iter().find(|bar| bar.index == index as usize);
    match bar {
        Some(bar) => bar.size,
        None if index == VFIO_PCI_CONFIG_REGION_INDEX => config_space::SIZE,
        None => 0,
    }
}

fn errno_error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl Device {
    pub fn new(slot: Arc<Slot>) -> Self {
        let regions = {
            let card = slot.card();
            std::array::from_fn(|index| region_size(index as u32, &card.shared.options))
        };
        Self { slot, regions }
    }

    /// Executes a message and returns the reply, unless the client asked for none. A malformed message is an error, which ends
    /// the connection.
    pub fn handle(&self, mut message: Message) -> io::Result<Option<Reply>> {
        let mut reply = Reply::to(&message);
        let done = self.execute(Command::parse(&mut message)?, &mut reply);
        let reply = match done {
            Ok(()) => reply,
            Err(error) => Reply::error(&message, error.raw_os_error().unwrap_or(libc::EINVAL)),
        };
        Ok((!message.is_posted()).then_some(reply))
    }

    /// Executes a command and appends its results to the reply.
    fn execute(&self, command: Command<'_>, reply: &mut Reply) -> io::Result<()> {
        match command {
            Command::Version => put_version(reply),
            Command::DmaMap { flags, offset, address, size, file } => {
                self.dma_map(flags, offset, address, size, file)?;
            }
            Command::DmaUnmap { flags, address, size } => {
                self.dma_unmap(flags, address, size)?;
                put_words(reply, &[24, flags]);
                put_longs(reply, &[address, size]);
            }
            Command::DeviceInfo => self.put_info(reply),
            Command::RegionInfo { index } => self.put_region(index, reply)?,
            Command::IrqInfo { index } => self.put_irq(index, reply)?,
            Command::SetIrqs { flags, index, start, count, files } => {
                self.set_irqs(index, flags, start, count, files)?;
            }
            Command::RegionRead(access) => {
                self.check(access)?;
                put_access(reply, access);
                self.region_read(access, reply.put_zeroed(access.count as usize));
            }
            Command::RegionWrite(access, data) => {
                self.check(access)?;
                put_access(reply, access);
                self.region_write(access, data);
            }
            Command::Reset => self.reset()?,
            Command::Unsupported => return Err(errno_error(libc::ENOTSUP)),
        }
        Ok(())
    }

    fn put_info(&self, reply: &mut Reply) {
        let resets = match self.slot.card().shared.options.card.function.reset {
            true => VFIO_DEVICE_FLAGS_RESET,
            false => 0,
        };
        put_words(reply, &[16, VFIO_DEVICE_FLAGS_PCI | resets, VFIO_PCI_NUM_REGIONS, VFIO_PCI_NUM_IRQS]);
    }

    fn put_region(&self, index: u32, reply: &mut Reply) -> io::Result<()> {
        let size = *self.regions.get(index as usize).ok_or_else(|| errno_error(libc::EINVAL))?;
        let flags = if size == 0 { 0 } else { VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE };
        let (capabilities, offset) = (0, 0);
        put_words(reply, &[32, flags, index, capabilities]);
        put_longs(reply, &[size, offset]);
        Ok(())
    }

    fn put_irq(&self, index: u32, reply: &mut Reply) -> io::Result<()> {
        let card = self.slot.card();
        let function = &card.shared.options.card.function;
        let (count, extra) = match index {
            VFIO_PCI_INTX_IRQ_INDEX => {
                let count = u32::from(function.intx != Intx::None);
                (count, VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED)
            }
            VFIO_PCI_MSI_IRQ_INDEX => (function.msi_vectors.into(), VFIO_IRQ_INFO_NORESIZE),
            VFIO_PCI_MSIX_IRQ_INDEX => {
                (function.msix.map_or(0, |msix| msix.vectors.into()), VFIO_IRQ_INFO_NORESIZE)
            }
            _ if index < VFIO_PCI_NUM_IRQS => (0, 0),
            _ => return Err(errno_error(libc::EINVAL)),
        };
        put_words(reply, &[16, VFIO_IRQ_INFO_EVENTFD | extra, index, count]);
        Ok(())
    }

    /// Returns an error unless the access lies within its region.
    pub fn check(&self, access: RegionAccess) -> io::Result<()> {
        let end = access.offset.checked_add(access.count.into());
        let size = self.regions.get(access.region as usize);
        match end.zip(size).is_some_and(|(end, &size)| end <= size) {
            true => Ok(()),
            false => Err(errno_error(libc::EINVAL)),
        }
    }

    /// Reads from a region. The access must have been [checked](Self::check).
    pub fn region_read(&self, access: RegionAccess, data: &mut [u8]) {
        let (card, RegionAccess { offset, region, .. }) = (self.slot.card(), access);
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => card.config_read(offset, data),
            _ => card.bar_read(region as usize, offset, data),
        }
    }

    /// Writes to a region. The access must have been [checked](Self::check).
    pub fn region_write(&self, access: RegionAccess, data: &[u8]) {
        let (card, RegionAccess { offset, region, .. }) = (self.slot.card(), access);
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => card.config_write(offset, data),
            _ => card.bar_write(region as usize, offset, data),
        }
    }

    pub fn dma_map(
        &self,
        flags: u32,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> io::Result<()> {
        let allowed = Permissions { read: flags & MAP_READ != 0, write: flags & MAP_WRITE != 0 };
        let mapped = self.slot.card().shared.guest.map(address, size, allowed, file.as_ref(), offset);
        tracing::trace!("map {address:#x} +{size:#x} flags {flags:#x}: {mapped:?}");
        mapped
    }

    pub fn dma_unmap(&self, flags: u32, address: u64, size: u64) -> io::Result<()> {
        tracing::trace!("unmap {address:#x} +{size:#x} flags {flags:#x}");
        let card = self.slot.card();
        if flags & UNMAP_ALL != 0 {
            card.shared.guest.unmap_all();
            return Ok(());
        }
        card.shared.guest.unmap(address, size)
    }

    pub fn reset(&self) -> io::Result<()> {
        let card = self.slot.card();
        if !card.shared.options.card.function.reset {
            return Err(errno_error(libc::ENOTTY));
        }
        card.reset();
        Ok(())
    }

    pub fn set_irqs(
        &self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        files: Vec<File>,
    ) -> io::Result<()> {
        if index >= VFIO_PCI_NUM_IRQS {
            return Err(errno_error(libc::EINVAL));
        }
        self.slot.card().shared.irq.set_irqs(index, flags, start, count, files)
    }

    /// Handles the departure of the client.
    pub fn disconnect(&self) {
        self.slot.card().disconnect();
    }
}

/// Appends version 0.0 and the capabilities.
fn put_version(reply: &mut Reply) {
    let capabilities = serde_json::json!({ "capabilities": {
        "max_msg_fds": 1, "max_data_xfer_size": MAX_DATA, "migration": { "pgsize": PAGE }
    } });
    reply.put(&[0; 4]);
    reply.put(capabilities.to_string().as_bytes());
    reply.put(&[0]);
}

fn put_access(reply: &mut Reply, access: RegionAccess) {
    put_longs(reply, &[access.offset]);
    put_words(reply, &[access.region, access.count]);
}

fn put_words(reply: &mut Reply, words: &[u32]) {
    words.iter().for_each(|word| reply.put(&word.to_le_bytes()));
}

fn put_longs(reply: &mut Reply, longs: &[u64]) {
    longs.iter().for_each(|long| reply.put(&long.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::CardModel;
    use crate::logic::Memory;

    #[test]
    fn accesses_stay_in_their_region() {
        let card = CardModel::start(EmulatorOptions::default(), Arc::new(Memory::with_size(0))).unwrap();
        let device = Device::new(Arc::new(Slot::new(card)));
        let is_inside = |offset, region, count| device.check(RegionAccess { offset, region, count }).is_ok();
        for (offset, region, count) in [(0, 2, 4), (0xfffc, 2, 4), (0x1_0000, 2, 0), (0xfff, 7, 1), (0, 3, 0)]
        {
            assert!(is_inside(offset, region, count));
        }
        for (offset, region, count) in
            [(0xfffd, 2, 4), (0, 3, 1), (0, 9, 1), (0, 99, 0), (u64::MAX, 2, 4), (0, 2, 0x1_0001)]
        {
            assert!(!is_inside(offset, region, count));
        }
    }
}
