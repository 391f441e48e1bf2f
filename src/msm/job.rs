//! From points and scalars to one interleaved program.

#![deny(clippy::arithmetic_side_effects)]

use super::data::check_range;
use super::{Msm, MsmError, Points, ScalarForm, Scalars};
use crate::channel::{Program, Transfers};
use crate::regs::Direction;
use std::ops::Range;

/// A job, built once and submitted any number of times. It holds its points and scalars until it is dropped.
#[derive(Debug)]
pub struct Job {
    pub(super) program: Option<Program>,
    pub(super) pairs: u32,
    pub(super) form: ScalarForm,
}

impl Job {
    /// Pairs of points and scalars.
    pub fn pairs(&self) -> u32 {
        self.pairs
    }

    /// Descriptors of its program.
    pub fn descriptors(&self) -> usize {
        self.program.as_ref().map_or(0, Program::descriptors)
    }

    /// Bytes that its program moves.
    pub fn bytes(&self) -> u64 {
        self.program.as_ref().map_or(0, Program::bytes)
    }
}

impl Msm {
    /// Builds the job of all `points` and all `scalars`.
    ///
    /// # Errors
    ///
    /// [`MsmError::Counts`], [`MsmError::TooMany`], and no memory.
    pub fn prepare(&self, points: &Points, scalars: &Scalars) -> Result<Job, MsmError> {
        self.prepare_range(points, 0..points.len(), scalars, 0..scalars.len())
    }

    /// Builds the job of a range of points and a range of scalars.
    ///
    /// # Errors
    ///
    /// As [`prepare`](Self::prepare), and [`MsmError::OutOfRange`].
    pub fn prepare_range(
        &self,
        points: &Points,
        point_range: Range<usize>,
        scalars: &Scalars,
        scalar_range: Range<usize>,
    ) -> Result<Job, MsmError> {
        check_range("points", &point_range, points.len())?;
        check_range("scalars", &scalar_range, scalars.len())?;
        if point_range.len() != scalar_range.len() {
            return Err(MsmError::Counts { points: point_range.len(), scalars: scalar_range.len() });
        }
        let pairs = point_range.len();
        self.design().check_pairs(pairs as u64)?;
        let chunk = self.chunk() as usize;
        let mut transfers = Transfers::new(Direction::H2C);
        for first in (0..pairs).step_by(chunk) {
            scalars.add_to(&mut transfers, part(&scalar_range, first, chunk))?;
            points.add_to(&mut transfers, part(&point_range, first, chunk))?;
        }
        let program = if pairs == 0 { None } else { Some(self.h2c.program(&transfers)?) };
        Ok(Job { program, pairs: pairs as u32, form: scalars.form() })
    }
}

/// The elements of `range` from number `first` on, `chunk` at most.
fn part(range: &Range<usize>, first: usize, chunk: usize) -> Range<usize> {
    let start = range.start.saturating_add(first);
    start..range.end.min(start.saturating_add(chunk))
}
