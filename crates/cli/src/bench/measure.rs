//! The measurements: one transfer at a time for latency, several in flight for throughput.
//!
//! One thread does it all, as a prover's would. Everything is measured in rounds, all figures in each of them: what the machine does
//! for a while then shows as a difference between rounds instead of as a difference between figures.

use super::machine::Usage;
use super::results::{Latency, Sweep, Throughput, Times, Way, median};
use crate::interrupt::Interrupt;
use crate::number;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::channel::{Channel, ChannelOptions, EngineError, Ticket};
use xdma::memory::Buffer;
use xdma::regs::Direction;

/// How often everything is measured.
pub const ROUNDS: u32 = 5;
/// How long a transfer may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Transfers before those that count, where they are quick.
const WARM_UP: usize = 32;
/// Of 1 ns to a minute, to three digits.
const LONGEST: u64 = 60_000_000_000;

/// One thing to measure.
pub enum Figure {
    Latency(Box<LatencyFigure>),
    Throughput(ThroughputFigure),
}

/// Latency of one direction and size.
pub struct LatencyFigure {
    pub direction: Direction,
    pub bytes: u64,
    pub submit: Recorded,
    pub completion: Recorded,
    pub total: Recorded,
}

/// Times, and the median of each round.
pub struct Recorded {
    pub times: Histogram<u64>,
    round: Histogram<u64>,
    medians: Vec<f64>,
}

/// Throughput with one setting.
pub struct ThroughputFigure {
    pub sweep: Sweep,
    pub way: Way,
    pub bytes: u64,
    pub depth: usize,
    pub channels: usize,
    transfers: u64,
    rounds: Vec<f64>,
    used: Usage,
    seconds: f64,
}

impl Figure {
    pub fn latency(direction: Direction, bytes: u64) -> Result<Self> {
        let [submit, completion, total] = [Recorded::new()?, Recorded::new()?, Recorded::new()?];
        Ok(Self::Latency(Box::new(LatencyFigure { direction, bytes, submit, completion, total })))
    }

    pub fn throughput(sweep: Sweep, way: Way, bytes: u64, depth: usize, channels: usize) -> Self {
        Self::Throughput(ThroughputFigure {
            sweep,
            way,
            bytes,
            depth,
            channels,
            transfers: 0,
            rounds: vec![],
            used: Usage::default(),
            seconds: 0.0,
        })
    }

    /// What is measured, in a few words.
    pub fn name(&self) -> String {
        match self {
            Self::Latency(of) => format!("latency, {} {}", of.direction, number::bytes(of.bytes)),
            Self::Throughput(of) => format!(
                "throughput, {} {}, {} in flight, channels: {}",
                of.way,
                number::bytes(of.bytes),
                of.depth,
                of.channels
            ),
        }
    }
}

impl Recorded {
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
            direction: if self.direction == Direction::H2C { Way::H2C } else { Way::C2H },
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
            direction: self.way,
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

/// The channels of one direction, and the memory for all of them.
struct Side {
    channels: Vec<Channel>,
    buffer: Buffer,
}

/// A channel with transfers in flight.
struct Lane<'a> {
    channel: &'a mut Channel,
    buffer: &'a Buffer,
    flight: VecDeque<Ticket>,
}

/// What all measurements have in common.
pub struct Bench<'a> {
    interrupt: &'a Interrupt,
    address: u64,
    /// How long each figure is measured in each round.
    time: Duration,
    h2c: Side,
    c2h: Side,
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
        let (bytes, channels) = needs.fold((1, 1), |most, need| (most.0.max(need.0), most.1.max(need.1)));
        let side = |direction| -> Result<Side> {
            let open = |index| card.channel(direction, index, options);
            let buffer = card.allocate(bytes, direction);
            Ok(Side {
                channels: (0..channels).map(open).collect::<Result<_, _>>()?,
                buffer: buffer
                    .with_context(|| format!("cannot allocate a buffer of {}", number::bytes(bytes)))?,
            })
        };
        let (h2c, c2h) = (side(Direction::H2C)?, side(Direction::C2H)?);
        Ok(Self { interrupt, address, time: time / ROUNDS, h2c, c2h })
    }

    /// Measures everything, round by round.
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

    /// The ring in use.
    pub fn ring(&self) -> String {
        self.h2c.channels.first().map(|channel| channel.ring().to_string()).unwrap_or_default()
    }

    fn lanes(&mut self, directions: &[Direction], channels: usize) -> Vec<Lane<'_>> {
        let wanted = |direction| directions.contains(&direction);
        let sides = [(Direction::H2C, &mut self.h2c), (Direction::C2H, &mut self.c2h)];
        let sides = sides.into_iter().filter(|(direction, _)| wanted(*direction));
        sides
            .flat_map(|(_, Side { channels: all, buffer })| {
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
            .try_for_each(Recorded::end_round)
    }

    fn throughput(&mut self, figure: &mut ThroughputFigure) -> Result<()> {
        let (bytes, depth, time) = (figure.bytes, figure.depth, self.time);
        let (address, interrupt) = (self.address, self.interrupt);
        let mut lanes = self.lanes(figure.way.directions(), figure.channels);
        for lane in &mut lanes {
            lane.warm_up(bytes, address, time)?;
        }
        let (begin, before, mut transfers) = (Instant::now(), Usage::now()?, 0);
        while begin.elapsed() < time {
            for lane in &mut lanes {
                while lane.flight.len() < depth {
                    lane.flight.push_back(lane.channel.submit(lane.buffer, 0..bytes, address)?);
                    transfers += 1;
                }
                // The others have theirs in flight meanwhile.
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
        figure.used += Usage::now()? - before;
        figure.seconds += seconds;
        figure.transfers += transfers;
        figure.rounds.push((transfers * bytes) as f64 / seconds);
        Ok(())
    }
}

impl Lane<'_> {
    /// A few transfers, for caches and branch predictors: as many as a fifth of the measurement's time allows, but one.
    fn warm_up(&mut self, bytes: u64, address: u64, time: Duration) -> Result<(), EngineError> {
        let end = Instant::now() + time / 5;
        for _ in 0..WARM_UP {
            self.channel.transfer(self.buffer, 0..bytes, address, LIMIT)?;
            if Instant::now() >= end {
                break;
            }
        }
        Ok(())
    }

    fn wait_for_one(&mut self) -> Result<(), EngineError> {
        let ticket = self.flight.pop_front();
        ticket.map_or(Ok(()), |ticket| self.channel.wait(ticket, LIMIT))
    }
}
