//! The ways of sending an MSM's data to the design.

use crate::FeedMode;
use anyhow::{Context, Result, anyhow};
use ark_bn254::{Fr, G1Affine};
use std::ops::Range;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;
use xdma::card::Card;
use xdma::channel::{Channel, ChannelOptions, Ring, Transfers, Wait};
use xdma::msm::curve::arkworks as curve;
use xdma::msm::{Job, Msm, MsmOptions, Output, Points, ScalarForm, Scalars, TimeoutEstimator};
use xdma::regs::{Direction, msm as regs};
use xdma::unstable::channel::counts;
use xdma::unstable::msm;
use xdma_examples::card::{Cost, Meter};
use xdma_examples::first_error::FirstError;

/// The card, the data, and the way of sending it.
pub struct Feeder {
    card: Card,
    msm: Msm,
    mode: FeedMode,
    ring: Ring,
    chunk: u32,
    limit: Limit,
    data: Option<Data>,
}

/// The time limit for a transfer and for the result.
#[derive(Clone)]
pub enum Limit {
    Fixed(Duration),
    /// Follows the number of pairs and the duration of earlier runs.
    Estimated(TimeoutEstimator),
}

struct Data {
    points: Points,
    scalars: Scalars,
    /// Prepared in mode `program` only.
    job: Option<Job>,
}

/// The result of one run.
pub struct Fed {
    pub output: Output,
    /// Seconds until the card had accepted all data.
    pub accepted: f64,
    /// Seconds until the result was available.
    pub result: f64,
    pub cost: Cost,
}

impl Feeder {
    pub fn new(
        card: &Card,
        mode: FeedMode,
        ring: Ring,
        chunk: Option<u32>,
        wait: Wait,
        limit: Limit,
    ) -> Result<Self> {
        // The client refuses chunks that would deadlock. Only programs use its chunk size, so the other modes can try such chunks.
        let program_chunk = if mode == FeedMode::Program { chunk } else { None };
        let channel = ChannelOptions { wait, ..ChannelOptions::default() };
        let msm = Msm::open(
            card,
            MsmOptions { ring: Some(ring), chunk: program_chunk, channel, ..MsmOptions::default() },
        )?;
        let chunk = chunk.unwrap_or(msm.chunk());
        Ok(Self { card: card.clone(), msm, mode, ring, chunk, limit, data: None })
    }

    pub fn chunk(&self) -> u32 {
        self.chunk
    }

    pub fn is_stub(&self) -> bool {
        self.msm.design().stub
    }

    /// Writes the data to DMA memory, and prepares the job in mode `program`.
    pub fn load(&mut self, points: &[G1Affine], scalars: &[Fr], montgomery: bool) -> Result<()> {
        let mut points_on_card = Points::allocate(&self.card, points.len())?;
        points_on_card.fill(|bytes| curve::points_to_bytes(points, bytes))??;
        let form = if montgomery { ScalarForm::Montgomery } else { ScalarForm::Canonical };
        let mut scalars_on_card = Scalars::allocate(&self.card, scalars.len(), form)?;
        scalars_on_card.fill(|bytes| match form {
            ScalarForm::Montgomery => curve::scalars_to_bytes(scalars, bytes),
            ScalarForm::Canonical => curve::scalars_to_canonical_bytes(scalars, bytes),
        })??;
        let job = match self.mode {
            FeedMode::Program => Some(self.msm.prepare(&points_on_card, &scalars_on_card)?),
            _ => None,
        };
        self.data = Some(Data { points: points_on_card, scalars: scalars_on_card, job });
        Ok(())
    }

    /// Computes the MSM once.
    pub fn run(&mut self) -> Result<Fed> {
        let data = self.data.take().context("no data was loaded")?;
        let pairs = data.points.len() as u64;
        let limit = match &self.limit {
            Limit::Fixed(limit) => *limit,
            Limit::Estimated(estimator) => estimator.timeout(pairs),
        };
        let fed = match self.mode {
            FeedMode::Program => self.program(&data, limit),
            FeedMode::Chunked => self.manually(&data, limit, Self::chunked),
            FeedMode::TwoChannel => self.manually(&data, limit, Self::two_channel),
        };
        self.data = Some(data);
        if let (Limit::Estimated(estimator), Ok(fed)) = (&mut self.limit, &fed) {
            estimator.record(pairs, Duration::from_secs_f64(fed.result));
        }
        fed
    }

    fn program(&mut self, data: &Data, limit: Duration) -> Result<Fed> {
        let job = data.job.as_ref().context("no job was prepared")?;
        let meter = self.meter();
        let ticket = self.msm.submit(job)?;
        self.msm.wait_accepted(ticket, limit)?;
        let accepted = meter.seconds();
        let output = self.msm.wait(ticket, limit)?;
        let (result, cost) = (meter.seconds(), self.cost(&meter));
        Ok(Fed { output, accepted, result, cost })
    }

    fn meter(&mut self) -> Meter {
        Meter::start(self.msm.channel().stats(), msm::counts(&self.msm))
    }

    fn cost(&mut self, meter: &Meter) -> Cost {
        meter.cost(self.msm.channel().stats(), msm::counts(&self.msm))
    }

    /// Starts a task in the design, sends its data with `feed`, and waits for the result. `feed` returns the cost of other threads.
    fn manually(
        &mut self,
        data: &Data,
        limit: Duration,
        feed: fn(&mut Self, &Data, Duration) -> Result<Cost>,
    ) -> Result<Fed> {
        let meter = self.meter();
        let ticket = self.msm.start(data.points.len() as u32, data.scalars.form())?;
        let others = match feed(self, data, limit) {
            Ok(cost) => cost,
            Err(error) => return Err(self.explain(error)),
        };
        let accepted = meter.seconds();
        let output = self.msm.wait(ticket, limit)?;
        let (result, cost) = (meter.seconds(), self.cost(&meter) + others);
        Ok(Fed { output, accepted, result, cost })
    }

    /// Adds the state of the design's FIFOs to the error of a transfer, and recovers the card.
    fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        let state = match self.msm.state() {
            Ok(fill) => fill.to_string(),
            Err(error) => error.to_string(),
        };
        let after = match self.msm.recover() {
            Ok(()) => "The card was flushed and can be used again.".to_owned(),
            Err(error) => format!("The card could not be recovered: {error}"),
        };
        error.context(format!("the design has {state}\n{after}"))
    }

    fn chunks(&self, data: &Data) -> impl Iterator<Item = Range<usize>> + use<> {
        let (count, chunk) = (data.points.len(), self.chunk as usize);
        (0..count).step_by(chunk).map(move |first| first..count.min(first + chunk))
    }

    /// Mode `chunked`.
    fn chunked(&mut self, data: &Data, limit: Duration) -> Result<Cost> {
        for range in self.chunks(data) {
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

    /// Mode `two-channel`: this thread sends scalars, another one sends points. A barrier after every chunk keeps them together.
    fn two_channel(&mut self, data: &Data, limit: Duration) -> Result<Cost> {
        let options = ChannelOptions { ring: Some(self.ring), ..self.msm.channel().options() };
        let second = self.card.channel(Direction::H2C, 1, options)?;
        let ranges: Vec<_> = self.chunks(data).collect();
        let (barrier, first_error) = (Barrier::new(2), FirstError::default());
        let feed = |channel: &mut Channel, what: &'static str, lists: &[Transfers]| {
            for (transfers, range) in lists.iter().zip(&ranges) {
                let moved = channel.start(transfers).map_err(anyhow::Error::from).and_then(|ticket| {
                    Ok(first_error.wait(limit, |limit| Ok(channel.wait(ticket, limit)?)).unwrap_or(Ok(()))?)
                });
                if let Err(error) = moved {
                    first_error.set(error.context(stuck(what, range)));
                }
                barrier.wait();
                if first_error.is_set() {
                    break;
                }
            }
        };
        let lists = |add: fn(&Data, Range<usize>) -> Result<Transfers>| -> Result<Vec<Transfers>> {
            ranges.iter().map(|range| add(data, range.clone())).collect()
        };
        let (scalar_lists, point_lists) = (lists(scalars)?, lists(points)?);
        let (second, cost) = thread::scope(|scope| {
            let other = scope.spawn(|| {
                let mut channel = second;
                let meter = Meter::start(channel.stats(), counts(&channel));
                feed(&mut channel, "points", &point_lists);
                let cost = meter.cost(channel.stats(), counts(&channel));
                (channel, cost)
            });
            feed(self.msm.channel(), "scalars", &scalar_lists);
            other.join().map_err(|_| anyhow!("the thread that sends the points panicked"))
        })?;
        match first_error.into_result() {
            Ok(()) => Ok(cost),
            Err(error) => Err(self.drop_points(second, error)),
        }
    }

    /// Recovers the channel of the points after `error`. Points for which the FIFO has no space keep the channel busy until the
    /// design drops them.
    fn drop_points(&self, mut channel: Channel, error: anyhow::Error) -> anyhow::Error {
        let flush = regs::Ctrl::ABORT | regs::Ctrl::FLUSH;
        let dropped =
            self.card.user().map_err(anyhow::Error::from).and_then(|user| {
                Ok(channel.recover_with(&mut || drop(user.write(regs::CTRL, flush.bits())))?)
            });
        match dropped {
            Ok(()) => error,
            Err(after) => error.context(format!("the channel that sends the points stays busy: {after}")),
        }
    }
}

fn stuck(what: &str, range: &Range<usize>) -> String {
    format!("the card did not accept the {what} of pairs {}..{}", range.start, range.end)
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
