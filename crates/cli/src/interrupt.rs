//! Handling of Ctrl-C.

use crate::failure::Failure;
use anyhow::{Context, Result};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Longest wait between two checks for Ctrl-C.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// A flag that Ctrl-C sets. A second Ctrl-C ends the process immediately, whatever the card is doing.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Installs the signal handler.
    pub fn install() -> Result<Self> {
        let this = Self(Arc::default());
        let seen = this.0.clone();
        ctrlc::set_handler(move || {
            if seen.swap(true, Ordering::Relaxed) {
                exit(130);
            }
        })
        .context("cannot install the signal handler")?;
        Ok(this)
    }

    /// Fails after Ctrl-C.
    pub fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }

    /// Waits for a message. Returns `None` once all senders are gone.
    pub fn receive<T>(&self, from: &Receiver<T>) -> Result<Option<T>, Failure> {
        loop {
            self.check()?;
            match from.recv_timeout(CHECK_INTERVAL) {
                Ok(message) => return Ok(Some(message)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// Sleeps for `time`, or until Ctrl-C.
    pub fn sleep(&self, mut time: Duration) -> Result<(), Failure> {
        while !time.is_zero() {
            self.check()?;
            let part = time.min(CHECK_INTERVAL);
            std::thread::sleep(part);
            time -= part;
        }
        self.check()
    }
}
