//! Cards bound to the kernel's `vfio-pci` driver: through the device's own node and an iommufd, through its IOMMU group and a
//! container, or without an IOMMU.
//!
//! Registers are mapped into this process, so an access is a load or a store. The kernel pins memory and maps it in the IOMMU,
//! for reading or for writing by the card. Without an IOMMU the card uses the physical addresses of hugepages.
//!
//! | mode | requirements | privileges | isolation |
//! |---|---|---|---|
//! | [`Mode::Cdev`] | Linux 6.6 with `CONFIG_VFIO_DEVICE_CDEV`, an IOMMU | access to `/dev/vfio/devices/vfioN` and `/dev/iommu`, RLIMIT_MEMLOCK | the IOMMU |
//! | [`Mode::Type1`] | an IOMMU | access to `/dev/vfio/N`, RLIMIT_MEMLOCK | the IOMMU |
//! | [`Mode::NoIommu`] | `CONFIG_VFIO_NOIOMMU`, hugepages | CAP_SYS_RAWIO, CAP_SYS_ADMIN | none |
//!
//! If neither the caller nor the environment ([`MODE_VARIABLE`]) names a mode, the first is tried, then the second.

mod bar;
mod dma;
mod ioctl;
mod mode;
mod open;
mod pagemap;
mod recall;

pub use mode::{MODE_VARIABLE, Mode, UnknownMode};

use super::sysfs::{Function, Sysfs};
use super::{
    BARS, BUS_MASTER, Bar, Bus, BusError, COMMAND, Description, InterruptKind, PciAddress, check_config,
    counts,
};
use crate::memory::{Access, Addressing, CallerMemory, Extent, Isolation, MapError, Mapper, MemoryRef};
use bar::VfioBar;
use dma::Dma;
use ioctl::Region;
use recall::Recall;
use std::fmt;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
};
use vfio_ioctls::VfioDevice;
use vmm_sys_util::eventfd::EventFd;

/// An open device. When it is closed, the kernel disables the card's bus mastering; the group and the container are closed after
/// that.
struct Device {
    file: ManuallyDrop<File>,
    owner: ManuallyDrop<Owner>,
}

/// The handles that must outlive an open device.
enum Owner {
    /// The device of `vfio-ioctls`, which closes its handles in the right order.
    Crate(#[expect(dead_code, reason = "held to be dropped")] Box<VfioDevice>),
    /// The group, then the container.
    NoIommu(#[expect(dead_code, reason = "held to be dropped")] [File; 2]),
}

impl Device {
    fn from_vfio_device(device: VfioDevice) -> Result<Self, BusError> {
        // SAFETY: the device is open and owns the descriptor while it is borrowed here.
        let fd = unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) };
        let file =
            File::from(fd.try_clone_to_owned().map_err(refused("duplicating the device's descriptor"))?);
        Ok(Self::new(file, Owner::Crate(Box::new(device))))
    }

    fn no_iommu(device: File, group: File, container: File) -> Self {
        Self::new(device, Owner::NoIommu([group, container]))
    }

    fn new(file: File, owner: Owner) -> Self {
        Self { file: ManuallyDrop::new(file), owner: ManuallyDrop::new(owner) }
    }

    fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // A group cannot be closed while its device is open.
        // SAFETY: both are dropped only here and not used afterwards.
        unsafe {
            ManuallyDrop::drop(&mut self.file);
            ManuallyDrop::drop(&mut self.owner);
        }
    }
}

fn refused(what: &'static str) -> impl Fn(io::Error) -> BusError {
    move |cause| BusError::Refused { what, cause }
}

/// A PCI function that this process has opened through `vfio-pci`.
pub struct Vfio {
    description: Description,
    regions: [Region; BARS],
    config: Region,
    /// Declared before `device`: its thread ends before the device is closed.
    recall: Recall,
    dma: Dma,
    device: Arc<Device>,
}

impl fmt::Debug for Vfio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

impl Vfio {
    /// Opens the function at `address` in `mode`. Without a mode, [`Mode::Cdev`] is tried first, then [`Mode::Type1`].
    ///
    /// # Errors
    ///
    /// The function does not exist, is bound to another driver, shares its IOMMU group with functions of other drivers, or is in
    /// use, or this user lacks permission. [`BusError::NoMode`] if the mode is not available.
    pub fn open(address: PciAddress, mode: Option<Mode>) -> Result<Self, BusError> {
        let opened = open::open(&Sysfs::system(), address, mode)?;
        let device = Arc::new(opened.device);
        let dma = Dma::new(opened.translation).map_err(refused("querying the IOMMU's limits"))?;
        let region = |index: u32| ioctl::region(device.file(), index).map_err(refused("querying a region"));
        let mut regions = [const { Region { size: 0, offset: 0, areas: vec![] } }; BARS];
        for (index, found) in regions.iter_mut().enumerate() {
            *found = region(index as u32)?;
        }
        let config = region(VFIO_PCI_CONFIG_REGION_INDEX)?;
        let mut notes: Vec<String> = opened
            .fell_back
            .map(|why| format!("using type1 because cdev failed: {why}"))
            .into_iter()
            .collect();
        notes.extend(slow_link(&opened.function));
        notes.iter().for_each(|note| tracing::warn!(%address, "{note}"));
        let limits = dma.limits();
        let description = Description {
            kind: match opened.mode {
                Mode::Cdev => "vfio cdev",
                Mode::Type1 => "vfio type1",
                Mode::NoIommu => "vfio no-IOMMU",
            },
            location: address.to_string(),
            bars: regions.each_ref().map(|region| region.size),
            vectors: ioctl::interrupts(device.file(), VFIO_PCI_MSIX_IRQ_INDEX),
            msi_vectors: ioctl::interrupts(device.file(), VFIO_PCI_MSI_IRQ_INDEX),
            intx: ioctl::interrupts(device.file(), VFIO_PCI_INTX_IRQ_INDEX) > 0,
            resettable: ioctl::is_resettable(device.file()).map_err(refused("querying the device"))?,
            registers_by_system_call: false,
            page_sizes: limits.map_or(0, |limits| limits.page_sizes),
            iova_bits: limits
                .and_then(|limits| limits.ranges.last())
                .map_or(64, |last| 64 - last.1.leading_zeros()),
            node: opened.function.numa_node()?,
            notes,
        };
        let recall =
            Recall::listen(&device).map_err(refused("listening for the kernel's release requests"))?;
        Ok(Self { description, regions, config, recall, dma, device })
    }
}

/// Returns a note if the link is slower or narrower than the function supports.
fn slow_link(function: &Function) -> Option<String> {
    let link = function.link().ok().flatten().filter(|link| link.is_degraded())?;
    Some(format!(
        "the link runs at {}, the card supports {}: reseat the card, or use another slot",
        link.now, link.most
    ))
}

// SAFETY: when the kernel reports success it has unmapped the memory, and the IOMMU refuses the card's accesses from then on.
// Without an IOMMU, `is_cut_off` reads the Bus Master bit back from the card.
unsafe impl Mapper for Vfio {
    fn addressing(&self) -> Addressing {
        self.dma.addressing()
    }

    fn caller_memory(&self) -> CallerMemory {
        self.dma.caller_memory()
    }

    unsafe fn map(&self, memory: MemoryRef<'_>, iova: u64, access: Access) -> Result<Vec<Extent>, MapError> {
        // SAFETY: passed on to our caller.
        unsafe { self.dma.map(memory, iova, access) }
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<(), MapError> {
        self.dma.unmap(iova, len)
    }

    fn isolation(&self) -> Isolation {
        self.dma.isolation()
    }

    fn is_cut_off(&self) -> bool {
        self.config_read(COMMAND, 2).is_ok_and(|command| command != 0xffff && command & BUS_MASTER == 0)
    }
}

impl Bus for Vfio {
    fn description(&self) -> &Description {
        &self.description
    }

    fn bar(&self, index: usize) -> Result<Arc<dyn Bar>, BusError> {
        match self.regions.get(index) {
            Some(region) if region.size > 0 => {
                Ok(Arc::new(VfioBar::new(self.device.clone(), index, region.clone())?))
            }
            _ => Err(BusError::NoBar(index)),
        }
    }

    fn config_read(&self, offset: u16, width: u8) -> Result<u32, BusError> {
        check_config(offset, width)?;
        counts::system_call();
        let mut value = [0; 4];
        let bytes = &mut value[..width.into()];
        let read = self.device.file().read_exact_at(bytes, self.config.offset + u64::from(offset));
        read.map_err(|error| bar::gone("reading config space", &error))?;
        Ok(u32::from_le_bytes(value))
    }

    fn config_write(&self, offset: u16, width: u8, value: u32) -> Result<(), BusError> {
        check_config(offset, width)?;
        counts::system_call();
        let bytes = &value.to_le_bytes()[..width.into()];
        let written = self.device.file().write_all_at(bytes, self.config.offset + u64::from(offset));
        written.map_err(|error| bar::gone("writing config space", &error))
    }

    fn reset(&self) -> Result<(), BusError> {
        // The kernel waits at most a minute for the function to become ready (`PCIE_RESET_READY_POLL_MS`).
        counts::system_call();
        ioctl::reset(self.device.file()).map_err(refused("a function reset"))
    }

    fn set_interrupts(&self, kind: InterruptKind, events: &[&EventFd]) -> Result<(), BusError> {
        let fds: Vec<_> = events.iter().map(|event| event.as_raw_fd()).collect();
        let index = match kind {
            InterruptKind::Intx => VFIO_PCI_INTX_IRQ_INDEX,
            InterruptKind::Msi => VFIO_PCI_MSI_IRQ_INDEX,
            InterruptKind::Msix => VFIO_PCI_MSIX_IRQ_INDEX,
        };
        ioctl::set_interrupts(self.device.file(), index, 0, &fds).map_err(refused("setting up interrupts"))
    }

    fn unmask_intx(&self) -> Result<(), BusError> {
        ioctl::unmask_intx(self.device.file()).map_err(refused("unmasking the interrupt line"))
    }

    fn recall(&self) -> Arc<AtomicBool> {
        self.recall.requested()
    }
}
