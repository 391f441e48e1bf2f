//! Performance runs, which `PERF_START` of the kernel module starts: transfers in a loop, measured by the core's counters.

use crate::errno;
use crate::ioctl::Perf;
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use xdma::card::Card;
use xdma::channel::Channel;
use xdma::memory::Buffer;
use xdma::regs::Direction;

/// Maximum size of a transfer in bytes: the size of the buffer that the kernel module allocates.
const LARGEST: u32 = 4 << 20;
/// Number of transfers in flight.
const DEPTH: usize = 8;
/// Timeout of a transfer.
const LIMIT: Duration = Duration::from_secs(10);
/// Number of transfers between two reads of the counters.
const READ_INTERVAL: u32 = 64;

/// A performance run. Dropping it stops the run.
#[derive(Debug)]
pub(crate) struct Run {
    counters: Arc<Mutex<Perf>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Run {
    /// Starts a run on a channel that is not in use.
    pub fn start(card: &Card, direction: Direction, channel: Channel, request: Perf) -> Result<Self, Errno> {
        if request.version != 1 || request.transfer_size == 0 || request.transfer_size > LARGEST {
            return Err(Errno::INVAL);
        }
        let buffer = card
            .allocate(request.transfer_size.into(), direction)
            .map_err(|error| errno::of_memory(&error))?;
        let (counters, stop) = (Arc::new(Mutex::new(request)), Arc::<AtomicBool>::default());
        let thread = thread::Builder::new().name("perf".into()).spawn({
            let (counters, stop) = (counters.clone(), stop.clone());
            move || transfer_until(channel, &buffer, &counters, &stop)
        });
        Ok(Self { counters, stop, thread: Some(thread.map_err(|_| Errno::AGAIN)?) })
    }

    /// Returns the counters.
    pub fn counters(&self) -> Perf {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the run, waits until the engine is idle, and returns the counters.
    pub fn stop(mut self) -> Perf {
        self.join();
        self.counters()
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, its message is already printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.join();
    }
}

fn transfer_until(mut channel: Channel, buffer: &Buffer, counters: &Mutex<Perf>, stop: &AtomicBool) {
    let length = counters.lock().unwrap_or_else(PoisonError::into_inner).transfer_size.into();
    let mut tickets = std::collections::VecDeque::with_capacity(DEPTH);
    let mut iterations = 0u32;
    if channel.start_monitor().is_err() {
        return;
    }
    loop {
        let running = !stop.load(Ordering::Relaxed);
        while running && tickets.len() < DEPTH {
            match channel.submit(buffer, 0..length, 0) {
                Ok(ticket) => tickets.push_back(ticket),
                Err(error) => return tracing::warn!(%error, "a performance run failed"),
            }
        }
        match tickets.pop_front().map(|ticket| channel.wait(ticket, LIMIT)) {
            Some(Ok(())) => iterations = iterations.wrapping_add(1),
            Some(Err(error)) => return tracing::warn!(%error, "a performance run failed"),
            None => return record(&channel, iterations, counters),
        }
        if iterations.is_multiple_of(READ_INTERVAL) {
            record(&channel, iterations, counters);
        }
    }
}

fn record(channel: &Channel, iterations: u32, counters: &Mutex<Perf>) {
    if let Ok(performance) = channel.monitor() {
        let mut counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
        (counters.iterations, counters.clock, counters.data) =
            (iterations, performance.cycles, performance.beats);
    }
}
