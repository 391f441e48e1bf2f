//! What a channel took: latencies that the driver samples, and the counters of the engine.

use crate::channel::{CHANNELS, xdma_channel};
use crate::error::run;
use crate::pointers::Out;
use crate::status::xdma_status;
use xdma::channel::Latencies;

/// Counters of the performance monitor of an engine.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_performance {
    /// Clock cycles of the core.
    pub cycles: u64,
    /// Beats of the data path, each of xdma_card_info.data_width bytes.
    pub beats: u64,
    /// Whether a counter has reached its maximum, 2^42 - 1, at which it stops.
    pub saturated: bool,
}

/// Clears and starts the performance monitor of a channel.
///
/// It counts from the next start of the engine, or at once if the engine is running. On the chain ring, it stops with the next transfer or
/// run; on the credits ring, it counts until it is started again. Only the channel's thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_GONE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_start_monitor(channel: *mut xdma_channel) -> xdma_status {
    run(|| Ok(CHANNELS.get(channel)?.channel().start_monitor()?))
}

/// Stores the counters of the performance monitor of a channel in `performance`. It reads at least five registers.
///
/// Only the channel's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_GONE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_get_performance(
    channel: *mut xdma_channel,
    performance: *mut xdma_performance,
) -> xdma_status {
    run(|| {
        let (out, channel) = (Out::new(performance)?, CHANNELS.get(channel)?.channel());
        let counted = channel.monitor()?;
        let value =
            xdma_performance { cycles: counted.cycles, beats: counted.beats, saturated: counted.saturated };
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(value) }
    })
}

/// How long transfers, runs and packets took, from their submission until the driver saw their completion, in nanoseconds.
///
/// The driver measures a sample of them. A time is rounded up, by at most a quarter. All fields are 0 if there are no samples.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_latencies {
    /// Number of samples since the card was opened.
    pub samples: u64,
    /// The time that half of them took at most.
    pub median: u64,
    /// The time that 90 % took at most.
    pub percent_90: u64,
    /// The time that 99 % took at most.
    pub percent_99: u64,
    /// The time that all of them took at most.
    pub longest: u64,
}

impl From<Latencies> for xdma_latencies {
    fn from(latencies: Latencies) -> Self {
        let within = |share| latencies.percentile(share).map_or(0, |time| time.as_nanos() as u64);
        Self {
            samples: latencies.count(),
            median: within(0.5),
            percent_90: within(0.9),
            percent_99: within(0.99),
            longest: within(1.0),
        }
    }
}

/// Stores the latencies of a channel in `latencies`. It reads no register.
///
/// Only the channel's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_channel_get_latencies(
    channel: *mut xdma_channel,
    latencies: *mut xdma_latencies,
) -> xdma_status {
    run(|| {
        let (out, channel) = (Out::new(latencies)?, CHANNELS.get(channel)?.channel());
        // Only a child process has none, and there the handle is not valid.
        let value = channel.latencies().map_or(EMPTY, xdma_latencies::from);
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(value) }
    })
}

const EMPTY: xdma_latencies =
    xdma_latencies { samples: 0, median: 0, percent_90: 0, percent_99: 0, longest: 0 };
