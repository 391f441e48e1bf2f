//! Host memory as the card sees it: the client's DMA maps, with their permissions.

use super::log::DmaFaultReason;
use super::mapping::Mapping;
use super::memory_tracker::MemoryTracker;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use vm_memory::VolatileSlice;

/// The granularity of maps, in bytes.
pub(super) const PAGE: u64 = 4096;

/// The maximum number of maps of a client, as in VFIO (`dma_entry_limit`).
const MAX_MAPS: usize = 65_535;

/// The kind of an access to host memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessKind {
    Read,
    Write,
    /// A read of a whole beat, of which the engine may need only a part.
    #[cfg(any(feature = "rtl-f2", feature = "rtl-dma"))]
    Beat,
}

/// The accesses that a map permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permissions {
    pub read: bool,
    pub write: bool,
}

/// A map. Unmapping drops its memory. Each access holds the lock, so unmapping waits for accesses in flight.
#[derive(Debug)]
struct Map {
    iova: u64,
    size: u64,
    allowed: Permissions,
    reachable: bool,
    memory: RwLock<Option<Mapping>>,
}

impl Map {
    fn contains(&self, iova: u64) -> bool {
        iova.checked_sub(self.iova).is_some_and(|offset| offset < self.size)
    }

    fn end(&self) -> u128 {
        u128::from(self.iova) + u128::from(self.size)
    }

    fn allows(&self, access: AccessKind) -> Result<(), DmaFaultReason> {
        let allowed = match access {
            AccessKind::Read => self.allowed.read,
            AccessKind::Write => self.allowed.write,
            #[cfg(any(feature = "rtl-f2", feature = "rtl-dma"))]
            AccessKind::Beat => self.allowed.read,
        };
        match (allowed, self.reachable) {
            (false, _) => Err(DmaFaultReason::Permission),
            (_, false) => Err(DmaFaultReason::Unreachable),
            _ => Ok(()),
        }
    }

    fn memory(&self) -> RwLockReadGuard<'_, Option<Mapping>> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the memory. Waits for accesses in flight.
    fn revoke(&self) {
        self.memory.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// The maps of the connected client.
#[derive(Debug)]
pub(super) struct GuestMemory {
    maps: RwLock<BTreeMap<u64, Arc<Map>>>,
    pub tracker: Arc<MemoryTracker>,
}

impl GuestMemory {
    pub fn new(tracker: MemoryTracker) -> Self {
        Self { maps: RwLock::default(), tracker: Arc::new(tracker) }
    }

    /// Adds a map, with the errors of VFIO's type1 driver. Without a file, the address range is occupied, but accesses to it are
    /// refused.
    pub fn map(
        &self,
        iova: u64,
        size: u64,
        allowed: Permissions,
        file: Option<&File>,
        offset: u64,
    ) -> io::Result<()> {
        let whole_pages = (iova | size | offset).is_multiple_of(PAGE);
        if size == 0 || !whole_pages || iova.checked_add(size - 1).is_none() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let memory = file.map(|file| Mapping::of_file(file, offset, size, allowed.write)).transpose()?;
        let map = Map { iova, size, allowed, reachable: memory.is_some(), memory: RwLock::new(memory) };
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        let before = maps.range(..=iova).next_back().is_some_and(|(_, map)| map.contains(iova));
        let after = maps.range(iova..).next().is_some_and(|(&next, _)| u128::from(next) < map.end());
        if before || after {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        if maps.len() >= MAX_MAPS {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        maps.insert(iova, Arc::new(map));
        self.tracker.remapped(iova, size);
        Ok(())
    }

    /// Removes all maps inside the range, of which there may be none. Fails if the range would split a map. Waits for accesses to
    /// the removed maps in flight.
    pub fn unmap(&self, iova: u64, size: u64) -> io::Result<()> {
        let end = u128::from(iova) + u128::from(size);
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        let cut_below = maps.range(..iova).next_back().is_some_and(|(_, map)| map.contains(iova));
        let inside = maps.range(iova..).map(|(_, map)| map).take_while(|map| u128::from(map.iova) < end);
        let inside: Vec<_> = inside.cloned().collect();
        if cut_below || inside.last().is_some_and(|map| map.end() > end) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        for map in &inside {
            maps.remove(&map.iova);
        }
        drop(maps);
        self.tracker.remapped(iova, size);
        inside.iter().for_each(|map| map.revoke());
        Ok(())
    }

    /// Removes all maps. Waits for accesses in flight.
    pub fn unmap_all(&self) {
        let maps = std::mem::take(&mut *self.maps.write().unwrap_or_else(PoisonError::into_inner));
        maps.values().for_each(|map| map.revoke());
        self.tracker.clear();
    }

    fn find(&self, iova: u64) -> Result<Arc<Map>, DmaFaultReason> {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        let (_, map) = maps.range(..=iova).next_back().ok_or(DmaFaultReason::Unmapped)?;
        if map.contains(iova) { Ok(Arc::clone(map)) } else { Err(DmaFaultReason::Unmapped) }
    }
}

/// An accessor to host memory that caches the most recently used map, to avoid a lookup for every piece.
#[derive(Debug, Default)]
pub(super) struct Cursor(Option<Arc<Map>>);

impl Cursor {
    /// Calls `f` with a view of the memory at `iova`: `len` bytes, or fewer if the map ends earlier. The memory cannot be unmapped
    /// before `f` returns.
    pub fn with<R>(
        &mut self,
        guest: &GuestMemory,
        iova: u64,
        len: usize,
        access: AccessKind,
        f: impl FnOnce(&VolatileSlice<'_>) -> R,
    ) -> Result<R, DmaFaultReason> {
        let known =
            self.0.take().filter(|map| map.contains(iova) && (!map.reachable || map.memory().is_some()));
        let map = match known {
            Some(map) => map,
            None => guest.find(iova)?,
        };
        map.allows(access)?;
        let memory = map.memory();
        let mapping = memory.as_ref().ok_or(DmaFaultReason::Unmapped)?;
        let offset = iova - map.iova;
        let len = (map.size - offset).min(len as u64);
        let guard = match access {
            #[cfg(any(feature = "rtl-f2", feature = "rtl-dma"))]
            AccessKind::Beat => guest.tracker.begin_beat(iova, len),
            _ => guest.tracker.begin_access(iova, len),
        };
        let result = f(&mapping.slice(offset as usize, len as usize));
        drop((guard, memory));
        self.0 = Some(map);
        Ok(result)
    }

    /// Fills `buffer` from `iova`. If an access is refused, returns its address.
    pub fn read(
        &mut self,
        guest: &GuestMemory,
        iova: u64,
        buffer: &mut [u8],
    ) -> Result<(), (u64, DmaFaultReason)> {
        self.read_as(AccessKind::Read, guest, iova, buffer)
    }

    /// Fills `buffer` with a beat, of which the engine may need only a part.
    #[cfg(any(feature = "rtl-f2", feature = "rtl-dma"))]
    pub fn read_beat(
        &mut self,
        guest: &GuestMemory,
        iova: u64,
        buffer: &mut [u8],
    ) -> Result<(), (u64, DmaFaultReason)> {
        self.read_as(AccessKind::Beat, guest, iova, buffer)
    }

    fn read_as(
        &mut self,
        kind: AccessKind,
        guest: &GuestMemory,
        iova: u64,
        buffer: &mut [u8],
    ) -> Result<(), (u64, DmaFaultReason)> {
        let mut done = 0;
        while done < buffer.len() {
            let rest = &mut buffer[done..];
            let at = iova.wrapping_add(done as u64);
            let (len, copy) = (rest.len(), |data: &VolatileSlice<'_>| data.copy_to(rest));
            done += self.with(guest, at, len, kind, copy).map_err(|reason| (at, reason))?;
        }
        Ok(())
    }

    /// Writes `buffer` to `iova`. If an access is refused, returns its address; all bytes before it have been written.
    pub fn write(
        &mut self,
        guest: &GuestMemory,
        iova: u64,
        buffer: &[u8],
    ) -> Result<(), (u64, DmaFaultReason)> {
        let mut done = 0;
        while done < buffer.len() {
            let rest = &buffer[done..];
            let at = iova.wrapping_add(done as u64);
            let copy = |data: &VolatileSlice<'_>| {
                data.copy_from(rest);
                data.len()
            };
            done +=
                self.with(guest, at, rest.len(), AccessKind::Write, copy).map_err(|reason| (at, reason))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Permissions = Permissions { read: true, write: true };
    const READ: Permissions = Permissions { read: true, write: false };

    fn guest() -> GuestMemory {
        GuestMemory::new(MemoryTracker::new(Arc::default(), Arc::default()))
    }

    fn file() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x4000).unwrap();
        file
    }

    #[test]
    fn adjacent_maps_are_contiguous() {
        let (guest, file, mut cursor) = (guest(), file(), Cursor::default());
        guest.map(0x1_0000, 0x1000, BOTH, Some(&file), 0x2000).unwrap();
        guest.map(0x1_1000, 0x1000, BOTH, Some(&file), 0).unwrap();
        cursor.write(&guest, 0x1_0ffc, &[1, 2, 3, 4, 5, 6]).unwrap();
        let mut seen = [0; 6];
        Cursor::default().read(&guest, 0x1_0ffc, &mut seen).unwrap();
        assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
        assert_eq!(cursor.write(&guest, 0x1_1ffe, &[0; 3]), Err((0x1_2000, DmaFaultReason::Unmapped)));
    }

    #[test]
    fn permissions_are_enforced() {
        let (guest, file, mut cursor) = (guest(), file(), Cursor::default());
        guest.map(0, 0x1000, READ, Some(&file), 0).unwrap();
        guest.map(0x1000, 0x1000, BOTH, None, 0).unwrap();
        assert_eq!(cursor.read(&guest, 0, &mut [0; 4]), Ok(()));
        assert_eq!(cursor.write(&guest, 0, &[0; 4]), Err((0, DmaFaultReason::Permission)));
        assert_eq!(cursor.read(&guest, 0x1000, &mut [0; 4]), Err((0x1000, DmaFaultReason::Unreachable)));
    }

    #[test]
    fn maps_do_not_overlap_and_are_not_split() {
        let (guest, file) = (guest(), file());
        guest.map(0x2000, 0x2000, BOTH, Some(&file), 0).unwrap();
        let errno =
            |iova, size, offset| guest.map(iova, size, BOTH, None, offset).unwrap_err().raw_os_error();
        for (iova, size) in [(0x2000, 0x1000), (0x1000, 0x2000), (0x3000, 0x1000), (0, 0x1_0000)] {
            assert_eq!(errno(iova, size, 0), Some(libc::EEXIST));
        }
        for (iova, size, offset) in
            [(0, 0, 0), (0x10, 0x1000, 0), (0, 0x10, 0), (0, 0x1000, 1), (!0xfff, 0x2000, 0)]
        {
            assert_eq!(errno(iova, size, offset), Some(libc::EINVAL));
        }
        assert!(guest.unmap(0x3000, 0x1000).is_err());
        assert!(guest.unmap(0x2000, 0x1000).is_err());
        guest.unmap(0x8000, 0x1000).unwrap();
        guest.unmap(0, u64::MAX).unwrap();
        guest.map(0x2000, 0x1000, BOTH, Some(&file), 0).unwrap();
    }

    #[test]
    fn the_number_of_maps_is_limited() {
        let guest = guest();
        let map = |at: usize| guest.map(at as u64 * PAGE, PAGE, BOTH, None, 0);
        (0..MAX_MAPS).for_each(|at| map(at).unwrap());
        assert_eq!(map(MAX_MAPS).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        guest.unmap(0, PAGE).unwrap();
        map(MAX_MAPS).unwrap();
    }

    #[test]
    fn a_cached_map_is_dropped_when_it_is_unmapped() {
        let (guest, file, mut cursor) = (guest(), file(), Cursor::default());
        guest.map(0, 0x1000, BOTH, Some(&file), 0).unwrap();
        cursor.write(&guest, 0, &[1]).unwrap();
        guest.unmap(0, 0x1000).unwrap();
        assert_eq!(cursor.write(&guest, 0, &[1]), Err((0, DmaFaultReason::Unmapped)));
        guest.map(0, 0x1000, BOTH, Some(&file), 0x1000).unwrap();
        cursor.write(&guest, 0, &[1]).unwrap();
    }
}
