//! The device files `events_N`. Each user interrupt has a flag: one or more interrupts set it, and a read clears it.
//!
//! The flag is a pipe. It is set while the pipe is not empty. Clients hold a file descriptor of the read end, so they wait for the
//! flag and clear it without the broker. All open files of a user interrupt share one flag, as in the kernel module. When the card
//! is gone, the write ends are closed, which `poll` reports to all clients (`POLLHUP`).

use rustix::io::{ioctl_fionbio, write};
use std::io::{PipeReader, PipeWriter, pipe};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use xdma::card::{Card, Interrupt, Source, USER_LINES};
use xdma::unstable::card::is_gone;

/// Interval at which a relay thread checks whether to stop.
const CHECK: Duration = Duration::from_millis(200);
/// What an interrupt writes to the pipe: the value that a read returns.
const SET: u32 = 1;

#[derive(Debug)]
pub(crate) struct Events {
    lines: Vec<Option<PipeReader>>,
    stop: Arc<AtomicBool>,
    relays: Vec<JoinHandle<()>>,
}

/// The thread that sets the flag of a user interrupt.
struct Relay {
    card: Card,
    /// Whether this thread also checks whether the card is gone. One thread does so for all.
    watches: bool,
    interrupt: Interrupt,
    flag: PipeWriter,
    stop: Arc<AtomicBool>,
}

impl Events {
    /// Enables all user interrupts. As in the kernel module, an interrupt sets its flag even while no file is open.
    pub fn new(card: &Card) -> Self {
        let mut this = Self { lines: vec![], stop: Arc::default(), relays: vec![] };
        for line in 0..USER_LINES {
            let event = this.enable(card, line);
            this.lines.push(event);
        }
        this
    }

    fn enable(&mut self, card: &Card, line: usize) -> Option<PipeReader> {
        let interrupt = card
            .interrupt(Source::User(line))
            .inspect_err(|error| tracing::debug!(line, %error, "no event file for this user interrupt"));
        let interrupt = interrupt.ok()?;
        let (end, flag) = pipe().ok()?;
        ioctl_fionbio(&end, true).and_then(|()| ioctl_fionbio(&flag, true)).ok()?;
        let (watches, stop) = (self.relays.is_empty(), self.stop.clone());
        let relay = Relay { card: card.clone(), watches, interrupt, flag, stop };
        let thread = thread::Builder::new().name(format!("event-{line}"));
        self.relays.push(thread.spawn(move || relay.run()).ok()?);
        Some(end)
    }

    pub fn has(&self, line: u8) -> bool {
        self.lines.get(usize::from(line)).is_some_and(Option::is_some)
    }

    /// Returns a new file descriptor for the flag of a user interrupt.
    pub fn descriptor(&self, line: u8) -> Option<OwnedFd> {
        self.lines.get(usize::from(line))?.as_ref()?.try_clone().ok().map(OwnedFd::from)
    }
}

impl Relay {
    /// Relays interrupts until the card is gone or no longer served.
    fn run(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            match self.interrupt.wait(CHECK) {
                // If the pipe is full, the write fails, but the flag is already set.
                Ok(1..) => drop(write(&self.flag, &SET.to_ne_bytes())),
                Ok(0) if !self.watches || !is_gone(&self.card) => {}
                _ => self.stop.store(true, Ordering::Relaxed),
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for relay in self.relays.drain(..) {
            // If the thread panicked, its message is already printed.
            let _ = relay.join();
        }
    }
}
