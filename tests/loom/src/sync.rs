//! The items of `std::sync` that the driver uses, for loom.

pub use loom::sync::atomic;

use atomic::{AtomicUsize, Ordering};

/// A reference count with the orderings of the standard library's `Arc`. Loom's own `Arc` ignores fences.
pub struct Arc<T>(loom::sync::Arc<(AtomicUsize, T)>);

impl<T> Arc<T> {
    pub fn new(value: T) -> Self {
        Self(loom::sync::Arc::new((AtomicUsize::new(1), value)))
    }

    pub fn strong_count(this: &Self) -> usize {
        this.0.0.load(Ordering::Relaxed)
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl<T> Drop for Arc<T> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}
