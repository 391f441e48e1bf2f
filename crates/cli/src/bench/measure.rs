//! The measurements: one transfer at a time for latency, several in flight for throughput.
//!
//! A single thread does everything, as in a prover. Each round measures all figures, so a temporary disturbance of the machine shows up
//! as a difference between rounds instead of a difference between figures.

use super::machine::CpuUsage;
use super::results::{Directions, Latency, Sweep, Throughput, Times, median};
use crate::interrupt::Interrupt;
use crate::number;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::channel::{Channel, ChannelOptions, Ticket, TransferError, WaitError};
use xdma::memory::Buffer;
use xdma::regs::Direction;

/// Number of rounds.
pub const ROUNDS: u32 = 5;
/// Time limit for a transfer.
const LIMIT: Duration = Duration::from_secs(10);
/// Maximum number of transfers of a warm-up.
const WARM_UP: usize = 32;
/// Longest time that the histograms can hold: one minute, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// A figure to measure.
pub enum Figure {
    Latency(Box<LatencyFigure>),
    Throughput(ThroughputFigure),
}

/// The latency of transfers of one direction and size.
pub struct LatencyFigure {
    pub direction: Direction,
    pub bytes: u64,
    pub submit: TimeRecorder,
    pub completion: TimeRecorder,
    pub total: TimeRecorder,
}

/// A histogram of times, and the median of each round.
pub struct TimeRecorder {
    pub times: Histogram<u64>,
    round: Histogram<u64>,
    medians: Vec<f64>,
}

/// The throughput of one configuration.
pub struct ThroughputFigure {
    pub sweep: Sweep,
    pub directions: Directions,
    pub bytes: u64,
    pub depth: usize,
    pub channels: usize,
    transfers: u64,
    rounds: Vec<f64>,
    used: CpuUsage,
    seconds: f64,
}

impl Figure {
    pub fn latency(direction: Direction, bytes: u64) -> Result<Self> {
        let [submit, completion, total] = [TimeRecorder::new()?, TimeRecorder::new()?, TimeRecorder::new()?];
        Ok(Self::Latency(Box::new(LatencyFigure { direction, bytes, submit, completion, total })))
    }

    pub fn throughput(
        sweep: Sweep,
        directions: Directions,
        bytes: u64,
        depth: usize,
        channels: usize,
    ) -> Self {
        Self::Throughput(ThroughputFigure {
            sweep,
            directions,
            bytes,
            depth,
            channels,
            transfers: 0,
            rounds: vec![],
            used: CpuUsage::default(),
            seconds: 0.0,
        })
    }

    /// Describes the figure in a few words.
    pub fn name(&self) -> String {
        match self {
            Self::Latency(of) => format!("latency, {} {}", of.direction, number::bytes(of.bytes)),
            Self::Throughput(of) => format!(
                "throughput, {} {}, {} in flight, channels: {}",
                of.directions,
                number::bytes(of.bytes),
                of.depth,
                of.channels
            ),
        }
    }
}

impl TimeRecorder {
    fn new() -> Result<Self> {
        let new = || Histogram::new_with_max(LONGEST, 3);
        Ok(Self { times: new()?, round: new()?, medians: vec![] })
    }

    fn record(&mut self, time: Duration) {
        self.round.saturating_record(time.as_nanos().try_into().unwrap_or(u64::MAX));
    }

    fn end_round(&mut self) -> Result<()> {
        self.medians.push(self.round.value_at_quantile(0.5) as f64);
        self.times.add(&self.round)?;
        self.round.reset();
        Ok(())
    }

    fn times(&self) -> Times {
        Times::new(&self.times, self.medians.clone())
    }
}

impl LatencyFigure {
    pub fn result(&self) -> Latency {
        Latency {
            direction: if self.direction == Direction::H2C { Directions::H2C } else { Directions::C2H },
            bytes: self.bytes,
            submit: self.submit.times(),
            completion: self.completion.times(),
            total: self.total.times(),
        }
    }
}

impl ThroughputFigure {
    pub fn result(&self) -> Throughput {
        Throughput {
            sweep: self.sweep,
            direction: self.directions,
            bytes: self.bytes,
            depth: self.depth,
            channels: self.channels,
            transfers: self.transfers,
            bytes_per_second: median(&self.rounds),
            rounds: self.rounds.clone(),
            cpu: self.used.thread / self.seconds,
            cpu_others: (self.used.process - self.used.thread).max(0.0) / self.seconds,
        }
    }
}

/// The channels of one direction, and the buffer that they share.
struct ChannelSet {
    channels: Vec<Channel>,
    buffer: Buffer,
}

/// A channel with transfers in flight.
struct Lane<'a> {
    channel: &'a mut Channel,
    buffer: &'a Buffer,
    flight: VecDeque<Ticket>,
}

/// The open channels and the settings that all measurements share.
pub struct Bench<'a> {
    interrupt: &'a Interrupt,
    address: u64,
    /// Duration of the measurement of one figure in one round.
    time: Duration,
    h2c: ChannelSet,
    c2h: ChannelSet,
}

impl<'a> Bench<'a> {
    /// Opens as many channels as the figures need, and allocates memory for the largest transfer.
    pub fn open(
        card: &Card,
        interrupt: &'a Interrupt,
        address: u64,
        time: Duration,
        options: ChannelOptions,
        figures: &[Figure],
    ) -> Result<Self> {
        let needs = figures.iter().map(|figure| match figure {
            Figure::Latency(of) => (of.bytes, 1),
            Figure::Throughput(of) => (of.bytes, of.channels),
        });
        let (bytes, channels) = needs.fold((1, 1), |max, need| (max.0.max(need.0), max.1.max(need.1)));
        let open_set = |direction| -> Result<ChannelSet> {
            let open = |index| card.channel(direction, index, options);
            let buffer = card.allocate(bytes, direction);
            Ok(ChannelSet {
                channels: (0..channels).map(open).collect::<Result<_, _>>()?,
                buffer: buffer
                    .with_context(|| format!("cannot allocate a buffer of {}", number::bytes(bytes)))?,
            })
        };
        let (h2c, c2h) = (open_set(Direction::H2C)?, open_set(Direction::C2H)?);
        Ok(Self { interrupt, address, time: time / ROUNDS, h2c, c2h })
    }

    /// Measures all figures, round by round.
    pub fn run(&mut self, figures: &mut [Figure], bar: &ProgressBar) -> Result<()> {
        for _ in 0..ROUNDS {
            for figure in &mut *figures {
                bar.set_message(figure.name());
                let measured = match figure {
                    Figure::Latency(figure) => self.latency(figure),
                    Figure::Throughput(figure) => self.throughput(figure),
                };
                measured.with_context(|| format!("cannot measure {}", figure.name()))?;
                bar.inc(1);
            }
        }
        Ok(())
    }

    /// Returns the name of the ring in use.
    pub fn ring(&self) -> String {
        self.h2c.channels.first().map(|channel| channel.ring().to_string()).unwrap_or_default()
    }

    fn lanes(&mut self, directions: &[Direction], channels: usize) -> Vec<Lane<'_>> {
        let sets = [(Direction::H2C, &mut self.h2c), (Direction::C2H, &mut self.c2h)];
        sets.into_iter()
            .filter(|(direction, _)| directions.contains(direction))
            .flat_map(|(_, ChannelSet { channels: all, buffer })| {
                let lane = |channel| Lane { channel, buffer, flight: VecDeque::new() };
                all.iter_mut().take(channels).map(lane)
            })
            .collect()
    }

    fn latency(&mut self, figure: &mut LatencyFigure) -> Result<()> {
        let (bytes, time, address, interrupt) = (figure.bytes, self.time, self.address, self.interrupt);
        for lane in &mut self.lanes(&[figure.direction], 1) {
            lane.warm_up(bytes, address, time)?;
            let end = Instant::now() + time;
            loop {
                let begin = Instant::now();
                let ticket = lane.channel.submit(lane.buffer, 0..bytes, address)?;
                let submitted = Instant::now();
                lane.channel.wait(ticket, LIMIT)?;
                let completed = Instant::now();
                figure.submit.record(submitted - begin);
                figure.completion.record(completed - submitted);
                figure.total.record(completed - begin);
                interrupt.check()?;
                if completed >= end {
                    break;
                }
            }
        }
        [&mut figure.submit, &mut figure.completion, &mut figure.total]
            .into_iter()
            .try_for_each(TimeRecorder::end_round)
    }

    fn throughput(&mut self, figure: &mut ThroughputFigure) -> Result<()> {
        let (bytes, depth, time) = (figure.bytes, figure.depth, self.time);
        let (address, interrupt) = (self.address, self.interrupt);
        let mut lanes = self.lanes(figure.directions.as_slice(), figure.channels);
        for lane in &mut lanes {
            lane.warm_up(bytes, address, time)?;
        }
        let (begin, before, mut transfers) = (Instant::now(), CpuUsage::now()?, 0);
        while begin.elapsed() < time {
            for lane in &mut lanes {
                while lane.flight.len() < depth {
                    lane.flight.push_back(lane.channel.submit(lane.buffer, 0..bytes, address)?);
                    transfers += 1;
                }
                // The other lanes still have transfers in flight.
                lane.wait_for_one()?;
            }
            interrupt.check()?;
        }
        for lane in &mut lanes {
            while !lane.flight.is_empty() {
                lane.wait_for_one()?;
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        figure.used += CpuUsage::now()? - before;
        figure.seconds += seconds;
        figure.transfers += transfers;
        figure.rounds.push((transfers * bytes) as f64 / seconds);
        Ok(())
    }
}

impl Lane<'_> {
    /// Warms up caches and branch predictors: makes transfers for up to a fifth of the measurement's time, at least one and at most
    /// [`WARM_UP`].
    fn warm_up(&mut self, bytes: u64, address: u64, time: Duration) -> Result<(), TransferError> {
        let end = Instant::now() + time / 5;
        for _ in 0..WARM_UP {
            self.channel.transfer(self.buffer, 0..bytes, address, LIMIT)?;
            if Instant::now() >= end {
                break;
            }
        }
        Ok(())
    }

    /// Waits for the oldest transfer in flight.
    fn wait_for_one(&mut self) -> Result<(), WaitError> {
        let ticket = self.flight.pop_front();
        ticket.map_or(Ok(()), |ticket| self.channel.wait(ticket, LIMIT))
    }
}
