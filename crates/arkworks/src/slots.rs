//! Memory for the scalars of sums, with the jobs that were prepared with it.

use crate::registry::CardPoints;
use ark_ff::BigInt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use xdma::card::Card;
use xdma::msm::{DataError, Job, Msm, PrepareError, ScalarForm, Scalars};
use xdma::regs::msm::SCALAR_BYTES;

/// Maximum number of slots that are kept for later sums.
const MAX_IDLE: usize = 8;
/// Maximum number of prepared jobs that an idle slot keeps.
const MAX_JOBS: usize = 8;

/// What a job multiplies: a range of points, and a range of a slot's scalars.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub points: Arc<CardPoints>,
    pub point_range: Range<usize>,
    pub scalar_range: Range<usize>,
}

impl Product {
    fn is_same(&self, other: &Self) -> bool {
        self.points.id == other.points.id
            && self.point_range == other.point_range
            && self.scalar_range == other.scalar_range
    }
}

/// Scalars in memory that the card reads. A slot has one user at a time.
#[derive(Debug)]
pub(crate) struct Slot {
    scalars: Scalars,
    jobs: Vec<(Product, Job)>,
}

impl Slot {
    /// Copies scalars to the start of the slot. This is the only copy of a sum's data.
    pub fn write(&mut self, scalars: &[BigInt<4>]) -> Result<(), DataError> {
        self.scalars.fill(|bytes| {
            for (scalar, bytes) in scalars.iter().zip(bytes.as_chunks_mut::<SCALAR_BYTES>().0) {
                for (limb, bytes) in scalar.0.iter().zip(bytes.as_chunks_mut::<8>().0) {
                    *bytes = limb.to_le_bytes();
                }
            }
        })
    }

    /// Returns the job for a product, prepared if it is the first one.
    pub fn job(&mut self, msm: &Msm, product: &Product) -> Result<&Job, PrepareError> {
        if let Some(at) = self.jobs.iter().position(|(known, _)| known.is_same(product)) {
            return Ok(&self.jobs[at].1);
        }
        let (points, scalars) = (product.point_range.clone(), product.scalar_range.clone());
        let job = msm.prepare_range(&product.points.points, points, &self.scalars, scalars)?;
        self.jobs.push((product.clone(), job));
        Ok(&self.jobs[self.jobs.len() - 1].1)
    }

    fn has_job(&self, product: &Product) -> bool {
        self.jobs.iter().any(|(known, _)| known.is_same(product))
    }

    /// Drops the jobs whose points are no longer registered, which unpins them, and the oldest of the rest.
    fn trim(&mut self) {
        self.jobs.retain(|(product, _)| product.points.is_in_use());
        self.jobs.drain(..self.jobs.len().saturating_sub(MAX_JOBS));
    }
}

/// The idle slots, the one used last at the end.
#[derive(Debug)]
pub(crate) struct Slots {
    card: Card,
    idle: Mutex<Vec<Slot>>,
}

impl Slots {
    pub fn new(card: Card) -> Self {
        Self { card, idle: Mutex::default() }
    }

    /// Returns a slot for `count` scalars, preferably one that has a prepared job for `product`.
    pub fn take(&self, count: usize, product: &Product) -> Result<Slot, DataError> {
        let idle = |idle: &mut Vec<Slot>| {
            let prepared = idle.iter().position(|slot| slot.has_job(product));
            let large_enough = || {
                let slots = idle.iter().enumerate().filter(|(_, slot)| slot.scalars.len() >= count);
                slots.min_by_key(|(_, slot)| slot.scalars.len()).map(|(at, _)| at)
            };
            prepared.or_else(large_enough).map(|at| idle.remove(at))
        };
        match self.with(idle) {
            Some(slot) => Ok(slot),
            None => {
                let scalars = Scalars::allocate(&self.card, count, ScalarForm::Canonical)?;
                Ok(Slot { scalars, jobs: vec![] })
            }
        }
    }

    /// Takes back a slot whose jobs have ended.
    pub fn put(&self, mut slot: Slot) {
        slot.trim();
        let excess = self.with(|idle| {
            idle.push(slot);
            (idle.len() > MAX_IDLE).then(|| idle.remove(0))
        });
        drop(excess);
    }

    /// Drops the jobs whose points are no longer registered.
    pub fn trim(&self) {
        self.with(|idle| idle.iter_mut().for_each(Slot::trim));
    }

    fn with<R>(&self, f: impl FnOnce(&mut Vec<Slot>) -> R) -> R {
        f(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
