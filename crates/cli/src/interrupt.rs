//! Ctrl-C.

use crate::failure::Failure;
use anyhow::{Context, Result};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How long it may take until Ctrl-C is noticed.
pub const PATIENCE: Duration = Duration::from_millis(50);

/// Whether the user wants to stop. A second Ctrl-C ends the process at once, whatever the card is doing.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on.
    pub fn listen() -> Result<Self> {
        let this = Self(Arc::default());
        let seen = this.0.clone();
        ctrlc::set_handler(move || {
            if seen.swap(true, Ordering::Relaxed) {
                exit(130);
            }
        })
        .context("cannot handle signals")?;
        Ok(this)
    }

    /// Fails after Ctrl-C.
    pub fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }

    /// Waits for a message; `None` once there is nobody left to send one.
    pub fn receive<T>(&self, from: &Receiver<T>) -> Result<Option<T>, Failure> {
        loop {
            self.check()?;
            match from.recv_timeout(PATIENCE) {
                Ok(message) => return Ok(Some(message)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// Sleeps for a while.
    pub fn sleep(&self, mut time: Duration) -> Result<(), Failure> {
        while !time.is_zero() {
            self.check()?;
            let part = time.min(PATIENCE);
            std::thread::sleep(part);
            time -= part;
        }
        self.check()
    }
}
