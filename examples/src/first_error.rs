//! The first error of several threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use xdma::channel::WaitError;
use xdma::channel::stream::ReceiveError;

/// Interval at which a waiting thread checks whether another thread has failed.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The error of the thread that failed first. Later errors are discarded, since they are consequences of it: for example, a thread
/// that waits for the failed one times out.
#[derive(Default)]
pub struct FirstError {
    error: Mutex<Option<anyhow::Error>>,
    is_set: AtomicBool,
}

impl FirstError {
    /// Stores the error, unless one is stored already.
    pub fn set(&self, error: anyhow::Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.is_set.store(true, Ordering::Release);
    }

    /// Returns whether a thread has failed. The other threads should then end.
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// Waits for a transfer or a packet for up to `limit`. `wait` is called with a shorter limit, several times. Returns `None` if
    /// another thread has failed.
    pub fn wait<T>(
        &self,
        limit: Duration,
        mut wait: impl FnMut(Duration) -> Result<T, ReceiveError>,
    ) -> Option<Result<T, ReceiveError>> {
        let begin = Instant::now();
        loop {
            match wait(CHECK_INTERVAL.min(limit)) {
                Err(ReceiveError::Wait(WaitError::Deadline { .. })) if self.is_set() => return None,
                Err(ReceiveError::Wait(WaitError::Deadline { .. })) if begin.elapsed() < limit => {}
                Err(ReceiveError::Wait(WaitError::Deadline { snapshot, .. })) => {
                    return Some(Err(WaitError::Deadline { waited: limit, snapshot }.into()));
                }
                waited => return Some(waited),
            }
        }
    }

    /// Returns the error, if a thread has failed. Call this once all threads have ended.
    pub fn into_result(self) -> anyhow::Result<()> {
        self.error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}
