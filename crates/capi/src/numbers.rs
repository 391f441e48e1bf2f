//! The numbers of a table's slots: which are free, and which were ever used.

use crate::error::Failure;
use crate::kind::{Kind, check_not_forked, full};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The slots of a table.
pub struct Numbers {
    free: Mutex<Vec<usize>>,
    /// The first slot that has never been used.
    end: AtomicUsize,
}

impl Numbers {
    /// All slots are free, except those before `first`.
    pub const fn new(first: usize) -> Self {
        Self { free: Mutex::new(Vec::new()), end: AtomicUsize::new(first) }
    }

    /// Takes a free slot of a table that has `len` slots for at most `most` objects.
    pub fn reserve(&self, kind: Kind, len: usize, most: usize) -> Result<usize, Failure> {
        check_not_forked()?;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let end = self.end();
        match free.pop() {
            Some(number) => Ok(number),
            None if end < len => {
                self.end.store(end + 1, Ordering::Release);
                Ok(end)
            }
            None => Err(full(kind, most)),
        }
    }

    /// Makes a slot free again.
    pub fn release(&self, number: usize) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    }

    /// Returns the first slot that has never been used.
    pub fn end(&self) -> usize {
        self.end.load(Ordering::Acquire)
    }
}
