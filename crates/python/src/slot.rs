//! Objects of the driver that Python threads share, and waiting for them.

use crate::errors::{Failure, closed, forked, lent};
use crate::process::{detached, ends, generation, lock};
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::thread::{self, ThreadId, sleep};
use std::time::{Duration, Instant};

/// Maximum time between two checks for signals.
const SLICE: Duration = Duration::from_millis(50);
/// Pause between two attempts to lock a slot.
const PAUSE: Duration = Duration::from_micros(500);

/// An object of the driver, until it is closed.
///
/// A thread that holds the GIL never blocks on the lock, because another one may hold the lock and need the GIL.
pub struct Slot<T: Send + 'static> {
    object: Mutex<Option<T>>,
    /// Number of threads that try to lock it.
    contenders: AtomicUsize,
    /// The thread in which a call on the object runs Python code.
    lent_to: Mutex<Option<ThreadId>>,
    generation: u64,
    /// The name of the object in messages.
    what: &'static str,
}

/// An object that a thread uses exclusively. The thread holds the GIL.
pub struct Locked<'a, T>(MutexGuard<'a, Option<T>>);

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("checked when it was locked")
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("checked when it was locked")
    }
}

impl<T: Send> Slot<T> {
    pub fn new(what: &'static str, object: T) -> Self {
        let (object, contenders) = (Mutex::new(Some(object)), AtomicUsize::new(0));
        Self { object, contenders, lent_to: Mutex::new(None), generation: generation(), what }
    }

    pub fn is_forked(&self) -> bool {
        self.generation != generation()
    }

    fn check_process(&self) -> Result<(), Failure> {
        if self.is_forked() { Err(forked(self.what)) } else { Ok(()) }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Option<T>>> {
        match self.object.try_lock() {
            Ok(guard) => Some(guard),
            // An object whose method panicked checks its own state.
            Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Locks the object for calls that do not block. Waits for calls of other threads.
    #[inline]
    pub fn lock(&self, py: Python<'_>) -> Result<Locked<'_, T>, Failure> {
        self.check_process()?;
        let guard = match self.try_lock() {
            Some(guard) => guard,
            None => self.lock_contended(py, true)?,
        };
        self.locked(guard)
    }

    /// Like `lock`, for a call that has already locked another object. It runs no signal handlers while it waits, since they might use
    /// that object.
    #[inline]
    pub fn lock_too(&self, py: Python<'_>) -> Result<Locked<'_, T>, Failure> {
        self.check_process()?;
        let guard = match self.try_lock() {
            Some(guard) => guard,
            None => self.lock_contended(py, false)?,
        };
        self.locked(guard)
    }

    #[inline]
    fn locked<'a>(&self, guard: MutexGuard<'a, Option<T>>) -> Result<Locked<'a, T>, Failure> {
        if guard.is_some() { Ok(Locked(guard)) } else { Err(closed(self.what)) }
    }

    #[cold]
    fn lock_contended(
        &self,
        py: Python<'_>,
        handles_signals: bool,
    ) -> Result<MutexGuard<'_, Option<T>>, Failure> {
        self.check_not_lent()?;
        let _contender = Contender::new(&self.contenders);
        loop {
            let begin = Instant::now();
            detached(py, || {
                while self.try_lock().is_none() && begin.elapsed() < SLICE {
                    sleep(PAUSE);
                }
            });
            if handles_signals {
                check_signals(py)?;
                // A handler may fork.
                self.check_process()?;
            }
            if let Some(guard) = self.try_lock() {
                return Ok(guard);
            }
        }
    }

    /// Runs a function on the object with the GIL released, for calls that may block for a while.
    pub fn with<R: Send>(
        &self,
        py: Python<'_>,
        body: impl FnOnce(&mut T) -> Result<R, Failure> + Send,
    ) -> Result<R, Failure> {
        drop(self.lock(py)?);
        detached(py, || {
            // A thread that repeats such calls would keep the object from threads that only try to lock it.
            self.yield_to_contenders();
            let _contender = Contender::new(&self.contenders);
            match &mut *lock(&self.object) {
                Some(object) => body(object),
                None => Err(closed(self.what)),
            }
        })
    }

    /// Like `with`, but also passes `body` a function that calls `help`. An exception that `help` raised is returned when `body` has ended.
    /// If `help` uses this object, that call fails.
    pub fn with_help<R: Send>(
        &self,
        py: Python<'_>,
        help: Option<Py<PyAny>>,
        body: impl FnOnce(&mut T, &mut dyn FnMut()) -> Result<R, Failure> + Send,
    ) -> Result<R, Failure> {
        let mut raised = None;
        let mut call = || {
            let Some(help) = help.as_ref().filter(|_| raised.is_none()) else { return };
            raised = Python::try_attach(|py| help.call0(py).err()).flatten();
            if self.is_forked() {
                // A forked process does not have the card.
                resume_unwind(Box::new(()));
            }
        };
        let result = self.with(py, |object| {
            *lock(&self.lent_to) = Some(thread::current().id());
            let result = catch_unwind(AssertUnwindSafe(|| body(object, &mut call)));
            *lock(&self.lent_to) = None;
            match result {
                Err(_) if self.is_forked() => Err(forked(self.what)),
                result => result.unwrap_or_else(|panic| resume_unwind(panic)),
            }
        });
        match raised {
            Some(error) => Err(error.into()),
            None => result,
        }
    }

    fn check_not_lent(&self) -> Result<(), Failure> {
        if *lock(&self.lent_to) == Some(thread::current().id()) { Err(lent(self.what)) } else { Ok(()) }
    }

    /// Waits for at most `limit`, with the GIL released. `step` waits for a given time and returns a result if there is one; `expired`
    /// returns the result or error after the limit. Other threads can use the object meanwhile.
    ///
    /// Signals are handled every 50 ms: if a handler raises an exception, as that of Ctrl-C does, the wait ends with it.
    pub fn wait<R: Send>(
        &self,
        py: Python<'_>,
        limit: Duration,
        mut step: impl FnMut(&mut T, Duration) -> Result<Option<R>, Failure> + Send,
        expired: impl FnOnce(&mut T, Duration) -> Result<R, Failure> + Send,
    ) -> Result<R, Failure> {
        self.check_process()?;
        let begin = Instant::now();
        loop {
            let left = limit.saturating_sub(begin.elapsed());
            let slice = left.min(SLICE);
            let result = detached(py, || {
                self.yield_to_contenders();
                self.step(slice, &mut step)
            })?;
            if let Some(result) = result {
                return Ok(result);
            }
            check_signals(py)?;
            // A handler may fork.
            self.check_process()?;
            if left.is_zero() {
                return self.with(py, |object| expired(object, limit));
            }
        }
    }

    /// Runs one step of a wait, once the object is free.
    fn step<R>(
        &self,
        slice: Duration,
        step: &mut impl FnMut(&mut T, Duration) -> Result<Option<R>, Failure>,
    ) -> Result<Option<R>, Failure> {
        let begin = Instant::now();
        loop {
            if let Some(mut guard) = self.try_lock() {
                let object = guard.as_mut().ok_or_else(|| closed(self.what))?;
                return step(object, slice.saturating_sub(begin.elapsed()));
            }
            if begin.elapsed() >= slice {
                return Ok(None);
            }
            sleep(PAUSE);
        }
    }

    /// Lets threads that try to lock the object do so.
    fn yield_to_contenders(&self) {
        let begin = Instant::now();
        while self.contenders.load(Ordering::Relaxed) > 0 && begin.elapsed() < SLICE {
            sleep(PAUSE);
        }
    }

    pub fn is_closed(&self) -> bool {
        !self.is_forked() && self.try_lock().is_some_and(|guard| guard.is_none())
    }

    /// Takes the object out, and closes it with `close`, with the GIL released. Does nothing if it is closed, or in a forked process.
    pub fn close(
        &self,
        py: Python<'_>,
        close: impl FnOnce(T) -> Result<(), Failure> + Send,
    ) -> Result<(), Failure> {
        if self.is_forked() {
            return Ok(());
        }
        self.check_not_lent()?;
        let _contender = Contender::new(&self.contenders);
        detached(py, || {
            let object = lock(&self.object).take();
            object.map_or(Ok(()), close)
        })
    }
}

struct Contender<'a>(&'a AtomicUsize);

impl<'a> Contender<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Contender<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Send> Drop for Slot<T> {
    fn drop(&mut self) {
        let Some(object) = self.object.get_mut().map_or_else(|error| error.into_inner().take(), Option::take)
        else {
            return;
        };
        if self.is_forked() {
            // The parent's threads may have held its locks.
            return std::mem::forget(object);
        }
        // Stopping an engine can take a while.
        let mut object = Some(object);
        let attached = Python::try_attach(|py| detached(py, || drop(object.take())));
        if attached.is_none() {
            drop(object);
        }
    }
}

/// Ends a wait if a signal handler raises an exception, or if the interpreter ends.
pub fn check_signals(py: Python<'_>) -> Result<(), Failure> {
    py.check_signals()?;
    if ends() {
        // Only daemon threads get here. `threading` ends a thread that raises it without a message.
        return Err(PySystemExit::new_err("the interpreter ends").into());
    }
    Ok(())
}

/// What was opened from a card and is closed with it.
pub trait Close: Send + Sync {
    /// Closes the object. Called with the GIL released.
    fn close_with_card(&self);

    /// Returns whether it is memory, which transfers of other objects may use.
    fn is_memory(&self) -> bool {
        false
    }
}

impl<T: Send> Close for Slot<T> {
    fn close_with_card(&self) {
        // The call that runs Python code, which closes the card, still uses it. It is closed when it is dropped.
        if self.check_not_lent().is_err() {
            return;
        }
        let _contender = Contender::new(&self.contenders);
        let object = lock(&self.object).take();
        drop(object);
    }
}

/// The objects that were opened from a card, by number.
pub struct Children {
    objects: Mutex<BTreeMap<u64, Weak<dyn Close>>>,
    next: AtomicU64,
    generation: u64,
}

impl Children {
    pub fn new() -> Arc<Self> {
        let (objects, next) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Self { objects, next, generation: generation() })
    }

    /// Closes all objects. Called with the GIL released.
    pub fn close_all(&self) {
        let children = std::mem::take(&mut *lock(&self.objects));
        let mut children: Vec<_> = children.into_values().filter_map(|child| child.upgrade()).collect();
        // Channels first: memory of a Python object is released only when no transfer uses it.
        children.sort_by_key(|child| child.is_memory());
        children.iter().for_each(|child| child.close_with_card());
    }

    fn remove(&self, number: u64) {
        // A thread of the parent may have held the lock.
        if self.generation == generation() {
            lock(&self.objects).remove(&number);
        }
    }
}

/// An object that is closed with its card.
pub struct Child<C: Close + 'static> {
    object: Arc<C>,
    of: Arc<Children>,
    number: u64,
}

impl<C: Close> Child<C> {
    pub fn new(of: &Arc<Children>, object: C) -> Self {
        let (object, of) = (Arc::new(object), of.clone());
        let number = of.next.fetch_add(1, Ordering::Relaxed);
        let weak: Weak<C> = Arc::downgrade(&object);
        lock(&of.objects).insert(number, weak);
        Self { object, of, number }
    }

    /// Returns the objects of the same card.
    pub fn siblings(&self) -> &Arc<Children> {
        &self.of
    }
}

impl<C: Close> Deref for Child<C> {
    type Target = C;

    #[inline]
    fn deref(&self) -> &C {
        &self.object
    }
}

impl<C: Close> Drop for Child<C> {
    fn drop(&mut self) {
        self.of.remove(self.number);
    }
}
