//! The kernel's wish to have the device back: on unbinding and on hot removal it asks, and waits until the device is closed.

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

/// A thread that sleeps until the kernel asks.
#[derive(Debug)]
pub(super) struct Recall {
    asked: Arc<AtomicBool>,
    end: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Recall {
    /// Starts to listen; where the kernel never asks, nothing is started.
    pub fn listen(device: &Device) -> io::Result<Self> {
        let flags = EFD_CLOEXEC | EFD_NONBLOCK;
        let (request, end) = (EventFd::new(flags)?, Arc::new(EventFd::new(flags)?));
        let asked = Arc::new(AtomicBool::new(false));
        if ioctl::interrupts(device.file(), VFIO_PCI_REQ_IRQ_INDEX) == 0 {
            return Ok(Self { asked, end, thread: None });
        }
        ioctl::set_interrupts(device.file(), VFIO_PCI_REQ_IRQ_INDEX, 0, &[request.as_raw_fd()])?;
        let (flag, stop) = (asked.clone(), end.clone());
        let thread = std::thread::Builder::new()
            .name("xdma-recall".into())
            .spawn(move || wait(&request, &stop, &flag))?;
        Ok(Self { asked, end, thread: Some(thread) })
    }

    /// Set once the kernel asked.
    pub fn asked(&self) -> Arc<AtomicBool> {
        self.asked.clone()
    }
}

fn wait(request: &EventFd, end: &EventFd, asked: &AtomicBool) {
    // SAFETY: both are open until this returns.
    let files = [request, end].map(|event| Some(unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }));
    while let Ok([_, false]) = readable(files, Duration::MAX) {
        // It asks again every few seconds; once is enough.
        if request.read().is_ok() && !asked.swap(true, Ordering::Relaxed) {
            tracing::warn!("the kernel wants the card back: transfers end with an error; close the card");
        }
    }
}

impl Drop for Recall {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // An eventfd takes one more event as long as its counter is small. The thread sleeps on it and nothing else that blocks,
            // as both eventfds are non-blocking, so it ends at once.
            let _ = self.end.write(1);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_request_sets_the_flag_and_the_end_ends_the_thread() {
        let event = || Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).unwrap());
        let (request, end, asked) = (event(), event(), Arc::new(AtomicBool::new(false)));
        let (r, e, a) = (request.clone(), end.clone(), asked.clone());
        let thread = std::thread::spawn(move || wait(&r, &e, &a));
        request.write(1).unwrap();
        let start = Instant::now();
        while !asked.load(Ordering::Relaxed) {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        drop(Recall { asked, end, thread: Some(thread) });
    }
}
