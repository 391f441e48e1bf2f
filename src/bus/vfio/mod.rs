//! A card bound to the kernel's `vfio-pci`: through its own node and an iommufd, through its IOMMU group and a container, or
//! without an IOMMU.
//!
//! Registers are mapped into this process: an access is a load or a store. Memory is pinned by the kernel and mapped in the
//! IOMMU for reading or for writing, as the card needs it; without an IOMMU the card gets physical addresses of hugepages.
//!
//! | mode | needs | privileges | what keeps the card in its bounds |
//! |---|---|---|---|
//! | [`Mode::Cdev`] | Linux 6.6 with `CONFIG_VFIO_DEVICE_CDEV`, an IOMMU | access to `/dev/vfio/devices/vfioN` and `/dev/iommu`, RLIMIT_MEMLOCK | the IOMMU |
//! | [`Mode::Type1`] | an IOMMU | access to `/dev/vfio/N`, RLIMIT_MEMLOCK | the IOMMU |
//! | [`Mode::NoIommu`] | `CONFIG_VFIO_NOIOMMU`, hugepages | CAP_SYS_RAWIO, CAP_SYS_ADMIN | nothing |
//!
//! Without a word from the caller or from the environment ([`MODE_VARIABLE`]) the first is tried, then the second.

mod bar;
mod dma;
mod ioctl;
mod mode;
mod open;
mod pagemap;
mod recall;

pub use mode::{MODE_VARIABLE, Mode, UnknownMode};

use super::sysfs::{Function, Sysfs};
use super::{BARS, BUS_MASTER, Bar, Bus, BusError, COMMAND, Description, PciAddress, check_config, counts};
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
use vfio_bindings::bindings::vfio::{VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX};
use vfio_ioctls::VfioDevice;
use vmm_sys_util::eventfd::EventFd;

/// An open device. Closing it takes the card off the bus, before the group and the container behind it are closed.
struct Device {
    file: ManuallyDrop<File>,
    owner: ManuallyDrop<Owner>,
}

/// What an open device hangs on.
enum Owner {
    /// Closes everything in its order.
    Crate(#[expect(dead_code, reason = "held to be dropped")] Box<VfioDevice>),
    /// The group, then the container.
    NoIommu(#[expect(dead_code, reason = "held to be dropped")] [File; 2]),
}

impl Device {
    fn of_crate(device: VfioDevice) -> Result<Self, BusError> {
        // SAFETY: the device is open, and owns the number as long as it is borrowed here.
        let fd = unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) };
        let file = File::from(fd.try_clone_to_owned().map_err(refused("another handle of the device"))?);
        Ok(Self::new(file, Owner::Crate(Box::new(device))))
    }

    fn without_iommu(device: File, group: File, container: File) -> Self {
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
        // A group cannot be given back while its device is open.
        // SAFETY: each is dropped here only, and not used afterwards.
        unsafe {
            ManuallyDrop::drop(&mut self.file);
            ManuallyDrop::drop(&mut self.owner);
        }
    }
}

fn refused(what: &'static str) -> impl Fn(io::Error) -> BusError {
    move |cause| BusError::Refused { what, cause }
}

/// A function that `vfio-pci` has given to this process.
pub struct Vfio {
    description: Description,
    regions: [Region; BARS],
    config: Region,
    /// Ends before the device is closed.
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
    /// Opens the function at `address`, in `mode` or in the first that works of [`Mode::Cdev`] and [`Mode::Type1`].
    ///
    /// # Errors
    ///
    /// There is no such function, it is bound to another driver, shares its group with others, is taken, or this user may
    /// not open it; [`BusError::NoMode`] when the mode is not to be had.
    pub fn open(address: PciAddress, mode: Option<Mode>) -> Result<Self, BusError> {
        let opened = open::open(&Sysfs::system(), address, mode)?;
        let device = Arc::new(opened.device);
        let dma = Dma::new(opened.translation).map_err(refused("asking what the IOMMU allows"))?;
        let region = |index: u32| ioctl::region(device.file(), index).map_err(refused("describing a region"));
        let mut regions = [const { Region { size: 0, offset: 0, areas: vec![] } }; BARS];
        for (index, found) in regions.iter_mut().enumerate() {
            *found = region(index as u32)?;
        }
        let config = region(VFIO_PCI_CONFIG_REGION_INDEX)?;
        let mut notes: Vec<String> =
            opened.fell_back.map(|why| format!("type1, as cdev failed: {why}")).into_iter().collect();
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
            resettable: ioctl::is_resettable(device.file()).map_err(refused("describing the device"))?,
            registers_by_system_call: false,
            page_sizes: limits.map_or(0, |limits| limits.page_sizes),
            iova_bits: limits
                .and_then(|limits| limits.ranges.last())
                .map_or(64, |last| 64 - last.1.leading_zeros()),
            node: opened.function.numa_node()?,
            notes,
        };
        let recall = Recall::listen(&device).map_err(refused("listening for the kernel's requests"))?;
        Ok(Self { description, regions, config, recall, dma, device })
    }
}

/// A sentence about a link that is less than it could be.
fn slow_link(function: &Function) -> Option<String> {
    let link = function.link().ok().flatten().filter(|link| link.is_degraded())?;
    Some(format!("the link runs at {} of {}: reseat the card, or use another slot", link.now, link.most))
}

// SAFETY: the kernel unmaps before it answers, and the IOMMU then refuses the card's accesses; without one, Bus Master is read
// from the card.
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
        // The kernel waits for a function that does not come back for a minute at most (`PCIE_RESET_READY_POLL_MS`).
        counts::system_call();
        ioctl::reset(self.device.file()).map_err(refused("a function reset"))
    }

    fn set_interrupts(&self, first: u32, events: &[&EventFd]) -> Result<(), BusError> {
        let fds: Vec<_> = events.iter().map(|event| event.as_raw_fd()).collect();
        ioctl::set_interrupts(self.device.file(), VFIO_PCI_MSIX_IRQ_INDEX, first, &fds)
            .map_err(refused("setting up interrupts"))
    }

    fn recall(&self) -> Arc<AtomicBool> {
        self.recall.asked()
    }
}
