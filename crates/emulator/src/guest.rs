//! Host memory as the card reaches it: the client's DMA maps, with their permissions.

use super::log::Refusal;
use super::mapping::Mapping;
use super::watch::Watch;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use vm_memory::VolatileSlice;

/// What maps are made of.
pub(super) const PAGE: u64 = 4096;

/// Maps of a client at most: VFIO's own limit (`dma_entry_limit`).
const MAX_MAPS: usize = 65_535;

/// What an access does to host memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// What a map allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permissions {
    pub read: bool,
    pub write: bool,
}

/// One map. Its memory is gone once unmapped; each access holds the lock, so unmapping waits for accesses in flight.
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

    fn allows(&self, access: Access) -> Result<(), Refusal> {
        let allowed = match access {
            Access::Read => self.allowed.read,
            Access::Write => self.allowed.write,
        };
        match (allowed, self.reachable) {
            (false, _) => Err(Refusal::Permission),
            (_, false) => Err(Refusal::Unreachable),
            _ => Ok(()),
        }
    }

    fn memory(&self) -> RwLockReadGuard<'_, Option<Mapping>> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the memory away; returns when no access is in flight.
    fn revoke(&self) {
        self.memory.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// The maps of the client that is connected.
#[derive(Debug)]
pub(super) struct GuestMemory {
    maps: RwLock<BTreeMap<u64, Arc<Map>>>,
    pub watch: Arc<Watch>,
}

impl GuestMemory {
    pub fn new(watch: Watch) -> Self {
        Self { maps: RwLock::default(), watch: Arc::new(watch) }
    }

    /// Adds a map, with the errors of VFIO's type1 driver. Without a file the addresses are taken, but what lies there is out
    /// of reach.
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
        self.watch.remapped(iova, size);
        Ok(())
    }

    /// Removes every map inside the range; that there is none is no error, that one is cut is. Returns when no access to
    /// them is in flight.
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
        self.watch.remapped(iova, size);
        inside.iter().for_each(|map| map.revoke());
        Ok(())
    }

    /// Removes every map. Returns when no access is in flight.
    pub fn unmap_all(&self) {
        let maps = std::mem::take(&mut *self.maps.write().unwrap_or_else(PoisonError::into_inner));
        maps.values().for_each(|map| map.revoke());
        self.watch.forget();
    }

    fn find(&self, iova: u64) -> Result<Arc<Map>, Refusal> {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        let (_, map) = maps.range(..=iova).next_back().ok_or(Refusal::Unmapped)?;
        if map.contains(iova) { Ok(Arc::clone(map)) } else { Err(Refusal::Unmapped) }
    }
}

/// One user's way into host memory. It remembers the map used last, which saves the search for the next piece.
#[derive(Debug, Default)]
pub(super) struct Cursor(Option<Arc<Map>>);

impl Cursor {
    /// Hands a view of the memory at `iova` to `f`: `len` bytes, or fewer where the map ends. The memory cannot be unmapped
    /// before `f` returns.
    pub fn with<R>(
        &mut self,
        guest: &GuestMemory,
        iova: u64,
        len: usize,
        access: Access,
        f: impl FnOnce(&VolatileSlice<'_>) -> R,
    ) -> Result<R, Refusal> {
        let known =
            self.0.take().filter(|map| map.contains(iova) && (!map.reachable || map.memory().is_some()));
        let map = match known {
            Some(map) => map,
            None => guest.find(iova)?,
        };
        map.allows(access)?;
        let memory = map.memory();
        let mapping = memory.as_ref().ok_or(Refusal::Unmapped)?;
        let offset = iova - map.iova;
        let len = (map.size - offset).min(len as u64);
        let pass = guest.watch.enter(iova, len);
        let result = f(&mapping.slice(offset as usize, len as usize));
        drop((pass, memory));
        self.0 = Some(map);
        Ok(result)
    }

    /// Fills `buffer` from `iova` on; on refusal tells the address.
    pub fn read(&mut self, guest: &GuestMemory, iova: u64, buffer: &mut [u8]) -> Result<(), (u64, Refusal)> {
        let mut done = 0;
        while done < buffer.len() {
            let rest = &mut buffer[done..];
            let at = iova.wrapping_add(done as u64);
            let (len, copy) = (rest.len(), |data: &VolatileSlice<'_>| data.copy_to(rest));
            done += self.with(guest, at, len, Access::Read, copy).map_err(|refusal| (at, refusal))?;
        }
        Ok(())
    }

    /// Writes `buffer` from `iova` on; on refusal tells the address, and what lies before it is written.
    pub fn write(&mut self, guest: &GuestMemory, iova: u64, buffer: &[u8]) -> Result<(), (u64, Refusal)> {
        let mut done = 0;
        while done < buffer.len() {
            let rest = &buffer[done..];
            let at = iova.wrapping_add(done as u64);
            let copy = |data: &VolatileSlice<'_>| {
                data.copy_from(rest);
                data.len()
            };
            done += self.with(guest, at, rest.len(), Access::Write, copy).map_err(|refusal| (at, refusal))?;
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
        GuestMemory::new(Watch::new(Arc::default(), Arc::default()))
    }

    fn file() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x4000).unwrap();
        file
    }

    #[test]
    fn adjacent_maps_read_as_one() {
        let (guest, file, mut cursor) = (guest(), file(), Cursor::default());
        guest.map(0x1_0000, 0x1000, BOTH, Some(&file), 0x2000).unwrap();
        guest.map(0x1_1000, 0x1000, BOTH, Some(&file), 0).unwrap();
        cursor.write(&guest, 0x1_0ffc, &[1, 2, 3, 4, 5, 6]).unwrap();
        let mut seen = [0; 6];
        Cursor::default().read(&guest, 0x1_0ffc, &mut seen).unwrap();
        assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
        assert_eq!(cursor.write(&guest, 0x1_1ffe, &[0; 3]), Err((0x1_2000, Refusal::Unmapped)));
    }

    #[test]
    fn permissions_are_enforced() {
        let (guest, file, mut cursor) = (guest(), file(), Cursor::default());
        guest.map(0, 0x1000, READ, Some(&file), 0).unwrap();
        guest.map(0x1000, 0x1000, BOTH, None, 0).unwrap();
        assert_eq!(cursor.read(&guest, 0, &mut [0; 4]), Ok(()));
        assert_eq!(cursor.write(&guest, 0, &[0; 4]), Err((0, Refusal::Permission)));
        assert_eq!(cursor.read(&guest, 0x1000, &mut [0; 4]), Err((0x1000, Refusal::Unreachable)));
    }

    #[test]
    fn maps_neither_overlap_nor_are_cut() {
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
    fn there_is_an_end_to_maps() {
        let guest = guest();
        let map = |at: usize| guest.map(at as u64 * PAGE, PAGE, BOTH, None, 0);
        (0..MAX_MAPS).for_each(|at| map(at).unwrap());
        assert_eq!(map(MAX_MAPS).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        guest.unmap(0, PAGE).unwrap();
        map(MAX_MAPS).unwrap();
    }

    #[test]
    fn a_remembered_map_ends_with_its_unmapping() {
        let (guest, file, mut cursor) = (guest(), file(), Cursor::default());
        guest.map(0, 0x1000, BOTH, Some(&file), 0).unwrap();
        cursor.write(&guest, 0, &[1]).unwrap();
        guest.unmap(0, 0x1000).unwrap();
        assert_eq!(cursor.write(&guest, 0, &[1]), Err((0, Refusal::Unmapped)));
        guest.map(0, 0x1000, BOTH, Some(&file), 0x1000).unwrap();
        cursor.write(&guest, 0, &[1]).unwrap();
    }
}
