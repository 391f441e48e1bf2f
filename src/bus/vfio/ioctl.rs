//! The ioctls that the `vfio-ioctls` crate lacks or does not expose.
//!
//! That crate opens and closes containers, groups and devices. This module replaces four of its operations:
//!
//! - region queries: the crate skips a region whose query fails, which renumbers the regions after it;
//! - interrupt setup: it always starts at vector 0;
//! - reset: it discards the result;
//! - mapping: it always maps for reading and writing.
//!
//! This module also adds no-IOMMU mode, and queries the IOMMU's limits. See Linux, `include/uapi/linux/vfio.h` and `iommufd.h`.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_DEVICE_FLAGS_RESET, VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_INFO_PGSIZES,
    VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, VFIO_NOIOMMU_IOMMU, VFIO_REGION_INFO_CAP_SPARSE_MMAP,
    VFIO_REGION_INFO_FLAG_CAPS, VFIO_REGION_INFO_FLAG_MMAP, VFIO_TYPE, vfio_device_info,
    vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap, vfio_iommu_type1_info, vfio_irq_info,
    vfio_region_info,
};
use vmm_sys_util::ioctl::{
    ioctl, ioctl_with_mut_ptr, ioctl_with_mut_ref, ioctl_with_ptr, ioctl_with_ref, ioctl_with_val,
};
use vmm_sys_util::ioctl_io_nr;

ioctl_io_nr!(SET_IOMMU, VFIO_TYPE.into(), VFIO_BASE + 2);
ioctl_io_nr!(GROUP_SET_CONTAINER, VFIO_TYPE.into(), VFIO_BASE + 4);
ioctl_io_nr!(GROUP_GET_DEVICE_FD, VFIO_TYPE.into(), VFIO_BASE + 6);
ioctl_io_nr!(DEVICE_GET_INFO, VFIO_TYPE.into(), VFIO_BASE + 7);
ioctl_io_nr!(DEVICE_GET_REGION_INFO, VFIO_TYPE.into(), VFIO_BASE + 8);
ioctl_io_nr!(DEVICE_GET_IRQ_INFO, VFIO_TYPE.into(), VFIO_BASE + 9);
ioctl_io_nr!(DEVICE_SET_IRQS, VFIO_TYPE.into(), VFIO_BASE + 10);
ioctl_io_nr!(DEVICE_RESET, VFIO_TYPE.into(), VFIO_BASE + 11);
ioctl_io_nr!(IOMMU_GET_INFO, VFIO_TYPE.into(), VFIO_BASE + 12);
ioctl_io_nr!(IOMMU_MAP_DMA, VFIO_TYPE.into(), VFIO_BASE + 13);
ioctl_io_nr!(IOMMU_UNMAP_DMA, VFIO_TYPE.into(), VFIO_BASE + 14);
ioctl_io_nr!(
    IOAS_IOVA_RANGES,
    iommufd_bindings::iommufd::IOMMUFD_TYPE.into(),
    iommufd_bindings::iommufd::IOMMUFD_CMD_IOAS_IOVA_RANGES
);

/// Sizes in bytes of the structures that the parsers below read.
const REGION_HEADER: usize = size_of::<vfio_region_info>();
const IOMMU_HEADER: usize = size_of::<vfio_iommu_type1_info>();

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A region of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Region {
    /// Size in bytes; 0 if the region does not exist.
    pub size: u64,
    /// Start of the region in the device's file.
    pub offset: u64,
    /// The areas that can be mapped: offset and size, in order.
    pub areas: Vec<(u64, u64)>,
}

/// The device addresses and page sizes that an IOMMU supports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// First and last address of each usable range.
    pub ranges: Vec<(u64, u64)>,
    /// Bit mask of page sizes.
    pub page_sizes: u64,
}

/// Returns whether the kernel can reset the device.
pub(super) fn is_resettable(device: &impl AsRawFd) -> io::Result<bool> {
    let mut info = vfio_device_info { argsz: size_of::<vfio_device_info>() as u32, ..Default::default() };
    // SAFETY: the kernel writes only the structure, whose length is in `argsz`.
    checked(unsafe { ioctl_with_mut_ref(device, DEVICE_GET_INFO(), &mut info) })?;
    Ok(info.flags & VFIO_DEVICE_FLAGS_RESET != 0)
}

/// Resets the device.
pub(super) fn reset(device: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: this ioctl has no argument.
    checked(unsafe { ioctl(device, DEVICE_RESET()) }).map(drop)
}

/// Queries a structure of variable length, whose first word is its length. The buffer grows until the reply fits.
fn query(fd: &impl AsRawFd, request: libc::c_ulong, header: usize, index: u32) -> io::Result<Vec<u8>> {
    let mut bytes = header;
    loop {
        let mut buffer = vec![0u64; bytes.div_ceil(8)];
        // `argsz`, then `flags` and `index` of a region; `vfio_iommu_type1_info` ignores those two on input.
        buffer[0] = bytes as u64;
        buffer[1] = index.into();
        // SAFETY: the kernel writes at most as many bytes as the first word states, which is the length of the buffer.
        checked(unsafe { ioctl_with_mut_ptr(fd, request, buffer.as_mut_ptr()) })?;
        let needed = buffer[0] as u32 as usize;
        if needed <= bytes {
            return Ok(buffer.iter().flat_map(|word| word.to_ne_bytes()).take(bytes).collect());
        }
        bytes = needed;
    }
}

/// Queries region `index`. The result has size 0 if the device does not have the region.
pub(super) fn region(device: &impl AsRawFd, index: u32) -> io::Result<Region> {
    match query(device, DEVICE_GET_REGION_INFO(), REGION_HEADER, index) {
        Ok(info) => parse_region(&info).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Region::default()),
        Err(error) => Err(error),
    }
}

fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn word64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Returns the offset of capability `id` in `info`. The chain begins at `at`; a link that does not lead forward ends it.
fn capability(info: &[u8], mut at: usize, id: u32) -> Option<usize> {
    while at != 0 {
        if word32(info, at)? & 0xffff == id {
            return Some(at);
        }
        let next = word32(info, at + 4)? as usize;
        at = if next > at { next } else { 0 };
    }
    None
}

/// Reads `count` pairs of 64-bit words, starting at `at`.
fn pairs(info: &[u8], at: usize, count: u32) -> Option<Vec<(u64, u64)>> {
    let pair = |n: usize| Some((word64(info, at + 16 * n)?, word64(info, at + 16 * n + 8)?));
    (0..count as usize).map(pair).collect()
}

/// Parses `struct vfio_region_info` and its capabilities.
fn parse_region(info: &[u8]) -> Option<Region> {
    let (flags, first) = (word32(info, 4)?, word32(info, 12)? as usize);
    let (size, offset) = (word64(info, 16)?, word64(info, 24)?);
    let mut areas =
        if flags & VFIO_REGION_INFO_FLAG_MMAP != 0 && size > 0 { vec![(0, size)] } else { vec![] };
    if !areas.is_empty()
        && flags & VFIO_REGION_INFO_FLAG_CAPS != 0
        && let Some(at) = capability(info, first, VFIO_REGION_INFO_CAP_SPARSE_MMAP)
    {
        areas = pairs(info, at + 16, word32(info, at + 8)?)?;
        areas.retain(|&(start, bytes)| bytes > 0 && start.checked_add(bytes).is_some_and(|end| end <= size));
        areas.sort_unstable();
    }
    Some(Region { size, offset, areas })
}

/// Returns how many interrupts the device has at `index`, such as `VFIO_PCI_MSIX_IRQ_INDEX`; 0 if it has none.
pub(super) fn interrupts(device: &impl AsRawFd, index: u32) -> u32 {
    let mut info = vfio_irq_info { argsz: size_of::<vfio_irq_info>() as u32, index, ..Default::default() };
    // SAFETY: the kernel writes only the structure, whose length is in `argsz`.
    let result = unsafe { ioctl_with_mut_ref(device, DEVICE_GET_IRQ_INFO(), &mut info) };
    if result < 0 { 0 } else { info.count }
}

/// Makes the interrupts at `index` from `start` on signal `events`, one each. An empty slice disables all interrupts at `index`.
pub(super) fn set_interrupts(
    device: &impl AsRawFd,
    index: u32,
    start: u32,
    events: &[RawFd],
) -> io::Result<()> {
    use vfio_bindings::bindings::vfio as v;
    let data = if events.is_empty() { v::VFIO_IRQ_SET_DATA_NONE } else { v::VFIO_IRQ_SET_DATA_EVENTFD };
    let words = 5 + events.len();
    let mut set =
        vec![4 * words as u32, data | v::VFIO_IRQ_SET_ACTION_TRIGGER, index, start, events.len() as u32];
    set.extend(events.iter().map(|&fd| fd as u32));
    // SAFETY: the kernel reads as many bytes as the first word states, which is the length of the buffer.
    checked(unsafe { ioctl_with_ptr(device, DEVICE_SET_IRQS(), set.as_ptr()) }).map(drop)
}

/// Unmasks the legacy interrupt line.
pub(super) fn unmask_intx(device: &impl AsRawFd) -> io::Result<()> {
    use vfio_bindings::bindings::vfio as v;
    let flags = v::VFIO_IRQ_SET_DATA_NONE | v::VFIO_IRQ_SET_ACTION_UNMASK;
    let set = [20u32, flags, v::VFIO_PCI_INTX_IRQ_INDEX, 0, 1];
    // SAFETY: the kernel reads as many bytes as the first word states, which is the length of the array.
    checked(unsafe { ioctl_with_ptr(device, DEVICE_SET_IRQS(), set.as_ptr()) }).map(drop)
}

/// Queries the limits of a type 1 container's IOMMU.
pub(super) fn type1_limits(container: &impl AsRawFd) -> io::Result<Limits> {
    let info = query(container, IOMMU_GET_INFO(), IOMMU_HEADER, 0)?;
    parse_limits(&info).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Parses `struct vfio_iommu_type1_info` and its capabilities.
fn parse_limits(info: &[u8]) -> Option<Limits> {
    let flags = word32(info, 4)?;
    let page_sizes = if flags & VFIO_IOMMU_INFO_PGSIZES != 0 { word64(info, 8)? } else { 4096 };
    // Kernels before 5.4 do not report ranges. Every IOMMU supports 39-bit addresses outside the window of message-signalled
    // interrupts.
    let mut ranges = vec![(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)];
    if flags & VFIO_IOMMU_INFO_CAPS != 0
        && let Some(at) = capability(info, word32(info, 16)? as usize, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
    {
        ranges = pairs(info, at + 16, word32(info, at + 8)?)?;
    }
    Some(Limits { ranges, page_sizes })
}

/// Queries the limits of an I/O address space of an iommufd.
pub(super) fn ioas_limits(iommufd: &impl AsRawFd, ioas_id: u32) -> io::Result<Limits> {
    use iommufd_bindings::iommufd::{iommu_ioas_iova_ranges, iommu_iova_range};
    let mut found = vec![iommu_iova_range::default(); 16];
    loop {
        let mut query = iommu_ioas_iova_ranges {
            size: size_of::<iommu_ioas_iova_ranges>() as u32,
            ioas_id,
            num_iovas: found.len() as u32,
            allowed_iovas: found.as_mut_ptr() as u64,
            ..Default::default()
        };
        // SAFETY: the kernel writes the structure and at most `num_iovas` ranges, which is the length of `found`.
        let result = checked(unsafe { ioctl_with_mut_ref(iommufd, IOAS_IOVA_RANGES(), &mut query) });
        match result {
            Ok(_) => {
                found.truncate(query.num_iovas as usize);
                let ranges = found.iter().map(|range| (range.start, range.last)).collect();
                return Ok(Limits { ranges, page_sizes: query.out_iova_alignment.max(4096) });
            }
            Err(error)
                if error.raw_os_error() == Some(libc::EMSGSIZE) && query.num_iovas as usize > found.len() =>
            {
                found.resize(query.num_iovas as usize, iommu_iova_range::default());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Maps memory in a type 1 container. `flags` are `VFIO_DMA_MAP_FLAG_*`.
///
/// # Safety
///
/// As `memory::Mapper::map`.
pub(super) unsafe fn type1_map(
    container: &impl AsRawFd,
    (vaddr, size): (u64, u64),
    iova: u64,
    flags: u32,
) -> io::Result<()> {
    let argsz = size_of::<vfio_iommu_type1_dma_map>() as u32;
    let map = vfio_iommu_type1_dma_map { argsz, flags, vaddr, iova, size };
    // SAFETY: the kernel reads the structure; our caller guarantees that the memory may be mapped.
    checked(unsafe { ioctl_with_ref(container, IOMMU_MAP_DMA(), &map) }).map(drop)
}

/// Unmaps all mappings that lie entirely in a range of a type 1 container. Returns their total size in bytes.
pub(super) fn type1_unmap(container: &impl AsRawFd, iova: u64, size: u64) -> io::Result<u64> {
    let argsz = size_of::<vfio_iommu_type1_dma_unmap>() as u32;
    let mut unmap = vfio_iommu_type1_dma_unmap { argsz, iova, size, ..Default::default() };
    // SAFETY: the kernel reads and writes only the structure.
    checked(unsafe { ioctl_with_mut_ref(container, IOMMU_UNMAP_DMA(), &mut unmap) })?;
    Ok(unmap.size)
}

/// Adds a no-IOMMU group to a container and opens its device.
pub(super) fn no_iommu_device(container: &File, group: &File, name: &CStr) -> io::Result<File> {
    let fd = container.as_raw_fd();
    // SAFETY: the kernel reads one file descriptor.
    checked(unsafe { ioctl_with_ref(group, GROUP_SET_CONTAINER(), &fd) })?;
    // SAFETY: the argument is an integer.
    checked(unsafe { ioctl_with_val(container, SET_IOMMU(), VFIO_NOIOMMU_IOMMU.into()) })?;
    // SAFETY: the kernel reads a C string.
    let device = checked(unsafe { ioctl_with_ptr(group, GROUP_GET_DEVICE_FD(), name.as_ptr()) })?;
    // SAFETY: the descriptor is new, and nothing else owns it.
    Ok(unsafe { File::from_raw_fd(device) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn ioctl_numbers_match_the_kernel_headers() {
        // include/uapi/linux/vfio.h: _IO(';', 100 + n); iommufd.h: _IO(';', 0x84).
        assert_eq!((DEVICE_GET_INFO(), DEVICE_RESET(), IOMMU_MAP_DMA()), (0x3b6b, 0x3b6f, 0x3b71));
        assert_eq!(IOAS_IOVA_RANGES(), 0x3b84);
    }

    #[test]
    fn regions_are_parsed_with_and_without_sparse_areas() {
        // argsz, flags read|write|mmap, index, cap_offset, size, offset.
        let mut plain = [32, 7, 2, 0, 0x1_0000, 0, 0, 0x200];
        let whole = Region { size: 0x1_0000, offset: 0x200_0000_0000, areas: vec![(0, 0x1_0000)] };
        assert_eq!(parse_region(&bytes(&plain)), Some(whole.clone()));
        plain[1] = 3;
        assert_eq!(parse_region(&bytes(&plain)), Some(Region { areas: vec![], ..whole.clone() }));
        // Another capability, then the sparse areas: id 1, version 1, no next, 2 areas.
        let caps = [96, 15, 2, 32, 0x1_0000, 0, 0, 0x200, 0x1_0003, 40, 0x1_0001, 0, 2, 0];
        let areas = [0x9000, 0, 0x7000, 0, 0, 0, 0x8000, 0, 0, 0];
        let sparse = Region { areas: vec![(0, 0x8000), (0x9000, 0x7000)], ..whole };
        assert_eq!(parse_region(&bytes(&[&caps[..], &areas].concat())), Some(sparse));
    }

    #[test]
    fn an_iommu_that_reports_no_ranges_gets_the_default() {
        let limits = parse_limits(&bytes(&[24, 1, 0x4020_1000, 0, 0, 0])).unwrap();
        assert_eq!((limits.page_sizes, limits.ranges.len()), (0x4020_1000, 2));
        let ranges = [56, 3, 4096, 0, 24, 0, 0x1_0001, 0, 1, 0, 0x1000, 0, 0xffff_ffff, 0xffff];
        let limits = parse_limits(&bytes(&ranges)).unwrap();
        assert_eq!(limits.ranges, [(0x1000, 0xffff_ffff_ffff)]);
    }

    #[test]
    fn a_file_that_is_not_a_device_is_an_error() {
        let file = File::open("/dev/null").unwrap();
        assert!(is_resettable(&file).is_err() && reset(&file).is_err() && region(&file, 0).is_err());
        assert!(type1_limits(&file).is_err() && ioas_limits(&file, 1).is_err());
        assert!(type1_unmap(&file, 0, 4096).is_err());
        assert!(no_iommu_device(&file, &file, c"0000:00:01.0").is_err());
        assert_eq!(interrupts(&file, 0), 0);
        assert!(set_interrupts(&file, 2, 0, &[]).is_err());
    }

    proptest! {
        #[test]
        fn parsers_never_panic(info in prop::collection::vec(any::<u32>(), 0..40), small in prop::collection::vec(0u32..64, 0..40)) {
            for words in [info, small] {
                let _ = (parse_region(&bytes(&words)), parse_limits(&bytes(&words)));
            }
        }
    }
}
