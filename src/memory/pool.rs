//! Small buffers side by side in shared mappings, so that rings, completion words and short transfers lie in hugepages.

use super::buffer::Allocation;
use super::space::{Mapping, lock};
use super::{Buffer, HugePages, IovaAllocator, MemoryError, PageSize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Alignment of every buffer: a cache line, and an AXI beat.
const ALIGN: u64 = 64;
/// Offsets in an arena are kept by the allocator of addresses, which never gives the lowest 64 KiB.
const BASE: u64 = 1 << 20;

pub(super) struct Pool {
    arenas: Mutex<Arenas>,
    /// Bytes of an arena: one hugepage, or one of the pages that are required, if they are larger. Above half of that a buffer gets a
    /// mapping of its own.
    arena: u64,
}

/// The arenas, by the addresses of their mappings.
#[derive(Default)]
struct Arenas {
    all: BTreeMap<usize, Arena>,
    /// The most that is free in one piece, and in which arena.
    by_room: BTreeSet<(u64, usize)>,
    /// One that is empty: it is kept for the next buffer.
    spare: Option<usize>,
}

struct Arena {
    mapping: Arc<Mapping>,
    free: IovaAllocator,
    used: u64,
}

impl Pool {
    pub(super) fn new(pages: HugePages) -> Arc<Self> {
        let arena = match pages {
            HugePages::Require(page) => page.bytes().max(PageSize::Huge2M.bytes()),
            HugePages::Prefer => PageSize::Huge2M.bytes(),
        };
        Arc::new(Self { arenas: Mutex::default(), arena })
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
        if len > pool.arena / 2 {
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
        // A buffer of a page or more starts on one, as descriptor lists like it.
        let align = if size >= 4096 { 4096 } else { ALIGN };
        if let Some(place) = arenas.carve(size, align) {
            return Ok(place);
        }
        arenas.add(Arc::new(map(self.arena)?), self.arena);
        arenas.carve(size, align).ok_or(MemoryError::NoAddresses { len: size })
    }

    pub(super) fn release(&self, mapping: &Arc<Mapping>, offset: u64, len: u64) {
        let unused = lock(&self.arenas).release(mapping, offset, len.next_multiple_of(ALIGN));
        // Unmapped after the lock was released: it is a system call.
        drop(unused);
    }
}

impl Arenas {
    fn add(&mut self, mapping: Arc<Mapping>, bytes: u64) {
        let key = Arc::as_ptr(&mapping).addr();
        let free = IovaAllocator::new(&[BASE..=BASE + bytes - 1]);
        self.by_room.insert((bytes, key));
        self.all.insert(key, Arena { mapping, free, used: 0 });
    }

    /// Takes room from the fullest arena that has enough.
    fn carve(&mut self, size: u64, align: u64) -> Option<(Arc<Mapping>, u64)> {
        // Wherever it begins, so much is enough; the few that have less are not worth a look.
        let enough = if align > ALIGN { size + align } else { size };
        let &(room, key) = self.by_room.range((enough, 0)..).next().or_else(|| self.exact(size))?;
        let arena = self.all.get_mut(&key)?;
        let at = arena.free.take(size, align)?;
        arena.used += size;
        let place = (arena.mapping.clone(), at - BASE);
        self.by_room.remove(&(room, key));
        self.by_room.insert((arena.free.largest(), key));
        self.spare.take_if(|spare| *spare == key);
        Some(place)
    }

    /// An arena whose room is just enough: one that is empty, for the largest buffers.
    fn exact(&self, size: u64) -> Option<&(u64, usize)> {
        self.by_room.range((size, 0)..).next()
    }

    /// Gives room back. An arena that is empty then, if there is another.
    fn release(&mut self, mapping: &Arc<Mapping>, offset: u64, size: u64) -> Option<Arena> {
        let key = Arc::as_ptr(mapping).addr();
        let arena = self.all.get_mut(&key)?;
        let room = arena.free.largest();
        arena.free.give_back(BASE + offset, size);
        arena.used -= size;
        self.by_room.remove(&(room, key));
        if arena.used == 0 && self.spare.is_some() {
            return self.all.remove(&key);
        }
        self.by_room.insert((arena.free.largest(), key));
        if arena.used == 0 {
            self.spare = Some(key);
        }
        None
    }
}
