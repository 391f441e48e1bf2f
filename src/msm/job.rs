//! Jobs: points and scalars as one interleaved program.

#![deny(clippy::arithmetic_side_effects)]

use super::data::check_range;
use super::{Msm, Points, PrepareError, ScalarForm, Scalars};
use crate::channel::{Program, Transfers};
use crate::regs::Direction;
use std::ops::Range;

/// A job, prepared once and submitted any number of times. It holds its points and scalars until it is dropped.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::time::Duration;
/// # use xdma::card::CardOptions;
/// # use xdma_emulator::CardFile;
/// use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
///
/// # let card = xdma_emulated_card::start_like(CardFile::f1(), CardOptions::default())?;
/// let mut msm = Msm::open(&card, MsmOptions::default())?;
/// let points = Points::allocate(&card, 1000)?; // all at infinity
/// let scalars = Scalars::allocate(&card, 1000, ScalarForm::Canonical)?;
/// let job = msm.prepare(&points, &scalars)?;
/// assert_eq!((job.pairs(), job.bytes()), (1000, 96 * 1000));
///
/// for _ in 0..3 {
///     let ticket = msm.submit(&job)?;
///     msm.wait(ticket, Duration::from_secs(5))?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Job {
    pub(super) program: Option<Program>,
    pub(super) pairs: u32,
    pub(super) form: ScalarForm,
}

impl Job {
    /// Returns the number of pairs of points and scalars.
    pub fn pairs(&self) -> u32 {
        self.pairs
    }

    /// Returns the number of descriptors of its program.
    pub fn descriptors(&self) -> usize {
        self.program.as_ref().map_or(0, Program::descriptors)
    }

    /// Returns the number of bytes that its program moves.
    pub fn bytes(&self) -> u64 {
        self.program.as_ref().map_or(0, Program::bytes)
    }
}

impl Msm {
    /// Builds a job from all `points` and all `scalars`.
    ///
    /// # Errors
    ///
    /// [`PrepareError`].
    pub fn prepare(&self, points: &Points, scalars: &Scalars) -> Result<Job, PrepareError> {
        self.prepare_range(points, 0..points.len(), scalars, 0..scalars.len())
    }

    /// Builds a job from a range of points and a range of scalars.
    ///
    /// # Errors
    ///
    /// As [`prepare`](Self::prepare); [`DataError::OutOfRange`](super::DataError::OutOfRange).
    pub fn prepare_range(
        &self,
        points: &Points,
        point_range: Range<usize>,
        scalars: &Scalars,
        scalar_range: Range<usize>,
    ) -> Result<Job, PrepareError> {
        check_range("points", &point_range, points.len())?;
        check_range("scalars", &scalar_range, scalars.len())?;
        if point_range.len() != scalar_range.len() {
            return Err(PrepareError::Counts { points: point_range.len(), scalars: scalar_range.len() });
        }
        let pairs = point_range.len();
        let max = self.design().max_pairs;
        if !self.design().allows(pairs as u64) {
            return Err(PrepareError::TooMany { pairs: pairs as u64, max });
        }
        let chunk = self.chunk() as usize;
        let mut transfers = Transfers::new(Direction::H2C);
        for first in (0..pairs).step_by(chunk) {
            scalars.add_to(&mut transfers, chunk_range(&scalar_range, first, chunk))?;
            points.add_to(&mut transfers, chunk_range(&point_range, first, chunk))?;
        }
        let program = if pairs == 0 { None } else { Some(self.h2c.program(&transfers)?) };
        Ok(Job { program, pairs: pairs as u32, form: scalars.form() })
    }
}

/// Returns up to `chunk` elements of `range`, from offset `first` on.
fn chunk_range(range: &Range<usize>, first: usize, chunk: usize) -> Range<usize> {
    let start = range.start.saturating_add(first);
    start..range.end.min(start.saturating_add(chunk))
}
