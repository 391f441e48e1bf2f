//! The memory that a thread shares with the broker: the slot for requests, and windows for data.

use crate::own::{self, Signals};
use crate::ranges::Known;
use crate::{cancel, errno, real};
use libc::{c_int, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::time::Duration;
use xdma_chardev::{Reply, Request, Slot, WINDOW};

/// How long a call sleeps before it checks for signals and for the end of the broker.
const SLICE: Duration = Duration::from_millis(5);

pub struct Shared {
    slot: Slot,
    /// For data to the card and from it.
    windows: [Window; 2],
    /// The buffers that this thread has used.
    known: Known,
}

/// A mapped window.
struct Window(*mut u8);

impl Window {
    fn map(file: &File) -> Option<Self> {
        let (protection, length) = (libc::PROT_READ | libc::PROT_WRITE, WINDOW as usize);
        if file.metadata().ok()?.len() < WINDOW {
            return None;
        }
        // A child process inherits the mapping and removes it with its first call, so its address is not used for anything else.
        // SAFETY: a new mapping.
        let mapped =
            unsafe { real::mmap64(null_mut(), length, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        (mapped != libc::MAP_FAILED).then(|| Self(mapped.cast()))
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the mapping is not used any more.
        unsafe { real::munmap(self.0.cast::<c_void>(), WINDOW as usize) };
    }
}

impl Shared {
    /// Maps the files that the broker has sent.
    pub fn new(slot: &File, windows: [&File; 2]) -> Option<Self> {
        let [h2c, c2h] = windows.map(Window::map);
        Some(Self { slot: Slot::map(slot).ok()?, windows: [h2c?, c2h?], known: Known::new() })
    }

    /// Executes a request. `socket` is the connection to the broker. Contains no cancellation point on its shortest path.
    #[inline(always)]
    pub fn call(&self, request: &Request, socket: c_int) -> Result<i64, c_int> {
        // A bad buffer ends the call, but not the connection.
        if request.operation.is_write()
            && request.uses_window()
            && let Err(errno) = self.copy_in(request)
        {
            return Ok(-i64::from(errno));
        }
        let reply = self.exchange(request, socket)?;
        if reply.in_window && reply.result > 0 {
            let length = (reply.result as u64).min(request.length).min(WINDOW);
            // SAFETY: the window has at least that many bytes, and only this thread uses it.
            if let Err(errno) =
                unsafe { own::copy_out(&self.known, request.address, self.windows[1].0, length) }
            {
                return Ok(-i64::from(errno));
            }
        }
        Ok(reply.result)
    }

    /// Copies the data of a write to the window.
    #[inline(always)]
    fn copy_in(&self, request: &Request) -> Result<(), c_int> {
        let length = request.length.min(WINDOW);
        // SAFETY: the window has at least that many bytes, and only this thread uses it.
        unsafe { own::copy_in(&self.known, request.address, self.windows[0].0, length) }
    }

    /// Passes a request to the broker, and waits for the reply.
    #[inline(always)]
    fn exchange(&self, request: &Request, socket: c_int) -> Result<Reply, c_int> {
        self.slot.send(request);
        match self.slot.receive_soon() {
            Some(reply) => Ok(reply),
            None => {
                let reply = cancel::disabled(|| self.receive(socket))?;
                Ok(reply)
            }
        }
    }

    /// Sleeps until the reply is complete. The thread's signals are blocked, so that each is examined before its handler runs.
    #[cold]
    fn receive(&self, socket: c_int) -> Result<Reply, c_int> {
        let signals = Signals::default();
        loop {
            if signals.interrupt() {
                self.slot.cancel();
            }
            if let Some(reply) = self.slot.receive(SLICE) {
                return Ok(reply);
            }
            if has_hung_up(socket) {
                return Err(libc::ENODEV);
            }
        }
    }
}

fn has_hung_up(socket: c_int) -> bool {
    let saved = errno::get();
    let mut ready = libc::pollfd { fd: socket, events: 0, revents: 0 };
    // SAFETY: the structure is valid for the call.
    let polled = unsafe { libc::poll(&raw mut ready, 1, 0) };
    errno::set(saved);
    polled == 1
}
