//! Small buffers side by side in shared mappings, so that rings, completion words and short transfers lie in hugepages.

use super::buffer::Allocation;
use super::space::{Mapping, lock};
use super::{Buffer, IovaAllocator, MemoryError};
use std::sync::{Arc, Mutex};

/// Bytes of an arena: one hugepage.
const ARENA: u64 = 2 << 20;
/// Above this a buffer gets a mapping of its own.
const LARGEST: u64 = ARENA / 2;
/// Alignment of every buffer: a cache line, and an AXI beat.
const ALIGN: u64 = 64;
/// Offsets in an arena are kept by the allocator of addresses, which never gives the lowest 64 KiB.
const BASE: u64 = 1 << 20;

pub(super) struct Pool {
    arenas: Mutex<Vec<Arena>>,
}

struct Arena {
    mapping: Arc<Mapping>,
    free: IovaAllocator,
}

impl Pool {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { arenas: Mutex::new(vec![]) })
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
        if len > LARGEST {
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
        for arena in arenas.iter_mut() {
            if let Some(at) = arena.free.take(size, align) {
                return Ok((arena.mapping.clone(), at - BASE));
            }
        }
        let mapping = Arc::new(map(ARENA)?);
        let mut free = IovaAllocator::new(&[BASE..=BASE + ARENA - 1]);
        let at = free.take(size, align).ok_or(MemoryError::NoAddresses { len: size })?;
        arenas.push(Arena { mapping: mapping.clone(), free });
        Ok((mapping, at - BASE))
    }

    pub(super) fn release(&self, mapping: &Arc<Mapping>, offset: u64, len: u64) {
        let mut arenas = lock(&self.arenas);
        if let Some(arena) = arenas.iter_mut().find(|a| Arc::ptr_eq(&a.mapping, mapping)) {
            arena.free.give_back(BASE + offset, len.next_multiple_of(ALIGN));
        }
    }
}
