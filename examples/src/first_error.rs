//! Several threads, of which one fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use xdma::channel::EngineError;

/// How long it may take until a thread notices that another one failed.
const PATIENCE: Duration = Duration::from_millis(50);

/// The error of the thread that failed first. What goes wrong in the other threads after that is a consequence, and so is a
/// time-out of a thread that waits for the one that failed.
#[derive(Default)]
pub struct FirstError {
    error: Mutex<Option<anyhow::Error>>,
    is_set: AtomicBool,
}

impl FirstError {
    /// Notes an error, unless there is one already.
    pub fn set(&self, error: anyhow::Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.is_set.store(true, Ordering::Release);
    }

    /// Whether a thread has failed, so that the others need not go on.
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// Waits with `wait` for `limit` at most; `None` as soon as another thread has failed.
    pub fn wait<T>(
        &self,
        limit: Duration,
        mut wait: impl FnMut(Duration) -> Result<T, EngineError>,
    ) -> Option<Result<T, EngineError>> {
        let begin = Instant::now();
        loop {
            match wait(PATIENCE.min(limit)) {
                Err(EngineError::Deadline { .. }) if self.is_set() => return None,
                Err(EngineError::Deadline { .. }) if begin.elapsed() < limit => {}
                Err(EngineError::Deadline { snapshot, .. }) => {
                    return Some(Err(EngineError::Deadline { waited: limit, snapshot }));
                }
                waited => return Some(waited),
            }
        }
    }

    /// The error, if a thread has failed. Taken once, after all threads have ended.
    pub fn take(&self) -> anyhow::Result<()> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}
