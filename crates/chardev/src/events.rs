//! The device files `events_N`. Each user interrupt has a flag: one or more interrupts set it, and a read clears it.
//!
//! The flag is an eventfd. Clients hold a file descriptor for it, so they wait for it and clear it without the broker. All open
//! files of a user interrupt share one flag, as in the kernel module.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use xdma::card::{Card, Interrupt, Source, USER_LINES};

/// Interval at which a relay thread checks whether to stop.
const CHECK: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Events {
    lines: Vec<Option<Arc<OwnedFd>>>,
    stop: Arc<AtomicBool>,
    relays: Vec<JoinHandle<()>>,
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

    fn enable(&mut self, card: &Card, line: usize) -> Option<Arc<OwnedFd>> {
        let interrupt = card
            .interrupt(Source::User(line))
            .inspect_err(|error| tracing::debug!(line, %error, "no event file for this user interrupt"));
        let flag = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?);
        let (interrupt, to, stop) = (interrupt.ok()?, Arc::clone(&flag), Arc::clone(&self.stop));
        let relay = thread::Builder::new().name(format!("event-{line}"));
        self.relays.push(relay.spawn(move || relay_interrupts(&interrupt, &to, &stop)).ok()?);
        Some(flag)
    }

    pub fn has(&self, line: u8) -> bool {
        self.lines.get(usize::from(line)).is_some_and(Option::is_some)
    }

    /// Returns a new file descriptor for the flag of a user interrupt.
    pub fn descriptor(&self, line: u8) -> Option<OwnedFd> {
        self.lines.get(usize::from(line))?.as_ref()?.try_clone().ok()
    }
}

fn relay_interrupts(interrupt: &Interrupt, flag: &OwnedFd, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match interrupt.wait(CHECK) {
            Ok(0) => {}
            // Clients share the flag's file description, and can make it blocking. A full counter needs no write.
            Ok(_) => {
                let ready = poll(&mut [PollFd::new(flag, PollFlags::OUT)], Some(&Timespec::default()));
                if ready == Ok(1) {
                    let _ = rustix::io::write(flag, &1u64.to_ne_bytes());
                }
            }
            // The card is gone.
            Err(_) => return,
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
