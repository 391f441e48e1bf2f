//! The ways of feeding.

use crate::Mode;
use anyhow::{Context, Result, anyhow};
use ark_bn254::{Fr, G1Affine};
use std::ops::Range;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;
use xdma::card::Card;
use xdma::channel::{Channel, ChannelOptions, Ring, Transfers, Wait};
use xdma::msm::curve::arkworks as curve;
use xdma::msm::{Job, Msm, MsmOptions, Output, Points, ScalarForm, Scalars};
use xdma::regs::{Direction, msm as regs};
use xdma_examples::card::{Cost, Meter};
use xdma_examples::first::FirstError;

/// The card, the data on it, and how it is fed.
pub struct Feeder {
    card: Card,
    msm: Msm,
    mode: Mode,
    ring: Ring,
    chunk: u32,
    limit: Duration,
    data: Option<Data>,
}

struct Data {
    points: Points,
    scalars: Scalars,
    /// Built in mode `program`.
    job: Option<Job>,
}

/// One run.
pub struct Fed {
    pub output: Output,
    /// Seconds until the last write was accepted.
    pub accepted: f64,
    /// Seconds until the result was there.
    pub result: f64,
    pub cost: Cost,
}

impl Feeder {
    pub fn new(
        card: &Card,
        mode: Mode,
        ring: Ring,
        chunk: Option<u32>,
        wait: Wait,
        limit: Duration,
    ) -> Result<Self> {
        // Only a program is built for a chunk; the other modes may try chunks that the client would refuse.
        let own = if mode == Mode::Program { chunk } else { None };
        let channel = ChannelOptions { wait, ..ChannelOptions::default() };
        let msm =
            Msm::open(card, MsmOptions { ring: Some(ring), chunk: own, channel, ..MsmOptions::default() })?;
        let chunk = chunk.unwrap_or(msm.chunk());
        Ok(Self { card: card.clone(), msm, mode, ring, chunk, limit, data: None })
    }

    pub fn chunk(&self) -> u32 {
        self.chunk
    }

    pub fn is_stub(&self) -> bool {
        self.msm.design().stub
    }

    /// Writes the data to memory that the card reads.
    pub fn load(&mut self, points: &[G1Affine], scalars: &[Fr], montgomery: bool) -> Result<()> {
        let mut on_card = Points::allocate(&self.card, points.len())?;
        on_card.fill(|bytes| curve::points_to_bytes(points, bytes))??;
        let form = if montgomery { ScalarForm::Montgomery } else { ScalarForm::Canonical };
        let mut factors = Scalars::allocate(&self.card, scalars.len(), form)?;
        factors.fill(|bytes| match form {
            ScalarForm::Montgomery => curve::scalars_to_bytes(scalars, bytes),
            ScalarForm::Canonical => curve::scalars_to_canonical_bytes(scalars, bytes),
        })??;
        let job = match self.mode {
            Mode::Program => Some(self.msm.prepare(&on_card, &factors)?),
            _ => None,
        };
        self.data = Some(Data { points: on_card, scalars: factors, job });
        Ok(())
    }

    /// Feeds once.
    pub fn run(&mut self) -> Result<Fed> {
        let data = self.data.take().context("nothing was loaded")?;
        let fed = match self.mode {
            Mode::Program => self.program(&data),
            Mode::Chunked => self.by_hand(&data, Self::chunked),
            Mode::TwoChannel => self.by_hand(&data, Self::two_channel),
        };
        self.data = Some(data);
        fed
    }

    fn program(&mut self, data: &Data) -> Result<Fed> {
        let job = data.job.as_ref().context("nothing was prepared")?;
        let meter = Meter::start(self.msm.channel().stats());
        let ticket = self.msm.submit(job)?;
        self.msm.wait_accepted(ticket, self.limit)?;
        let accepted = meter.seconds();
        let output = self.msm.wait(ticket, self.limit)?;
        let (result, cost) = (meter.seconds(), meter.cost(self.msm.channel().stats()));
        Ok(Fed { output, accepted, result, cost })
    }

    /// Pushes the task and lets `feed` stream its data; what it returns is the cost of other threads.
    fn by_hand(&mut self, data: &Data, feed: fn(&mut Self, &Data) -> Result<Cost>) -> Result<Fed> {
        let meter = Meter::start(self.msm.channel().stats());
        let ticket = self.msm.start(data.points.len() as u32, data.scalars.form())?;
        let others = match feed(self, data) {
            Ok(cost) => cost,
            Err(error) => return Err(self.explain(error)),
        };
        let accepted = meter.seconds();
        let output = self.msm.wait(ticket, self.limit)?;
        let (result, cost) = (meter.seconds(), meter.cost(self.msm.channel().stats()) + others);
        Ok(Fed { output, accepted, result, cost })
    }

    /// Why a transfer is stuck, and the card usable again.
    fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        let seen = match self.msm.fill() {
            Ok(fill) => fill.to_string(),
            Err(error) => error.to_string(),
        };
        let after = match self.msm.recover() {
            Ok(()) => "The card was flushed and is ready again.".to_owned(),
            Err(error) => format!("The card could not be recovered: {error}"),
        };
        error.context(format!("the design has {seen}\n{after}"))
    }

    fn chunks(&self, data: &Data) -> impl Iterator<Item = Range<usize>> + use<> {
        let (count, chunk) = (data.points.len(), self.chunk as usize);
        (0..count).step_by(chunk).map(move |first| first..count.min(first + chunk))
    }

    /// One blocking transfer after the other.
    fn chunked(&mut self, data: &Data) -> Result<Cost> {
        for range in self.chunks(data) {
            let limit = self.limit;
            let channel = self.msm.channel();
            for (what, transfers) in
                [("scalars", scalars(data, range.clone())?), ("points", points(data, range.clone())?)]
            {
                let ticket = channel.start(&transfers)?;
                channel.wait(ticket, limit).with_context(|| stuck(what, &range))?;
            }
        }
        Ok(Cost::default())
    }

    /// Scalars from this thread, points from another, a barrier after every chunk so that neither runs ahead.
    fn two_channel(&mut self, data: &Data) -> Result<Cost> {
        let options = ChannelOptions { ring: Some(self.ring), ..self.msm.channel().options() };
        let second = self.card.channel(Direction::H2C, 1, options)?;
        let (ranges, limit): (Vec<_>, _) = (self.chunks(data).collect(), self.limit);
        let (barrier, first) = (Barrier::new(2), FirstError::default());
        let feed = |channel: &mut Channel, what: &'static str, lists: &[Transfers]| {
            for (transfers, range) in lists.iter().zip(&ranges) {
                let moved = channel.start(transfers).and_then(|ticket| {
                    first.wait(limit, |limit| channel.wait(ticket, limit)).unwrap_or(Ok(()))
                });
                if let Err(error) = moved {
                    first.set(anyhow!(error).context(stuck(what, range)));
                }
                barrier.wait();
                if first.is_set() {
                    break;
                }
            }
        };
        let lists = |add: fn(&Data, Range<usize>) -> Result<Transfers>| -> Result<Vec<Transfers>> {
            ranges.iter().map(|range| add(data, range.clone())).collect()
        };
        let (of_scalars, of_points) = (lists(scalars)?, lists(points)?);
        let (second, cost) = thread::scope(|scope| {
            let other = scope.spawn(|| {
                let mut channel = second;
                let meter = Meter::start(channel.stats());
                feed(&mut channel, "points", &of_points);
                let cost = meter.cost(channel.stats());
                (channel, cost)
            });
            feed(self.msm.channel(), "scalars", &of_scalars);
            other.join().map_err(|_| anyhow!("the thread of the points panicked"))
        })?;
        match first.take() {
            Ok(()) => Ok(cost),
            Err(error) => Err(self.drop_points(second, error)),
        }
    }

    /// Points that wait for room keep their channel busy until the design drops them. `error` is why they wait.
    fn drop_points(&self, mut channel: Channel, error: anyhow::Error) -> anyhow::Error {
        let flush = regs::Ctrl::ABORT | regs::Ctrl::FLUSH;
        let dropped =
            self.card.user().map_err(anyhow::Error::from).and_then(|user| {
                Ok(channel.recover_with(&mut || Ok(user.write(regs::CTRL, flush.bits())?))?)
            });
        match dropped {
            Ok(()) => error,
            Err(after) => error.context(format!("the channel of the points stays busy: {after}")),
        }
    }
}

fn stuck(what: &str, range: &Range<usize>) -> String {
    format!("the card does not accept the {what} of pairs {}..{}", range.start, range.end)
}

fn scalars(data: &Data, range: Range<usize>) -> Result<Transfers> {
    let mut transfers = Transfers::new(Direction::H2C);
    data.scalars.add_to(&mut transfers, range)?;
    Ok(transfers)
}

fn points(data: &Data, range: Range<usize>) -> Result<Transfers> {
    let mut transfers = Transfers::new(Direction::H2C);
    data.points.add_to(&mut transfers, range)?;
    Ok(transfers)
}
