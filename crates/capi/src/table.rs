//! Handles: what C programs hold instead of pointers to objects.
//!
//! A handle is a number in the form of a pointer, which is never dereferenced. It names a slot of the table for its kind, and has the
//! generation of the slot. The slot holds the handle that is currently valid, so one comparison rejects handles that were closed, that
//! are of another kind, or that never existed. Tables are static: looking a handle up takes no lock and reads no memory but the slot.
//!
//! | bits | |
//! |---|---|
//! | 3:0 | kind, not 0, so NULL is no handle |
//! | 4 | set in the slot while a call has exclusive use of the object |
//! | 22:5 | slot |
//! | 63:23 | generation |

use crate::buffer::BUFFERS;
use crate::card::CARDS;
use crate::channel::CHANNELS;
use crate::error::Failure;
use crate::interrupt::INTERRUPTS;
use crate::msm::{JOBS, MSMS};
use crate::msm_data::{POINTS, SCALARS};
use crate::program::PROGRAMS;
use crate::receiver::RECEIVERS;
use crate::status::{
    XDMA_ERROR_BUSY, XDMA_ERROR_FORKED, XDMA_ERROR_HANDLE, XDMA_ERROR_HANDLES, XDMA_ERROR_NULL,
    XDMA_ERROR_THREAD, XDMA_REMEDY_CLOSE, XDMA_REMEDY_CORRECT, XDMA_REMEDY_TRY_AGAIN,
};
use crate::thread;
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

const KIND_MASK: u64 = 0xf;
const EXCLUSIVE: u64 = 1 << 4;
const SLOT_SHIFT: u32 = 5;
const GENERATION: u64 = 1 << 23;

/// The kinds of objects. A number is part of each handle of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Card = 1,
    Buffer,
    Channel,
    Program,
    Receiver,
    Interrupt,
    Msm,
    Points,
    Scalars,
    Job,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Card,
        Self::Buffer,
        Self::Channel,
        Self::Program,
        Self::Receiver,
        Self::Interrupt,
        Self::Msm,
        Self::Points,
        Self::Scalars,
        Self::Job,
    ];

    /// Returns the name of the C type, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Buffer => "buffer",
            Self::Channel => "channel",
            Self::Program => "program",
            Self::Receiver => "receiver",
            Self::Interrupt => "interrupt",
            Self::Msm => "msm",
            Self::Points => "points",
            Self::Scalars => "scalars",
            Self::Job => "job",
        }
    }

    fn of(handle: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u64 == handle & KIND_MASK)
    }
}

#[repr(C, align(32))]
struct Slot<T> {
    /// The handle that is valid, or 0.
    tag: AtomicU64,
    /// In a table of owned objects: the thread that may use the object. Otherwise: the number of calls that use it now.
    guard: AtomicU64,
    object: UnsafeCell<*mut T>,
    /// The last handle of the slot, from which the generation of the next one follows.
    last: AtomicU64,
}

/// The objects of one kind, at most `N`, a power of two.
pub struct Table<T, const N: usize> {
    kind: Kind,
    slots: [Slot<T>; N],
    free: Mutex<Vec<usize>>,
    /// Number of slots that have ever been used.
    used: AtomicUsize,
}

// SAFETY: objects are `Send`, as `insert` requires. A shared reference to one is created only by `shared`, which requires `Sync`. An
// exclusive one is created by `owned` in the one thread that owns the object, and by `exclusive` while no other call uses it.
unsafe impl<T, const N: usize> Sync for Table<T, N> {}

/// What can be done with a table of any kind.
pub trait AnyTable: Sync {
    /// Invalidates all handles, without dropping their objects.
    fn invalidate_all(&self);

    /// Detaches the objects that belong to a thread.
    fn detach_all(&self, thread: u64);
}

impl<T: Send, const N: usize> Table<T, N> {
    pub const fn new(kind: Kind) -> Self {
        assert!(N.is_power_of_two() && (N as u64) << SLOT_SHIFT <= GENERATION);
        let slots = [const {
            Slot {
                tag: AtomicU64::new(0),
                guard: AtomicU64::new(0),
                object: UnsafeCell::new(ptr::null_mut()),
                last: AtomicU64::new(0),
            }
        }; N];
        Self { kind, slots, free: Mutex::new(Vec::new()), used: AtomicUsize::new(0) }
    }

    #[inline(always)]
    fn slot(&self, handle: u64) -> &Slot<T> {
        &self.slots[(handle >> SLOT_SHIFT) as usize & (N - 1)]
    }

    /// Stores an object, and returns its handle. `guard` is the thread that owns it, or 0.
    pub fn insert(&self, object: T, guard: u64) -> Result<u64, Failure> {
        self.insert_or(object, guard, drop)
    }

    /// Stores an object like [`insert`](Self::insert), and calls `undo` with it if there is no free handle.
    pub fn insert_or(&self, object: T, guard: u64, undo: impl FnOnce(T)) -> Result<u64, Failure> {
        match self.reserve() {
            Ok(number) => Ok(self.fill(number, object, guard)),
            Err(failure) => {
                undo(object);
                Err(failure)
            }
        }
    }

    /// Takes a slot from the free ones.
    fn reserve(&self) -> Result<usize, Failure> {
        if thread::is_forked() {
            let text = "this process is a child of the one that opened the card; open cards after `fork`, or call `exec`";
            return Err(Failure::new(XDMA_ERROR_FORKED, XDMA_REMEDY_CLOSE, text));
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let used = self.used.load(Ordering::Relaxed);
        match free.pop() {
            Some(number) => Ok(number),
            None if used < N => {
                self.used.store(used + 1, Ordering::Release);
                Ok(used)
            }
            None => Err(self.full()),
        }
    }

    /// Stores an object in a reserved slot, and returns its handle.
    fn fill(&self, number: usize, object: T, guard: u64) -> u64 {
        let slot = &self.slots[number];
        let generation = slot.last.load(Ordering::Relaxed) / GENERATION + 1;
        let handle = generation.wrapping_mul(GENERATION) | (number as u64) << SLOT_SHIFT | self.kind as u64;
        slot.last.store(handle, Ordering::Relaxed);
        // SAFETY: the slot was free, and only this call took it from the list, so nothing else accesses its object.
        unsafe { *slot.object.get() = Box::into_raw(Box::new(object)) };
        // A call with an old handle may be counting itself in and out, so the count is not overwritten.
        if guard != 0 {
            slot.guard.store(guard, Ordering::Relaxed);
        }
        slot.tag.store(handle, Ordering::Release);
        handle
    }

    #[cold]
    fn full(&self) -> Failure {
        let text = format!("all {N} {} handles of this process are in use; close some", self.kind.name());
        Failure::new(XDMA_ERROR_HANDLES, XDMA_REMEDY_TRY_AGAIN, text)
    }

    /// Explains why a handle was not accepted.
    #[cold]
    #[inline(never)]
    pub fn refuse(&self, handle: u64) -> Failure {
        let (name, tag) = (self.kind.name(), self.slot(handle).tag.load(Ordering::Acquire));
        let correct = |status, text| Failure::new(status, XDMA_REMEDY_CORRECT, text);
        match Kind::of(handle) {
            _ if handle == 0 => {
                correct(XDMA_ERROR_NULL, format!("the {name} handle is NULL; open one first"))
            }
            Some(kind) if kind != self.kind => {
                let other = kind.name();
                let text = format!("this is a handle of type xdma_{other}; pass one of type xdma_{name}");
                correct(XDMA_ERROR_HANDLE, text)
            }
            _ if tag == handle => {
                let text = format!(
                    "the {name} belongs to another thread; use it there, or detach it there and attach it here"
                );
                correct(XDMA_ERROR_THREAD, text)
            }
            _ if tag == handle | EXCLUSIVE => {
                let text =
                    format!("another thread is changing or closing the {name}; call again once it is done");
                Failure::new(XDMA_ERROR_BUSY, XDMA_REMEDY_TRY_AGAIN, text)
            }
            _ => {
                let text = format!("the {name} handle is not valid: it was closed, or was never open");
                correct(XDMA_ERROR_HANDLE, text)
            }
        }
    }

    /// Removes the object of a slot whose handle the caller has made invalid.
    ///
    /// # Safety
    ///
    /// The slot has an object, to which no reference exists, and no other call removes it.
    unsafe fn take(&self, slot: &Slot<T>) -> T {
        // SAFETY: as required of the caller; the pointer comes from `Box::into_raw`.
        let object = unsafe { *Box::from_raw(ptr::replace(slot.object.get(), ptr::null_mut())) };
        let number = (slot.last.load(Ordering::Relaxed) >> SLOT_SHIFT) as usize & (N - 1);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        object
    }
}

/// The tables whose objects belong to one thread at a time.
pub static OWNED: [&dyn AnyTable; 3] = [&CHANNELS, &RECEIVERS, &MSMS];
/// All tables.
pub static ALL: [&dyn AnyTable; 10] =
    [&CARDS, &BUFFERS, &CHANNELS, &PROGRAMS, &RECEIVERS, &INTERRUPTS, &MSMS, &POINTS, &SCALARS, &JOBS];

/// Objects that belong to one thread at a time.
impl<T: Send, const N: usize> Table<T, N> {
    /// Returns the object of a handle, if it belongs to this thread.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the slot's guard makes the reference unique")]
    pub fn owned<H>(&self, handle: *mut H) -> Result<&mut T, Failure> {
        let handle = handle.addr() as u64;
        let slot = self.slot(handle);
        if slot.tag.load(Ordering::Relaxed) != handle
            || slot.guard.load(Ordering::Relaxed) != thread::current()
        {
            return Err(self.refuse(handle));
        }
        // SAFETY: the object exists, since only its owner, this thread, removes it. No other thread has a reference to it, and in this
        // thread a call that has one does not call back into the library.
        Ok(unsafe { &mut **slot.object.get() })
    }

    /// Removes an object that belongs to this thread.
    pub fn close_owned<H>(&self, handle: *mut H) -> Result<T, Failure> {
        self.owned(handle)?;
        let slot = self.slot(handle.addr() as u64);
        slot.tag.store(0, Ordering::Release);
        slot.guard.store(thread::NOBODY, Ordering::Release);
        // SAFETY: the object exists and belongs to this thread, as just checked.
        Ok(unsafe { self.take(slot) })
    }

    /// Makes an object that belongs to this thread belong to none.
    pub fn detach<H>(&self, handle: *mut H) -> Result<(), Failure> {
        self.owned(handle)?;
        self.slot(handle.addr() as u64).guard.store(thread::NOBODY, Ordering::Release);
        Ok(())
    }

    /// Makes an object that belongs to no thread belong to this one.
    pub fn attach<H>(&self, handle: *mut H) -> Result<(), Failure> {
        let handle = handle.addr() as u64;
        let (slot, owner) = (self.slot(handle), thread::owner());
        let swap = |from, to| slot.guard.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        if handle == 0 || slot.tag.load(Ordering::Acquire) != handle || swap(thread::NOBODY, owner).is_err() {
            return Err(self.refuse(handle));
        }
        // If the object was closed meanwhile, this thread has attached an empty slot, which it gives back unless it has a new owner.
        if slot.tag.load(Ordering::Acquire) != handle {
            let _ = swap(owner, thread::NOBODY);
            return Err(self.refuse(handle));
        }
        Ok(())
    }
}

/// Objects that any thread may use.
impl<T: Send + Sync, const N: usize> Table<T, N> {
    /// Returns the object of a handle. Until the result is dropped, no call gets exclusive use of it.
    #[inline(always)]
    pub fn shared<H>(&self, handle: *const H) -> Result<Shared<'_, T>, Failure> {
        let handle = handle.addr() as u64;
        let slot = self.slot(handle);
        // A call that wants exclusive use marks the handle, then reads this count. In the total order of these operations, either it
        // sees this call, or this call sees the mark.
        slot.guard.fetch_add(1, Ordering::SeqCst);
        let shared = Shared { slot };
        // An empty slot is tagged 0.
        let is_valid = slot.tag.load(Ordering::SeqCst) == handle && handle != 0;
        if is_valid { Ok(shared) } else { Err(self.refuse_shared(shared, handle)) }
    }

    #[cold]
    #[inline(never)]
    fn refuse_shared(&self, shared: Shared<'_, T>, handle: u64) -> Failure {
        drop(shared);
        self.refuse(handle)
    }

    /// Returns the object of a handle for a call that needs exclusive use of it.
    pub fn exclusive<H>(&self, handle: *const H) -> Result<Exclusive<'_, T, N>, Failure> {
        let handle = handle.addr() as u64;
        let slot = self.slot(handle);
        let mark =
            || slot.tag.compare_exchange(handle, handle | EXCLUSIVE, Ordering::SeqCst, Ordering::SeqCst);
        if handle == 0 || mark().is_err() {
            return Err(self.refuse(handle));
        }
        let exclusive = Exclusive { table: self, slot, handle };
        if slot.guard.load(Ordering::SeqCst) != 0 {
            let name = self.kind.name();
            let text = format!("another thread is using the {name}; call again once it is done");
            return Err(Failure::new(XDMA_ERROR_BUSY, XDMA_REMEDY_TRY_AGAIN, text));
        }
        Ok(exclusive)
    }
}

impl<T: Send, const N: usize> AnyTable for Table<T, N> {
    fn invalidate_all(&self) {
        let used = self.used.load(Ordering::Acquire);
        self.slots[..used].iter().for_each(|slot| slot.tag.store(0, Ordering::Release));
    }

    fn detach_all(&self, thread: u64) {
        let used = self.used.load(Ordering::Acquire);
        for slot in &self.slots[..used] {
            let _ = slot.guard.compare_exchange(thread, thread::NOBODY, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

/// A shared reference to an object.
pub struct Shared<'a, T> {
    slot: &'a Slot<T>,
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
        self.slot.guard.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An exclusive reference to an object. Other calls that want to use it fail.
pub struct Exclusive<'a, T: Send, const N: usize> {
    table: &'a Table<T, N>,
    slot: &'a Slot<T>,
    handle: u64,
}

impl<T: Send, const N: usize> Exclusive<'_, T, N> {
    /// Removes the object.
    pub fn close(self) -> T {
        self.slot.tag.store(0, Ordering::SeqCst);
        let (table, slot) = (self.table, self.slot);
        std::mem::forget(self);
        // SAFETY: the mark on the handle made this the only call that uses the object.
        unsafe { table.take(slot) }
    }
}

impl<T: Send, const N: usize> Deref for Exclusive<'_, T, N> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mark on the handle makes this the only call that uses the object.
        unsafe { &**self.slot.object.get() }
    }
}

impl<T: Send, const N: usize> DerefMut for Exclusive<'_, T, N> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut **self.slot.object.get() }
    }
}

impl<T: Send, const N: usize> Drop for Exclusive<'_, T, N> {
    fn drop(&mut self) {
        self.slot.tag.store(self.handle, Ordering::SeqCst);
    }
}
