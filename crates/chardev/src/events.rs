//! The files `events_N`: a flag for each user interrupt, which is set by any number of interrupts and cleared by a read.
//!
//! The flag is an eventfd that clients hold a descriptor of: they wait for it and clear it without the broker. It is shared by all
//! files of a line, as in the kernel module.

use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use xdma::card::{Card, Interrupt, Source, USER_LINES};

/// Time after which a relay checks whether it should end.
const CHECK: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Events {
    lines: Vec<Option<Arc<OwnedFd>>>,
    stop: Arc<AtomicBool>,
    relays: Vec<JoinHandle<()>>,
}

impl Events {
    /// Enables all user interrupts: as in the kernel module, a flag is set also while no file is open.
    pub fn new(card: &Card) -> Self {
        let mut this = Self { lines: vec![], stop: Arc::default(), relays: vec![] };
        for line in 0..USER_LINES {
            let event = this.enable(card, line);
            this.lines.push(event);
        }
        this
    }

    fn enable(&mut self, card: &Card, line: usize) -> Option<Arc<OwnedFd>> {
        let interrupt = card
            .interrupt(Source::User(line))
            .inspect_err(|error| tracing::debug!(line, %error, "no event file"));
        let flag = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?);
        let (interrupt, to, stop) = (interrupt.ok()?, Arc::clone(&flag), Arc::clone(&self.stop));
        let relay = thread::Builder::new().name(format!("event-{line}"));
        self.relays.push(relay.spawn(move || relay_interrupts(&interrupt, &to, &stop)).ok()?);
        Some(flag)
    }

    pub fn has(&self, line: u8) -> bool {
        self.lines.get(usize::from(line)).is_some_and(Option::is_some)
    }

    /// Returns a descriptor of a line's flag.
    pub fn descriptor(&self, line: u8) -> Option<OwnedFd> {
        self.lines.get(usize::from(line))?.as_ref()?.try_clone().ok()
    }
}

fn relay_interrupts(interrupt: &Interrupt, flag: &OwnedFd, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match interrupt.wait(CHECK) {
            Ok(0) => {}
            // A client that never reads cannot block this: the counter is not near its limit, or it is set already.
            Ok(_) => drop(rustix::io::write(flag, &1u64.to_ne_bytes())),
            // The card is gone.
            Err(_) => return,
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for relay in self.relays.drain(..) {
            // A panic has been printed by its thread.
            let _ = relay.join();
        }
    }
}
