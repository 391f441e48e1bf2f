//! A fair mutex: threads acquire it in the order in which they request it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A mutex for the calls on a channel. With `std::sync::Mutex`, a thread that releases the mutex can reacquire it ahead of
/// threads that already wait.
#[derive(Debug, Default)]
pub(crate) struct FairMutex<T> {
    turns: Mutex<Turns>,
    changed: Condvar,
    value: Mutex<T>,
}

#[derive(Debug, Default)]
struct Turns {
    next: u64,
    serving: u64,
}

pub(crate) struct FairGuard<'a, T> {
    value: Option<MutexGuard<'a, T>>,
    mutex: &'a FairMutex<T>,
}

impl<T> FairMutex<T> {
    pub fn new(value: T) -> Self {
        Self { turns: Mutex::default(), changed: Condvar::new(), value: Mutex::new(value) }
    }

    /// Acquires the mutex after all earlier callers have released it.
    pub fn lock(&self) -> FairGuard<'_, T> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = turns.next;
        turns.next += 1;
        while turns.serving != turn {
            turns = self.changed.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
        drop(turns);
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        FairGuard { value: Some(value), mutex: self }
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
        let mut turns = self.mutex.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.serving += 1;
        // A notification is a system call, even if no thread waits.
        if turns.serving != turns.next {
            self.mutex.changed.notify_all();
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
