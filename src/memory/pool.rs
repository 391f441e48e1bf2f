//! Allocation of small buffers from shared mappings, so that rings, write-back words and short transfers are in hugepages.

use super::buffer::Allocation;
use super::space::{Mapping, lock};
use super::{Buffer, HugePages, IovaAllocator, MemoryError, PageSize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Alignment of every buffer: a cache line, and an AXI beat.
const ALIGN: u64 = 64;
/// Added to offsets in an arena. They are managed by the allocator of device addresses, which never allocates the lowest 64 KiB.
const BASE: u64 = 1 << 20;

pub(super) struct Pool {
    arenas: Mutex<Arenas>,
    /// Size of an arena in bytes: one 2 MiB hugepage, or one page of the required size if that is larger. A buffer of more than
    /// half an arena gets its own mapping.
    arena_bytes: u64,
}

/// The arenas, keyed by the addresses of their mappings.
#[derive(Default)]
struct Arenas {
    all: BTreeMap<usize, Arena>,
    /// The size of each arena's largest hole, and the arena's key.
    by_largest_hole: BTreeSet<(u64, usize)>,
    /// An empty arena, kept for the next buffer.
    spare: Option<usize>,
}

struct Arena {
    mapping: Arc<Mapping>,
    offsets: IovaAllocator,
    used: u64,
}

impl Pool {
    pub(super) fn new(pages: HugePages) -> Arc<Self> {
        let arena_bytes = match pages {
            HugePages::Require(page) => page.bytes().max(PageSize::Huge2M.bytes()),
            HugePages::Prefer => PageSize::Huge2M.bytes(),
        };
        Arc::new(Self { arenas: Mutex::default(), arena_bytes })
    }

    pub(super) fn allocate(
        pool: &Arc<Self>,
        len: u64,
        zeroed: bool,
        map: impl FnOnce(u64) -> Result<Mapping, MemoryError>,
    ) -> Result<Buffer, MemoryError> {
        if len == 0 {
            return Err(MemoryError::Empty);
        }
        if len > pool.arena_bytes / 2 {
            let mapping = Arc::new(map(len)?);
            return Ok(Buffer::new(Allocation::new(mapping, 0, len, None)));
        }
        let size = len.next_multiple_of(ALIGN);
        let (mapping, offset) = pool.carve(size, map)?;
        let allocation = Allocation::new(mapping, offset, len, Some(Arc::downgrade(pool)));
        if zeroed {
            allocation.zero();
        }
        Ok(Buffer::new(allocation))
    }

    fn carve(
        &self,
        size: u64,
        map: impl FnOnce(u64) -> Result<Mapping, MemoryError>,
    ) -> Result<(Arc<Mapping>, u64), MemoryError> {
        let mut arenas = lock(&self.arenas);
        // Page-align buffers of a page or more. This suits descriptor lists, whose adjacent blocks must not cross a 4 KiB
        // boundary.
        let align = if size >= 4096 { 4096 } else { ALIGN };
        if let Some(carved) = arenas.carve(size, align) {
            return Ok(carved);
        }
        arenas.add(Arc::new(map(self.arena_bytes)?), self.arena_bytes);
        arenas.carve(size, align).ok_or(MemoryError::NoAddresses { len: size })
    }

    pub(super) fn release(&self, mapping: &Arc<Mapping>, offset: u64, len: u64) {
        let unused = lock(&self.arenas).release(mapping, offset, len.next_multiple_of(ALIGN));
        // Unmapping is a system call, so release the lock first.
        drop(unused);
    }
}

impl Arenas {
    fn add(&mut self, mapping: Arc<Mapping>, bytes: u64) {
        let key = Arc::as_ptr(&mapping).addr();
        let offsets = IovaAllocator::new(&[BASE..=BASE + bytes - 1]);
        self.by_largest_hole.insert((bytes, key));
        self.all.insert(key, Arena { mapping, offsets, used: 0 });
    }

    /// Allocates from the fullest arena that has enough space.
    fn carve(&mut self, size: u64, align: u64) -> Option<(Arc<Mapping>, u64)> {
        // A hole of this size fits wherever it begins. Smaller holes, which may fit, are considered only if there is none.
        let enough = if align > ALIGN { size + align } else { size };
        let at_least = |bytes: u64| self.by_largest_hole.range((bytes, 0)..).next();
        let &(hole, key) = at_least(enough).or_else(|| at_least(size))?;
        let arena = self.all.get_mut(&key)?;
        let at = arena.offsets.allocate(size, align)?;
        arena.used += size;
        let carved = (arena.mapping.clone(), at - BASE);
        self.by_largest_hole.remove(&(hole, key));
        self.by_largest_hole.insert((arena.offsets.largest(), key));
        self.spare.take_if(|spare| *spare == key);
        Some(carved)
    }

    /// Frees part of an arena. Returns the arena for unmapping if it is empty and there is already a spare one.
    fn release(&mut self, mapping: &Arc<Mapping>, offset: u64, size: u64) -> Option<Arena> {
        let key = Arc::as_ptr(mapping).addr();
        let arena = self.all.get_mut(&key)?;
        let hole = arena.offsets.largest();
        arena.offsets.free(BASE + offset, size);
        arena.used -= size;
        self.by_largest_hole.remove(&(hole, key));
        if arena.used == 0 && self.spare.is_some() {
            return self.all.remove(&key);
        }
        self.by_largest_hole.insert((arena.offsets.largest(), key));
        if arena.used == 0 {
            self.spare = Some(key);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of bytes that the first buffer maps.
    fn mapped(pages: HugePages, len: u64) -> u64 {
        let mut mapped = 0;
        let result = Pool::allocate(&Pool::new(pages), len, false, |bytes| {
            mapped = bytes;
            Err(MemoryError::Empty)
        });
        assert!(result.is_err());
        mapped
    }

    /// A buffer does not take a page of 1 GiB for itself, unless it is large.
    #[test]
    fn an_arena_is_a_page_of_the_required_size() {
        use PageSize::{Base, Huge1G, Huge2M};
        let required =
            [Base, Huge2M, Huge1G].map(|page| (HugePages::Require(page), page.bytes().max(2 << 20)));
        for (pages, arena) in [(HugePages::Prefer, 2 << 20)].into_iter().chain(required) {
            assert_eq!([1, 4096, arena / 2].map(|len| mapped(pages, len)), [arena; 3], "{pages:?}");
            assert_eq!(mapped(pages, arena / 2 + 1), arena / 2 + 1, "{pages:?}");
        }
    }
}
