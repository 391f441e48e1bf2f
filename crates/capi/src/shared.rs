//! Tables of objects that any thread may use, several at a time.
//!
//! A slot holds the handle that is valid and the number of calls that use the object. A call that changes or closes the object marks the
//! handle first, and fails if another call uses the object.

use crate::error::Failure;
use crate::kind::{Kind, SLOT_SHIFT, not_valid};
use crate::numbers::Numbers;
use crate::status::{XDMA_ERROR_BUSY, XDMA_REMEDY_TRY_AGAIN};
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Inverted in the tag of a slot while a call has exclusive use of the object. It is a bit of the slot's number, so that no number is equal
/// to the tag of the slot that it names then.
const EXCLUSIVE: u64 = 1 << SLOT_SHIFT;
/// The lowest bit of the generation.
const GENERATION: u64 = 1 << 23;

#[repr(C, align(32))]
struct Slot<T> {
    /// The handle that is valid, marked while a call has exclusive use; 0 if there is none.
    tag: AtomicU64,
    /// Number of calls that use the object.
    calls: AtomicU64,
    object: UnsafeCell<*mut T>,
    /// The last handle, from which the generation of the next one follows.
    last: AtomicU64,
}

/// The objects of one kind, at most `N - 1`; `N` is a power of two.
pub struct SharedTable<T, const N: usize> {
    kind: Kind,
    slots: [Slot<T>; N],
    /// Slot 0 is never used, because NULL names it.
    numbers: Numbers,
}

// SAFETY: objects are `Send` and `Sync`. An exclusive reference to one is created only while no other call uses it.
unsafe impl<T: Send + Sync, const N: usize> Sync for SharedTable<T, N> {}

impl<T: Send + Sync, const N: usize> SharedTable<T, N> {
    /// Creates an empty table.
    pub const fn new(kind: Kind) -> Self {
        assert!(N.is_power_of_two() && N >= 2 && (N as u64) << SLOT_SHIFT <= GENERATION);
        let slots = [const {
            Slot {
                tag: AtomicU64::new(0),
                calls: AtomicU64::new(0),
                object: UnsafeCell::new(ptr::null_mut()),
                last: AtomicU64::new(0),
            }
        }; N];
        Self { kind, slots, numbers: Numbers::new(1) }
    }

    #[inline(always)]
    fn slot(&self, handle: u64) -> &Slot<T> {
        &self.slots[(handle >> SLOT_SHIFT) as usize & (N - 1)]
    }

    /// Tags the slot that NULL names, so that NULL is not taken for the handle of an empty slot.
    pub fn mark_null(&self) {
        self.slots[0].tag.store(EXCLUSIVE, Ordering::Release);
    }

    /// Makes all handles invalid, without dropping their objects.
    pub fn invalidate_all(&self) {
        let end = self.numbers.end();
        self.slots[1..end].iter().for_each(|slot| slot.tag.store(0, Ordering::Release));
    }

    /// Stores an object, and returns its handle.
    pub fn insert(&self, object: T) -> Result<u64, Failure> {
        self.insert_or(object, drop)
    }

    /// Stores an object like [`insert`](Self::insert), and calls `undo` with it if there is no free handle.
    pub fn insert_or(&self, object: T, undo: impl FnOnce(T)) -> Result<u64, Failure> {
        match self.numbers.reserve(self.kind, N, N - 1) {
            Ok(number) => Ok(self.fill(number, object)),
            Err(failure) => {
                undo(object);
                Err(failure)
            }
        }
    }

    /// Stores an object in a reserved slot, and returns its handle.
    fn fill(&self, number: usize, object: T) -> u64 {
        let slot = &self.slots[number];
        let generation = slot.last.load(Ordering::Relaxed) / GENERATION + 1;
        let handle = generation.wrapping_mul(GENERATION) | (number as u64) << SLOT_SHIFT | self.kind as u64;
        slot.last.store(handle, Ordering::Relaxed);
        // SAFETY: the slot is reserved for this call, so nothing else accesses its object.
        unsafe { *slot.object.get() = Box::into_raw(Box::new(object)) };
        slot.tag.store(handle, Ordering::Release);
        handle
    }

    /// Returns the object of a handle. Until the result is dropped, no call gets exclusive use of it.
    #[inline(always)]
    pub fn get<H>(&self, handle: *const H) -> Result<Shared<'_, T>, Failure> {
        let handle = handle.addr() as u64;
        let slot = self.slot(handle);
        let shared = Shared::of(slot);
        // The tag of an empty slot is 0, so handle 0 must be refused separately.
        let is_valid = slot.tag.load(Ordering::SeqCst) == handle && handle != 0;
        if is_valid { Ok(shared) } else { Err(Self::refuse_shared(handle, self, shared)) }
    }

    /// Returns the object of a handle like [`get`](Self::get), with two instructions less.
    ///
    /// # Safety
    ///
    /// [`mark_null`](Self::mark_null) was called.
    #[inline(always)]
    pub unsafe fn get_marked<H>(&self, handle: *const H) -> Result<Shared<'_, T>, Failure> {
        let handle = handle.addr() as u64;
        let slot = self.slot(handle);
        let shared = Shared::of(slot);
        // `mark_null` has given the slot of NULL another tag, so NULL needs no check.
        let is_valid = slot.tag.load(Ordering::SeqCst) == handle;
        if is_valid { Ok(shared) } else { Err(Self::refuse_shared(handle, self, shared)) }
    }

    #[cold]
    #[inline(never)]
    fn refuse_shared(handle: u64, table: &Self, shared: Shared<'_, T>) -> Failure {
        drop(shared);
        table.refuse(handle)
    }

    /// Explains why a handle was not accepted.
    ///
    /// A handle that is valid was marked when the call looked: the other call has ended since.
    #[cold]
    #[inline(never)]
    fn refuse(&self, handle: u64) -> Failure {
        let (name, tag) = (self.kind.name(), self.slot(handle).tag.load(Ordering::Acquire));
        if Kind::of(handle) != Some(self.kind) || ![handle, handle ^ EXCLUSIVE].contains(&tag) {
            return not_valid(handle, self.kind);
        }
        let text = format!("another thread is changing or closing the {name}; call again once it is done");
        Failure::new(XDMA_ERROR_BUSY, XDMA_REMEDY_TRY_AGAIN, text)
    }

    /// Returns the object of a handle for a call that needs exclusive use of it.
    pub fn exclusive<H>(&self, handle: *const H) -> Result<Exclusive<'_, T, N>, Failure> {
        let handle = handle.addr() as u64;
        let slot = self.slot(handle);
        let mark =
            || slot.tag.compare_exchange(handle, handle ^ EXCLUSIVE, Ordering::SeqCst, Ordering::SeqCst);
        if Kind::of(handle) != Some(self.kind) || mark().is_err() {
            return Err(self.refuse(handle));
        }
        let exclusive = Exclusive { table: self, slot, handle };
        if slot.calls.load(Ordering::SeqCst) != 0 {
            let text =
                format!("another thread is using the {}; call again once it is done", self.kind.name());
            return Err(Failure::new(XDMA_ERROR_BUSY, XDMA_REMEDY_TRY_AGAIN, text));
        }
        Ok(exclusive)
    }
}

/// A shared reference to an object.
pub struct Shared<'a, T> {
    slot: &'a Slot<T>,
}

impl<'a, T> Shared<'a, T> {
    /// Counts a call that uses the object of a slot, if it has one, until the result is dropped.
    ///
    /// A call that wants exclusive use marks the handle, then reads the count. In the total order of these operations, either it sees
    /// this call, or this call sees the mark.
    #[inline(always)]
    fn of(slot: &'a Slot<T>) -> Self {
        slot.calls.fetch_add(1, Ordering::SeqCst);
        Self { slot }
    }
}

impl<T> Deref for Shared<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the object exists, and no exclusive reference to it is created while this one is counted.
        unsafe { &**self.slot.object.get() }
    }
}

impl<T> Drop for Shared<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.slot.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An exclusive reference to an object. Other calls that want to use it fail.
pub struct Exclusive<'a, T, const N: usize> {
    table: &'a SharedTable<T, N>,
    slot: &'a Slot<T>,
    handle: u64,
}

impl<T, const N: usize> Exclusive<'_, T, N> {
    /// Removes the object.
    pub fn close(self) -> T {
        self.slot.tag.store(0, Ordering::SeqCst);
        // SAFETY: the mark made this the only call that uses the object, and the handle is not valid any more. The pointer comes from
        // `Box::into_raw`.
        let object = unsafe { *Box::from_raw(ptr::replace(self.slot.object.get(), ptr::null_mut())) };
        let number = (self.handle >> SLOT_SHIFT) as usize & (N - 1);
        self.table.numbers.release(number);
        std::mem::forget(self);
        object
    }
}

impl<T, const N: usize> Deref for Exclusive<'_, T, N> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mark on the handle makes this the only call that uses the object.
        unsafe { &**self.slot.object.get() }
    }
}

impl<T, const N: usize> DerefMut for Exclusive<'_, T, N> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut **self.slot.object.get() }
    }
}

impl<T, const N: usize> Drop for Exclusive<'_, T, N> {
    fn drop(&mut self) {
        self.slot.tag.store(self.handle, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::run;
    use crate::status::{XDMA_ERROR_HANDLE, XDMA_ERROR_HANDLES, XDMA_ERROR_NULL, XDMA_OK};

    static TABLE: SharedTable<u32, 4> = SharedTable::new(Kind::Buffer);

    fn pointer(handle: u64) -> *const () {
        ptr::without_provenance(handle as usize)
    }

    fn get(handle: u64) -> i32 {
        run(|| TABLE.get(pointer(handle)).map(drop))
    }

    #[test]
    fn a_handle_is_valid_until_it_is_closed() {
        for bad in [0, 2, 16, 18, u64::MAX, &raw const TABLE as u64] {
            assert_ne!(get(bad), XDMA_OK, "{bad:#x} in an empty table");
        }
        TABLE.mark_null();
        // SAFETY: as just done.
        let get_marked = |handle| run(|| unsafe { TABLE.get_marked(pointer(handle)).map(drop) });
        assert_eq!(get_marked(0), XDMA_ERROR_NULL);
        assert!((0..64).all(|bit| get_marked(1 << bit) != XDMA_OK && get(1 << bit) != XDMA_OK));
        let handles = [1, 2, 3].map(|object| TABLE.insert(object).unwrap());
        assert_eq!(run(|| TABLE.insert(4).map(drop)), XDMA_ERROR_HANDLES);
        assert!(handles.iter().all(|handle| get(*handle) == XDMA_OK));
        for bad in [handles[0] ^ 1, handles[0] ^ 16, handles[0] + GENERATION] {
            assert_eq!(get(bad), XDMA_ERROR_HANDLE, "{bad:#x}");
            assert_eq!(run(|| TABLE.exclusive(pointer(bad)).map(drop)), XDMA_ERROR_HANDLE, "{bad:#x}");
        }

        // A call that uses the object excludes a call that changes it, and vice versa.
        let shared = TABLE.get(pointer(handles[0])).unwrap();
        assert_eq!(*shared, 1);
        assert_eq!(run(|| TABLE.exclusive(pointer(handles[0])).map(drop)), XDMA_ERROR_BUSY);
        drop(shared);
        let mut exclusive = TABLE.exclusive(pointer(handles[0])).unwrap();
        *exclusive = 5;
        assert_eq!(get(handles[0]), XDMA_ERROR_BUSY);
        assert!(
            (0..64).all(
                |bit| get(handles[0] ^ 1 << bit) != XDMA_OK || handles.contains(&(handles[0] ^ 1 << bit))
            )
        );
        drop(exclusive);
        // The other call may end before the refusal is explained.
        assert_eq!(run(|| Err::<(), _>(TABLE.refuse(handles[0]))), XDMA_ERROR_BUSY);
        assert_eq!(TABLE.exclusive(pointer(handles[0])).unwrap().close(), 5);
        assert_eq!(get(handles[0]), XDMA_ERROR_HANDLE);
        let reused = TABLE.insert(6).unwrap();
        assert_eq!((get(handles[0]), get(reused)), (XDMA_ERROR_HANDLE, XDMA_OK));
        TABLE.invalidate_all();
        assert_eq!(get(reused), XDMA_ERROR_HANDLE);
    }
}
