//! A fair mutex: threads acquire it in the order in which they request it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A mutex for the calls on a channel. With `std::sync::Mutex`, a thread that releases the mutex can reacquire it ahead of
/// threads that already wait.
#[derive(Debug, Default)]
pub(crate) struct FairMutex<T> {
    /// The number that the next thread receives.
    next: AtomicU64,
    /// The number of the thread whose turn it is.
    serving: AtomicU64,
    /// Held by a thread between its last check of `serving` and its sleep.
    sleep: Mutex<()>,
    changed: Condvar,
    value: Mutex<T>,
}

pub(crate) struct FairGuard<'a, T> {
    value: Option<MutexGuard<'a, T>>,
    mutex: &'a FairMutex<T>,
}

impl<T> FairMutex<T> {
    pub fn new(value: T) -> Self {
        let [next, serving] = [const { AtomicU64::new(0) }; 2];
        Self { next, serving, sleep: Mutex::new(()), changed: Condvar::new(), value: Mutex::new(value) }
    }

    /// Acquires the mutex after all earlier callers have released it.
    pub fn lock(&self) -> FairGuard<'_, T> {
        let turn = self.next.fetch_add(1, Ordering::SeqCst);
        if self.serving.load(Ordering::SeqCst) != turn {
            self.sleep_until(turn);
        }
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        FairGuard { value: Some(value), mutex: self }
    }

    #[cold]
    fn sleep_until(&self, turn: u64) {
        let mut sleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        while self.serving.load(Ordering::SeqCst) != turn {
            sleep = self.changed.wait(sleep).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes the threads that wait, after the turn has changed.
    #[cold]
    fn wake(&self) {
        // A thread that has seen the old turn holds this lock until it sleeps.
        drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

impl<T> std::ops::Deref for FairGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_deref().expect("the guard holds the mutex until it is dropped")
    }
}

impl<T> std::ops::DerefMut for FairGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_deref_mut().expect("the guard holds the mutex until it is dropped")
    }
}

impl<T> Drop for FairGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        let next = self.mutex.serving.fetch_add(1, Ordering::SeqCst) + 1;
        if self.mutex.next.load(Ordering::SeqCst) != next {
            self.mutex.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn callers_are_served_in_order() {
        let mutex = FairMutex::new(vec![]);
        let guard = mutex.lock();
        std::thread::scope(|scope| {
            for number in 0..5 {
                let (started, starts) = channel();
                let mutex = &mutex;
                scope.spawn(move || {
                    started.send(()).unwrap();
                    mutex.lock().push(number);
                });
                starts.recv().unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            drop(guard);
        });
        assert_eq!(*mutex.lock(), [0, 1, 2, 3, 4]);
    }
}
