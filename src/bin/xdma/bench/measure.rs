//! The measurements: one transfer at a time for latency, several in flight for throughput.

use crate::interrupt::Interrupt;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::engine::Channel;
use xdma::memory::Buffer;
use xdma::regs::Direction;

/// How long a transfer may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Transfers before those that count.
const WARM_UP: usize = 32;
/// Of 1 ns to a minute, to three digits.
const LONGEST: u64 = 60_000_000_000;

/// Figures for one direction and size.
pub struct Measured {
    pub direction: Direction,
    pub size: u64,
    /// Nanoseconds until the engine was told.
    pub submit: Histogram<u64>,
    /// Nanoseconds from then until it was known to be finished.
    pub completion: Histogram<u64>,
    /// Nanoseconds of both.
    pub total: Histogram<u64>,
    pub bytes_per_second: f64,
}

/// What all measurements have in common.
pub struct Bench<'a> {
    pub card: &'a Card,
    pub interrupt: &'a Interrupt,
    pub address: u64,
    /// Transfers in flight for throughput.
    pub depth: usize,
    /// How long each figure is measured.
    pub time: Duration,
}

impl Bench<'_> {
    /// All sizes in one direction.
    pub fn run(&self, direction: Direction, channel: usize, sizes: &[u64]) -> Result<Vec<Measured>> {
        let mut channel = match direction {
            Direction::H2C => self.card.h2c(channel)?,
            Direction::C2H => self.card.c2h(channel)?,
        };
        let largest = sizes.iter().copied().max().unwrap_or(1);
        let buffer = self.card.allocate(largest, direction).context("cannot allocate a buffer")?;
        sizes.iter().map(|&size| self.measure(&mut channel, &buffer, size)).collect()
    }

    fn measure(&self, channel: &mut Channel, buffer: &Buffer, size: u64) -> Result<Measured> {
        let context = || format!("cannot move {size:#x} bytes at card address {:#x}", self.address);
        for _ in 0..WARM_UP {
            channel.transfer(buffer, 0..size, self.address, LIMIT).with_context(context)?;
        }
        let [submit, completion, total] = self.latency(channel, buffer, size).with_context(context)?;
        let bytes_per_second = self.throughput(channel, buffer, size).with_context(context)?;
        Ok(Measured { direction: channel.direction(), size, submit, completion, total, bytes_per_second })
    }

    /// Of submitting, of completing, and of both.
    fn latency(&self, channel: &mut Channel, buffer: &Buffer, size: u64) -> Result<[Histogram<u64>; 3]> {
        let new = || Histogram::new_with_max(LONGEST, 3);
        let (mut figures, end) = ([new()?, new()?, new()?], Instant::now() + self.time);
        loop {
            let begin = Instant::now();
            let ticket = channel.submit(buffer, 0..size, self.address)?;
            let submitted = Instant::now();
            channel.wait(ticket, LIMIT)?;
            let completed = Instant::now();
            let times = [submitted - begin, completed - submitted, completed - begin];
            for (histogram, time) in figures.iter_mut().zip(times) {
                histogram.saturating_record(time.as_nanos() as u64);
            }
            if completed >= end {
                return Ok(figures);
            }
            self.interrupt.check()?;
        }
    }

    fn throughput(&self, channel: &mut Channel, buffer: &Buffer, size: u64) -> Result<f64> {
        let (begin, mut flight, mut bytes) = (Instant::now(), VecDeque::new(), 0);
        while begin.elapsed() < self.time {
            while flight.len() < self.depth {
                flight.push_back(channel.submit(buffer, 0..size, self.address)?);
            }
            if let Some(ticket) = flight.pop_front() {
                channel.wait(ticket, LIMIT)?;
                bytes += size;
            }
            self.interrupt.check()?;
        }
        let rate = bytes as f64 / begin.elapsed().as_secs_f64();
        flight.into_iter().try_for_each(|ticket| channel.wait(ticket, LIMIT))?;
        Ok(rate)
    }
}
