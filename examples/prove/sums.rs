//! The proof's sums on the card: points stay there, scalars come with each proof.

use crate::common::card::{Cost, Meter};
use crate::groth16::{Query, Setup};
use anyhow::{Context, Result};
use ark_bn254::{Fr, G1Projective};
use std::time::Duration;
use xdma::card::Card;
use xdma::msm::curve::arkworks::{points_to_bytes, result_to_projective, scalars_to_bytes};
use xdma::msm::{Job, Msm, MsmOptions, Points, ScalarForm, Scalars};

/// No sum of these circuits takes longer, on any machine that runs the emulated card.
const LIMIT: Duration = Duration::from_secs(120);

/// The card with a key's points.
pub struct Sums {
    msm: Msm,
    /// Scalars of A, B1 and, in their private part, L.
    witness: Scalars,
    /// Scalars of H.
    quotient: Scalars,
    jobs: Vec<(Query, Job)>,
}

/// A sum and what it took.
pub struct Sum {
    pub point: G1Projective,
    pub pairs: u64,
    pub seconds: f64,
    pub cost: Cost,
}

impl Sums {
    /// Writes the key's points to memory that the card reads, and builds the four programs.
    pub fn new(card: &Card, setup: &Setup) -> Result<Self> {
        let msm = Msm::open(card, MsmOptions::default())?;
        let whole = setup.points(Query::A).len();
        let witness = Scalars::allocate(card, whole, ScalarForm::Montgomery)?;
        let quotient = Scalars::allocate(card, setup.points(Query::H).len(), ScalarForm::Montgomery)?;
        let mut jobs = vec![];
        for query in Query::ALL {
            let points = setup.points(query);
            let mut on_card = Points::allocate(card, points.len())?;
            on_card.fill(|bytes| points_to_bytes(points, bytes))??;
            let scalars = if query == Query::H { &quotient } else { &witness };
            // A and B1 are over all scalars, L over the last ones: the witness begins with what is public.
            let first = scalars.len() - points.len();
            let job = msm.prepare_range(&on_card, 0..points.len(), scalars, first..scalars.len())?;
            jobs.push((query, job));
        }
        Ok(Self { msm, witness, quotient, jobs })
    }

    /// Pairs that a chunk has.
    pub fn chunk(&self) -> u32 {
        self.msm.chunk()
    }

    /// One of the sums. A comes first in a proof: it brings the witness for B1 and L.
    pub fn sum(&mut self, query: Query, scalars: &[Fr]) -> Result<Sum> {
        match query {
            Query::A => self.witness.fill(|bytes| scalars_to_bytes(scalars, bytes))??,
            Query::H => self.quotient.fill(|bytes| scalars_to_bytes(scalars, bytes))??,
            Query::B1 | Query::L => {}
        }
        let (_, job) = self.jobs.iter().find(|(of, _)| *of == query).context("every sum has its job")?;
        let meter = Meter::start(self.msm.channel().stats());
        let ticket = self.msm.submit(job)?;
        let output = self.msm.wait(ticket, LIMIT)?;
        let (seconds, cost) = (meter.seconds(), meter.cost(self.msm.channel().stats()));
        let point = result_to_projective(&output.bytes).context("the card's result is no point")?;
        Ok(Sum { point, pairs: job.pairs().into(), seconds, cost })
    }
}
