//! Tables of objects that belong to one thread at a time.
//!
//! A slot holds the handle that is valid, combined with the thread that owns the object by exclusive or. One comparison checks both. It is
//! exact for all handles that the library returned, and for every address: bits 47:15 of a handle are 0 and its generation is not, while
//! the number of a thread is an address, with bits 63:47 equal to 0.

use crate::error::Failure;
use crate::kind::{Kind, SLOT_SHIFT, not_valid};
use crate::numbers::Numbers;
use crate::status::{XDMA_ERROR_BUSY, XDMA_ERROR_THREAD, XDMA_REMEDY_CORRECT, XDMA_REMEDY_TRY_AGAIN};
use crate::thread;
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// First bit of the generation.
const GENERATION_SHIFT: u32 = 48;
/// Number of generations of a slot, which is not used any more after the last one.
const GENERATIONS: u64 = 0xfffe;
/// Key of a slot without an object. No handle has this generation.
const EMPTY: u64 = u64::MAX;
/// Combined with the handle while a callback of the caller runs. No thread control block has this address.
const LENT: u64 = 1;

#[repr(C, align(32))]
struct Slot<T> {
    /// The handle, combined with its owner; the handle itself while it belongs to no thread.
    key: AtomicU64,
    object: UnsafeCell<*mut T>,
    /// The last handle.
    last: AtomicU64,
}

/// The objects of one kind, at most `N`, a power of two.
pub struct OwnedTable<T, const N: usize> {
    kind: Kind,
    slots: [Slot<T>; N],
    numbers: Numbers,
}

// SAFETY: objects are `Send`, and a reference to one is created only in the thread that owns it.
unsafe impl<T: Send, const N: usize> Sync for OwnedTable<T, N> {}

impl<T: Send, const N: usize> OwnedTable<T, N> {
    /// Creates an empty table.
    pub const fn new(kind: Kind) -> Self {
        assert!(N.is_power_of_two() && N <= 1024);
        let slots = [const {
            Slot {
                key: AtomicU64::new(EMPTY),
                object: UnsafeCell::new(ptr::null_mut()),
                last: AtomicU64::new(0),
            }
        }; N];
        Self { kind, slots, numbers: Numbers::new(0) }
    }

    #[inline(always)]
    fn slot(&self, handle: u64) -> &Slot<T> {
        &self.slots[(handle >> SLOT_SHIFT) as usize & (N - 1)]
    }

    /// Makes all handles invalid, without dropping their objects.
    pub fn invalidate_all(&self) {
        let end = self.numbers.end();
        self.slots[..end].iter().for_each(|slot| slot.key.store(EMPTY, Ordering::Release));
    }

    /// Detaches all objects of a thread.
    pub fn detach_all(&self, owner: u64) {
        let end = self.numbers.end();
        for slot in &self.slots[..end] {
            let handle = slot.last.load(Ordering::Acquire);
            let _ = slot.key.compare_exchange(handle ^ owner, handle, Ordering::Release, Ordering::Relaxed);
        }
    }

    /// Stores an object that belongs to this thread, and returns its handle.
    pub fn insert(&self, object: T) -> Result<u64, Failure> {
        let number = self.numbers.reserve(self.kind, N, N)?;
        let slot = &self.slots[number];
        let generation = (slot.last.load(Ordering::Relaxed) >> GENERATION_SHIFT) + 1;
        let handle = generation << GENERATION_SHIFT | (number as u64) << SLOT_SHIFT | self.kind as u64;
        slot.last.store(handle, Ordering::Relaxed);
        // SAFETY: the slot is reserved for this call, so nothing else accesses its object.
        unsafe { *slot.object.get() = Box::into_raw(Box::new(object)) };
        slot.key.store(handle ^ thread::owner(), Ordering::Release);
        Ok(handle)
    }

    /// Returns the object of a handle.
    ///
    /// # Errors
    ///
    /// The handle is not valid, or belongs to another thread.
    #[inline(always)]
    pub fn get<H>(&self, handle: *mut H) -> Result<&mut T, Failure> {
        self.find(handle).ok_or_else(|| Self::refuse(handle.addr() as u64, self))
    }

    /// Returns the object of a handle, if it belongs to this thread.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the owner makes the reference unique")]
    pub fn find<H>(&self, handle: *mut H) -> Option<&mut T> {
        let handle = handle.addr() as u64;
        let slot = self.slot(handle);
        if slot.key.load(Ordering::Relaxed) != handle ^ thread::current() {
            return None;
        }
        // SAFETY: the object exists, since only its owner, this thread, removes it. No other thread has a reference to it, and in this
        // thread a call that has one does not call back into the library, unless it has changed the key (`lend`).
        Some(unsafe { &mut **slot.object.get() })
    }

    /// Explains why a handle was not accepted.
    #[cold]
    #[inline(never)]
    fn refuse(handle: u64, table: &Self) -> Failure {
        let slot = table.slot(handle);
        let is_last = handle != 0 && slot.last.load(Ordering::Acquire) == handle;
        let key = slot.key.load(Ordering::Acquire);
        if !is_last || key == EMPTY {
            return not_valid(handle, table.kind);
        }
        let (status, remedy, what) = match key ^ handle {
            LENT => (
                XDMA_ERROR_BUSY,
                XDMA_REMEDY_TRY_AGAIN,
                "is in a call that is running its callback; call again once that call has returned",
            ),
            0 => {
                (XDMA_ERROR_THREAD, XDMA_REMEDY_CORRECT, "belongs to no thread; attach it to this one first")
            }
            owner if owner == thread::current() => {
                (XDMA_ERROR_THREAD, XDMA_REMEDY_CORRECT, "belongs to this thread already; use it")
            }
            _ => (
                XDMA_ERROR_THREAD,
                XDMA_REMEDY_CORRECT,
                "belongs to another thread; use it there, or detach it there and attach it here",
            ),
        };
        Failure::new(status, remedy, format!("the {} {what}", table.kind.name()))
    }

    /// Calls `with` with an object that belongs to this thread. Until it returns, the handle is refused, so it may call the caller's code.
    pub fn lend<H, R>(&self, handle: *mut H, with: impl FnOnce(&mut T) -> R) -> Result<R, Failure> {
        let object = self.get(handle)?;
        let handle = handle.addr() as u64;
        let slot = self.slot(handle);
        let _restore = Restore { key: &slot.key, to: slot.key.load(Ordering::Relaxed) };
        slot.key.store(handle ^ LENT, Ordering::Release);
        Ok(with(object))
    }

    /// Removes an object that belongs to this thread.
    pub fn close<H>(&self, handle: *mut H) -> Result<T, Failure> {
        self.get(handle)?;
        let handle = handle.addr() as u64;
        let slot = self.slot(handle);
        slot.key.store(EMPTY, Ordering::Release);
        // SAFETY: the object exists, belonged to this thread, and its handle is not valid any more. The pointer comes from
        // `Box::into_raw`.
        let object = unsafe { *Box::from_raw(ptr::replace(slot.object.get(), ptr::null_mut())) };
        if handle >> GENERATION_SHIFT < GENERATIONS {
            let number = (handle >> SLOT_SHIFT) as usize & (N - 1);
            self.numbers.release(number);
        }
        Ok(object)
    }

    /// Makes an object that belongs to this thread belong to none.
    pub fn detach<H>(&self, handle: *mut H) -> Result<(), Failure> {
        self.get(handle)?;
        let handle = handle.addr() as u64;
        self.slot(handle).key.store(handle, Ordering::Release);
        Ok(())
    }

    /// Makes an object that belongs to no thread belong to this one.
    pub fn attach<H>(&self, handle: *mut H) -> Result<(), Failure> {
        let handle = handle.addr() as u64;
        let (slot, key) = (self.slot(handle), handle ^ thread::owner());
        let is_kind = Kind::of(handle) == Some(self.kind);
        if is_kind && slot.key.compare_exchange(handle, key, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            Ok(())
        } else {
            Err(Self::refuse(handle, self))
        }
    }
}

/// Restores the key of a slot when it is dropped, also after a panic.
struct Restore<'a> {
    key: &'a AtomicU64,
    to: u64,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        self.key.store(self.to, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::run;
    use crate::status::{XDMA_ERROR_HANDLE, XDMA_ERROR_INTERNAL, XDMA_ERROR_NULL, XDMA_OK};

    static TABLE: OwnedTable<u32, 4> = OwnedTable::new(Kind::Channel);

    fn get(handle: u64) -> i32 {
        run(|| TABLE.get(ptr::without_provenance_mut::<()>(handle as usize)).map(drop))
    }

    #[test]
    fn only_the_valid_handle_in_its_thread_is_accepted() {
        for bad in [0, 1, u64::MAX, thread::current(), thread::current() | 3, &raw const TABLE as u64] {
            assert_ne!(get(bad), XDMA_OK, "{bad:#x} in an empty table");
        }
        let handle = TABLE.insert(7).unwrap();
        let pointer = || ptr::without_provenance_mut::<()>(handle as usize);
        assert_eq!(get(handle), XDMA_OK);
        assert_eq!(std::thread::spawn(move || get(handle)).join().unwrap(), XDMA_ERROR_THREAD);
        for bad in [handle ^ 1, handle ^ 1 << 48, handle ^ 1 << 5, handle ^ thread::current(), 0] {
            assert_ne!(get(bad), XDMA_OK, "{bad:#x}");
        }
        TABLE.detach(pointer()).unwrap();
        assert_eq!(get(handle), XDMA_ERROR_THREAD);
        assert!(TABLE.attach(ptr::null_mut::<()>()).is_err());
        let other = std::thread::spawn(move || {
            TABLE.attach(ptr::without_provenance_mut::<()>(handle as usize)).unwrap();
            thread::current()
        });
        let other = other.join().unwrap();
        assert!(TABLE.attach(pointer()).is_err(), "it belongs to the other thread");
        TABLE.detach_all(other);
        TABLE.attach(pointer()).unwrap();
        assert_eq!(TABLE.close(pointer()).unwrap(), 7);
        assert_eq!((get(handle), get(0)), (XDMA_ERROR_HANDLE, XDMA_ERROR_NULL));
        let second = TABLE.insert(8).unwrap();
        assert_eq!((get(handle), get(second)), (XDMA_ERROR_HANDLE, XDMA_OK));
    }

    #[test]
    fn an_object_that_is_lent_is_refused() {
        static LENT: OwnedTable<u32, 1> = OwnedTable::new(Kind::Receiver);
        let handle = LENT.insert(5).unwrap();
        let pointer = || ptr::without_provenance_mut::<()>(handle as usize);
        let get = || run(|| LENT.get(pointer()).map(drop));
        let nested = || {
            let other = std::thread::spawn(move || {
                run(|| LENT.get(ptr::without_provenance_mut::<()>(handle as usize)).map(drop))
            });
            let close = run(|| LENT.close(pointer()).map(drop));
            let [attach, detach] = [run(|| LENT.attach(pointer())), run(|| LENT.detach(pointer()))];
            [get(), close, attach, detach, other.join().unwrap()]
        };
        assert_eq!(LENT.lend(pointer(), |object| (*object, nested())).unwrap(), (5, [XDMA_ERROR_BUSY; 5]));
        assert_eq!(get(), XDMA_OK);
        assert_eq!(run(|| LENT.lend(pointer(), |_| panic!("a test"))), XDMA_ERROR_INTERNAL);
        assert_eq!(LENT.close(pointer()).unwrap(), 5);
    }

    #[test]
    fn a_refusal_says_to_whom_the_object_belongs() {
        static TABLE: OwnedTable<u32, 1> = OwnedTable::new(Kind::Channel);
        let handle = TABLE.insert(5).unwrap();
        let pointer = || ptr::without_provenance_mut::<()>(handle as usize);
        let text = |result: Result<(), Failure>| format!("{:?}", result.unwrap_err());
        assert!(text(TABLE.attach(pointer())).contains("this thread already"));
        let other = std::thread::spawn(move || {
            let pointer = ptr::without_provenance_mut::<()>(handle as usize);
            text(TABLE.get(pointer).map(drop))
        });
        assert!(other.join().unwrap().contains("another thread"));
        TABLE.detach(pointer()).unwrap();
        assert!(text(TABLE.get(pointer()).map(drop)).contains("no thread"));
    }

    #[test]
    fn a_slot_is_retired_after_its_last_generation() {
        static SMALL: OwnedTable<u32, 1> = OwnedTable::new(Kind::Msm);
        for _ in 0..GENERATIONS {
            let handle = SMALL.insert(0).unwrap();
            SMALL.close(ptr::without_provenance_mut::<()>(handle as usize)).unwrap();
        }
        assert!(SMALL.insert(0).is_err());
    }
}
