//! The design on the card: its parameters and its state.

use super::error::{DesignError, JobError, MsmOpenError};
use crate::card::{Card, UserBar};
use crate::regs::{GONE, msm as regs};
use std::fmt;

/// Identifier of BN254 in the image parameters.
const BN254: u32 = 1;

/// The parameters of the design, read from its registers.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use xdma::card::CardOptions;
/// # use xdma_emulator::CardFile;
/// use xdma::msm::Design;
///
/// # let card = xdma_emulated_card::start_like(CardFile::f1(), CardOptions::default())?;
/// let design = Design::of(&card)?; // an error if the card has another design
/// println!("windows of {} bits, chunks of {} pairs", design.window_bits, design.default_chunk());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Design {
    /// Whether the core only consumes pairs and computes no MSM.
    pub stub: bool,
    /// Window size in bits.
    pub window_bits: u32,
    /// Depth of the scalar FIFO, in scalars.
    pub scalar_depth: u32,
    /// Depth of the point FIFO, in points.
    pub point_depth: u32,
    /// Clock of the core, in kHz.
    pub clock_khz: u32,
    /// Number of tasks that can be queued.
    pub tasks: u32,
    /// Maximum number of pairs per task.
    pub max_pairs: u32,
}

impl Design {
    /// Reads the user BAR to find out whether the card has the design, and returns the design's parameters.
    ///
    /// # Errors
    ///
    /// [`MsmOpenError::NotMsm`] if the user logic is something else; [`MsmOpenError::Card`],
    /// [`OtherCurve`](MsmOpenError::OtherCurve), [`Gone`](MsmOpenError::Gone).
    pub fn of(card: &Card) -> Result<Self, MsmOpenError> {
        Self::read(&card.user()?)
    }

    pub(super) fn read(user: &UserBar) -> Result<Self, MsmOpenError> {
        let expect = |what, register, expected: u32| match user.read(register)? {
            GONE => Err(MsmOpenError::Gone),
            value if value == expected => Ok(()),
            value => Err(MsmOpenError::NotMsm { what, value, expected }),
        };
        expect("the image identifier", regs::IMAGE_ID, regs::IMAGE_ID_VALUE)?;
        expect("the extension's identifier", regs::EXTENSION_ID, regs::EXTENSION_ID_VALUE)?;
        let parameters = user.read(regs::IMAGE_PARAMETERS)?;
        let curve = parameters >> 20 & 0xff;
        if curve != BN254 {
            return Err(MsmOpenError::OtherCurve(curve));
        }
        Ok(Self {
            stub: parameters >> 28 != 0,
            window_bits: user.read(regs::BUILD)? & 0xff,
            scalar_depth: user.read(regs::SCALAR_DEPTH)?,
            point_depth: user.read(regs::POINT_DEPTH)?,
            clock_khz: user.read(regs::CLOCK_KHZ)?,
            tasks: (user.read(regs::QUEUE_DEPTH)? & 0xff).max(1),
            max_pairs: user.read(regs::MAX_ELEMENTS)?,
        })
    }

    /// Returns the default number of pairs per chunk: half of the shallower FIFO, so that the core consumes one chunk while the
    /// next arrives.
    ///
    /// Measured with `cargo bench --bench feed -- --sweep` and FIFOs of 1,024: a core that consumes 10 million pairs per
    /// second, and so needs 13 ms for 2^17 pairs, received them within 14 ms in chunks of 512, and within 18 ms in chunks of
    /// 1,024. For a core that consumes data immediately, both took equally long.
    pub fn default_chunk(&self) -> u32 {
        (self.scalar_depth.min(self.point_depth) / 4 * 2).max(2)
    }

    /// Rejects chunk sizes that could deadlock the FIFOs, or do not fill beats.
    pub(super) fn check_chunk(&self, chunk: u32) -> Result<(), MsmOpenError> {
        if chunk == 0 || !chunk.is_multiple_of(2) {
            return Err(MsmOpenError::OddChunk { chunk });
        }
        if chunk > self.scalar_depth {
            return Err(MsmOpenError::Deadlock { chunk, depth: self.scalar_depth });
        }
        Ok(())
    }

    pub(super) fn allows(&self, pairs: u64) -> bool {
        pairs <= self.max_pairs.into()
    }

    /// Checks that the card responds, and that the design reports no error.
    pub(crate) fn check_alive(&self, user: &UserBar) -> Result<(), JobError> {
        match user.read(regs::ERRORS)? {
            GONE => Err(JobError::Gone),
            0 => Ok(()),
            errors => Err(JobError::Design(regs::Errors::from_bits_retain(errors))),
        }
    }
}

/// The state of the design at one point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesignState {
    /// Status register.
    pub status: regs::Status,
    /// Error register.
    pub errors: regs::Errors,
    /// Number of scalars in the FIFO.
    pub scalars: u32,
    /// Number of points in the FIFO.
    pub points: u32,
    /// Number of pairs that the running task has not received.
    pub pairs_left: u32,
    /// Depths of the FIFOs: scalars, points.
    pub depths: (u32, u32),
}

impl DesignState {
    pub(super) fn read(user: &UserBar, design: &Design) -> Result<Self, DesignError> {
        let status = match user.read(regs::STATUS)? {
            GONE => return Err(DesignError::Gone),
            status => regs::Status::from_bits_retain(status),
        };
        Ok(Self {
            status,
            errors: regs::Errors::from_bits_retain(user.read(regs::ERRORS)?),
            scalars: user.read(regs::SCALARS_IN_FIFO)?,
            points: user.read(regs::POINTS_IN_FIFO)?,
            pairs_left: user.read(regs::ELEMENTS_LEFT)?,
            depths: (design.scalar_depth, design.point_depth),
        })
    }

    /// Returns whether one FIFO is full and the other empty, so that neither the stream nor the core can proceed, or whether
    /// the watchdog has ended such a state.
    pub fn is_deadlock(&self) -> bool {
        if self.errors.contains(regs::Errors::WATCHDOG) {
            return true;
        }
        let scalars = self.status.contains(regs::Status::SCALAR_STALLED) && self.points == 0;
        let points = self.status.contains(regs::Status::POINT_STALLED) && self.scalars == 0;
        scalars || points
    }
}

impl fmt::Display for DesignState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scalars, points, pairs_left, depths, .. } = self;
        write!(f, "{scalars} of {} scalars and {points} of {} points in the FIFOs, ", depths.0, depths.1)?;
        write!(f, "{pairs_left} pairs not consumed yet")?;
        let others = self.errors - regs::Errors::WATCHDOG;
        if !others.is_empty() {
            write!(f, ", {others:?}")?;
        }
        if self.is_deadlock() {
            f.write_str(
                ". This is a deadlock: the core consumes a scalar only together with its point, one FIFO is full, and the data \
                 that the other one needs is queued behind it; send smaller chunks",
            )?;
            if self.errors.contains(regs::Errors::WATCHDOG) {
                f.write_str(
                    ". The design's watchdog ended it, and the design drops all data until it is flushed",
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESIGN: Design = Design {
        stub: false,
        window_bits: 13,
        scalar_depth: 1024,
        point_depth: 1024,
        clock_khz: 250_000,
        tasks: 2,
        max_pairs: 1 << 26,
    };

    #[test]
    fn chunks_that_could_deadlock_are_rejected() {
        assert_eq!(DESIGN.default_chunk(), 512);
        assert!(DESIGN.check_chunk(1024).is_ok());
        assert!(matches!(DESIGN.check_chunk(1026), Err(MsmOpenError::Deadlock { chunk: 1026, depth: 1024 })));
        assert!(matches!(DESIGN.check_chunk(511), Err(MsmOpenError::OddChunk { .. })));
        assert!(matches!(DESIGN.check_chunk(0), Err(MsmOpenError::OddChunk { .. })));
        assert!(DESIGN.allows(1 << 26) && !DESIGN.allows((1 << 26) + 1));
    }

    #[test]
    fn a_deadlock_is_explained() {
        let state = DesignState {
            status: regs::Status::BUSY | regs::Status::SCALAR_STALLED,
            errors: regs::Errors::empty(),
            scalars: 1024,
            points: 0,
            pairs_left: 4096,
            depths: (1024, 1024),
        };
        assert!(state.is_deadlock());
        assert!(
            state.to_string().contains("1024 of 1024 scalars")
                && state.to_string().contains("smaller chunks")
        );
        assert!(!DesignState { points: 1, ..state }.is_deadlock());
    }
}
