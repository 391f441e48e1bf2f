//! Requests of the kernel to release the device. The kernel sends one when the driver is unbound or the card removed, and waits
//! until the device is closed.

use super::Device;
use super::ioctl;
use crate::bus::readable;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use vfio_bindings::bindings::vfio::VFIO_PCI_REQ_IRQ_INDEX;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// A thread that waits for the kernel's release request.
#[derive(Debug)]
pub(super) struct Recall {
    requested: Arc<AtomicBool>,
    /// Ends the thread.
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Recall {
    /// Starts the thread, unless the kernel does not support release requests for this device.
    pub fn listen(device: &Device) -> io::Result<Self> {
        let flags = EFD_CLOEXEC | EFD_NONBLOCK;
        let (request, stop) = (EventFd::new(flags)?, Arc::new(EventFd::new(flags)?));
        let requested = Arc::new(AtomicBool::new(false));
        if ioctl::interrupts(device.file(), VFIO_PCI_REQ_IRQ_INDEX) == 0 {
            return Ok(Self { requested, stop, thread: None });
        }
        ioctl::set_interrupts(device.file(), VFIO_PCI_REQ_IRQ_INDEX, 0, &[request.as_raw_fd()])?;
        let (thread_requested, thread_stop) = (requested.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("xdma-recall".into())
            .spawn(move || watch(&request, &thread_stop, &thread_requested))?;
        Ok(Self { requested, stop, thread: Some(thread) })
    }

    /// Returns a flag that is set once the kernel has requested the release.
    pub fn requested(&self) -> Arc<AtomicBool> {
        self.requested.clone()
    }
}

/// Sets `requested` when `request` is signalled; returns when `stop` is.
fn watch(request: &EventFd, stop: &EventFd, requested: &AtomicBool) {
    // SAFETY: both are open until this returns.
    let files = [request, stop].map(|event| Some(unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }));
    while let Ok([_, false]) = readable(files, Duration::MAX) {
        // The kernel repeats the request every few seconds; one log line is enough.
        if request.read().is_ok() && !requested.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the kernel asks for the card to be released: transfers end with an error; close the card"
            );
        }
    }
}

impl Drop for Recall {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The write would fail only if the eventfd's counter were full. The thread blocks only while it waits for the two
            // eventfds, which are non-blocking, so it ends immediately.
            let _ = self.stop.write(1);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_request_sets_the_flag_and_dropping_ends_the_thread() {
        let event = || Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).unwrap());
        let (request, stop, requested) = (event(), event(), Arc::new(AtomicBool::new(false)));
        let (r, s, f) = (request.clone(), stop.clone(), requested.clone());
        let thread = std::thread::spawn(move || watch(&r, &s, &f));
        request.write(1).unwrap();
        let start = Instant::now();
        while !requested.load(Ordering::Relaxed) {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        drop(Recall { requested, stop, thread: Some(thread) });
    }
}
