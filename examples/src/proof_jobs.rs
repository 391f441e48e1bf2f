//! The MSM jobs of a proof. The points stay in the card's reach for all proofs; each proof brings its own scalars.

use super::groth16::{Query, Setup};
use anyhow::{Context, Result};
use ark_bn254::Fr;
use xdma::card::Card;
use xdma::msm::curve::arkworks::{points_to_bytes, scalars_to_bytes};
use xdma::msm::{Job, Msm, Points, ScalarForm, Scalars};

/// The points of a proving key, in memory that the card reads.
pub struct KeyPoints(Vec<(Query, Points)>);

impl KeyPoints {
    /// Allocates memory for the points and writes them to it.
    ///
    /// # Errors
    /// If the memory cannot be allocated.
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

/// The four prebuilt MSM jobs of one proof at a time, with memory for its scalars.
pub struct ProofJobs {
    /// Scalars of A and B1; the private part of them is used for L.
    witness: Scalars,
    /// Scalars of H.
    quotient: Scalars,
    jobs: Vec<(Query, Job)>,
}

impl ProofJobs {
    /// Allocates memory for the scalars and prepares the jobs.
    ///
    /// # Errors
    /// If the memory cannot be allocated or a job cannot be prepared.
    pub fn new(msm: &Msm, points: &KeyPoints, setup: &Setup) -> Result<Self> {
        let allocate =
            |query| Scalars::allocate(msm.card(), setup.points(query).len(), ScalarForm::Montgomery);
        let (witness, quotient) = (allocate(Query::A)?, allocate(Query::H)?);
        let mut jobs = vec![];
        for (query, points) in &points.0 {
            let scalars = if *query == Query::H { &quotient } else { &witness };
            // A and B1 use the whole witness, L only its end: the public values come first.
            let first = scalars.len() - points.len();
            let job = msm.prepare_range(points, 0..points.len(), scalars, first..scalars.len())?;
            jobs.push((*query, job));
        }
        Ok(Self { witness, quotient, jobs })
    }

    /// Writes the scalars and returns the job, ready to be submitted. A must be the first job of each proof, since B1 and L use the
    /// witness that it writes.
    ///
    /// # Errors
    /// If the memory of the scalars is still in use, or has another length.
    pub fn job(&mut self, query: Query, scalars: &[Fr]) -> Result<&Job> {
        match query {
            Query::A => self.witness.fill(|bytes| scalars_to_bytes(scalars, bytes))??,
            Query::H => self.quotient.fill(|bytes| scalars_to_bytes(scalars, bytes))??,
            Query::B1 | Query::L => {}
        }
        let job = self.jobs.iter().find(|(of, _)| *of == query);
        Ok(&job.context("no job was prepared for this query")?.1)
    }
}
