//! Rates between two samples of a statistics page.

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use xdma::msm::MsmStats;
use xdma::stats::{ChannelReading, Reader};

/// The counters of a page at a point in time.
#[derive(Clone, Debug)]
pub struct Sample {
    at: Instant,
    channels: Vec<ChannelReading>,
    msm: MsmStats,
}

impl Sample {
    pub fn new(page: &Reader) -> Self {
        Self { at: Instant::now(), channels: page.channels(), msm: MsmStats::of(page) }
    }
}

/// Rates of a channel between two samples.
#[derive(Clone, Debug)]
pub struct ChannelRates {
    pub name: String,
    pub bytes_per_second: f64,
    pub jobs_per_second: f64,
    pub in_flight: u64,
    pub p50: Option<Duration>,
    pub p99: Option<Duration>,
    pub stalls: u64,
    pub errors: u64,
    /// Counters since the card was opened.
    total: xdma::channel::Stats,
}

/// Rates of the MSM design between two samples.
#[derive(Clone, Debug)]
pub struct MsmRates {
    pub jobs_per_second: f64,
    pub pairs_per_second: f64,
    pub in_flight: u64,
    /// Number of entries in the scalar FIFO and in the point FIFO.
    pub filled: [u64; 2],
    /// Depths of the scalar FIFO and of the point FIFO.
    pub depths: [u64; 2],
    /// Share of clock cycles in which the core was idle; `None` if the client did not sample the design in between.
    pub idle: Option<f64>,
}

#[derive(Clone, Debug)]
pub struct Rates {
    pub channels: Vec<ChannelRates>,
    pub msm: Option<MsmRates>,
}

impl Rates {
    pub fn between(before: &Sample, now: &Sample) -> Self {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(1e-9);
        let used = before.channels.iter().zip(&now.channels).filter(|(_, now)| now.stats.doorbells > 0);
        let channels = used.map(|(before, now)| channel(before, now, seconds)).collect();
        let has_design = now.msm.depths != [0; 2];
        Self { channels, msm: has_design.then(|| msm(&before.msm, &now.msm, seconds)) }
    }

    /// Returns the bytes per second of all channels whose name begins with `direction`.
    pub fn bytes_per_second(&self, direction: &str) -> f64 {
        let channels = self.channels.iter().filter(|channel| channel.name.starts_with(direction));
        channels.map(|channel| channel.bytes_per_second).sum()
    }

    pub fn stalls(&self) -> u64 {
        self.channels.iter().map(|channel| channel.stalls).sum()
    }

    pub fn errors(&self) -> u64 {
        self.channels.iter().map(|channel| channel.errors).sum()
    }

    pub fn object(&self) -> Value {
        let channels: Vec<_> = self.channels.iter().map(ChannelRates::object).collect();
        json!({ "channels": channels, "msm": self.msm.as_ref().map(MsmRates::object) })
    }
}

fn per_second(before: u64, now: u64, seconds: f64) -> f64 {
    now.saturating_sub(before) as f64 / seconds
}

fn channel(before: &ChannelReading, now: &ChannelReading, seconds: f64) -> ChannelRates {
    let times = now.latencies.since(&before.latencies);
    ChannelRates {
        name: format!("{} {}", now.direction, now.index),
        bytes_per_second: per_second(before.stats.bytes, now.stats.bytes, seconds),
        jobs_per_second: per_second(before.stats.completed, now.stats.completed, seconds),
        in_flight: now.stats.in_flight(),
        p50: times.percentile(0.5),
        p99: times.percentile(0.99),
        stalls: now.stats.stalls(),
        errors: now.stats.errors.total(),
        total: now.stats,
    }
}

fn msm(before: &MsmStats, now: &MsmStats, seconds: f64) -> MsmRates {
    let cycles = now.cycles.saturating_sub(before.cycles);
    let idle = 1.0 - now.busy.saturating_sub(before.busy) as f64 / cycles as f64;
    MsmRates {
        jobs_per_second: per_second(before.completed, now.completed, seconds),
        pairs_per_second: per_second(before.pairs, now.pairs, seconds),
        in_flight: now.submitted.saturating_sub(now.completed),
        filled: now.filled,
        depths: now.depths,
        idle: (cycles > 0).then_some(idle.clamp(0.0, 1.0)),
    }
}

impl ChannelRates {
    fn object(&self) -> Value {
        let nanoseconds = |time: Option<Duration>| time.map(|time| time.as_nanos() as u64);
        let total = &self.total;
        json!({
            "channel": self.name,
            "bytes_per_second": self.bytes_per_second,
            "jobs_per_second": self.jobs_per_second,
            "in_flight": self.in_flight,
            "p50_ns": nanoseconds(self.p50),
            "p99_ns": nanoseconds(self.p99),
            "total": {
                "submitted": total.submitted, "completed": total.completed, "abandoned": total.abandoned,
                "bytes": total.bytes, "descriptors": total.descriptors, "doorbells": total.doorbells,
                "full": total.full, "sleeps": total.sleeps, "missed": total.missed, "late": total.timeouts,
                "starved": total.starved, "recoveries": total.recoveries,
                "errors": {
                    "failed": total.errors.failed, "hung": total.errors.hung,
                    "reset": total.errors.reset, "gone": total.errors.gone,
                },
            },
        })
    }
}

impl MsmRates {
    fn object(&self) -> Value {
        json!({
            "jobs_per_second": self.jobs_per_second,
            "pairs_per_second": self.pairs_per_second,
            "in_flight": self.in_flight,
            "scalars": self.filled[0], "points": self.filled[1],
            "scalar_depth": self.depths[0], "point_depth": self.depths[1],
            "core_idle": self.idle,
        })
    }
}
