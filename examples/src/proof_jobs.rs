//! The proof's sums on the card: points stay there, scalars come with each proof.

use super::groth16::{Query, Setup};
use anyhow::{Context, Result};
use ark_bn254::Fr;
use xdma::card::Card;
use xdma::msm::curve::arkworks::{points_to_bytes, scalars_to_bytes};
use xdma::msm::{Job, Msm, Points, ScalarForm, Scalars};

/// A key's points in memory that the card reads.
pub struct KeyPoints(Vec<(Query, Points)>);

impl KeyPoints {
    /// Writes them there.
    pub fn new(card: &Card, setup: &Setup) -> Result<Self> {
        let write = |query| {
            let points = setup.points(query);
            let mut on_card = Points::allocate(card, points.len())?;
            on_card.fill(|bytes| points_to_bytes(points, bytes))??;
            Ok((query, on_card))
        };
        Ok(Self(Query::ALL.into_iter().map(write).collect::<Result<_>>()?))
    }
}

/// The scalars of one proof at a time, and the four programs that send them with a key's points.
pub struct Lane {
    /// Scalars of A, B1 and, in their private part, L.
    witness: Scalars,
    /// Scalars of H.
    quotient: Scalars,
    jobs: Vec<(Query, Job)>,
}

impl Lane {
    /// Builds the programs.
    pub fn new(msm: &Msm, points: &KeyPoints, setup: &Setup) -> Result<Self> {
        let allocate =
            |query| Scalars::allocate(msm.card(), setup.points(query).len(), ScalarForm::Montgomery);
        let (witness, quotient) = (allocate(Query::A)?, allocate(Query::H)?);
        let mut jobs = vec![];
        for (query, points) in &points.0 {
            let scalars = if *query == Query::H { &quotient } else { &witness };
            // A and B1 are over all scalars, L over the last ones: the witness begins with what is public.
            let first = scalars.len() - points.len();
            let job = msm.prepare_range(points, 0..points.len(), scalars, first..scalars.len())?;
            jobs.push((*query, job));
        }
        Ok(Self { witness, quotient, jobs })
    }

    /// The job of one of the sums, ready to be submitted. A comes first in a proof: it brings the witness for B1 and L.
    pub fn job(&mut self, query: Query, scalars: &[Fr]) -> Result<&Job> {
        match query {
            Query::A => self.witness.fill(|bytes| scalars_to_bytes(scalars, bytes))??,
            Query::H => self.quotient.fill(|bytes| scalars_to_bytes(scalars, bytes))??,
            Query::B1 | Query::L => {}
        }
        let job = self.jobs.iter().find(|(of, _)| *of == query);
        Ok(&job.context("every sum has its job")?.1)
    }
}
