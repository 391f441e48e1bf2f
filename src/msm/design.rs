//! What the design is, and what it is doing.

use super::MsmError;
use crate::card::{Card, UserBar};
use crate::regs::{GONE, msm as regs};
use std::fmt;

/// Code of BN254 in the image parameters.
const BN254: u32 = 1;

/// The design's parameters, read from its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Design {
    /// Whether the core computes no MSM: it only takes pairs.
    pub stub: bool,
    /// Bits of a window.
    pub window_bits: u32,
    /// Depth of the scalar FIFO, in scalars.
    pub scalar_depth: u32,
    /// Depth of the point FIFO, in points.
    pub point_depth: u32,
    /// The core's clock, in kHz.
    pub clock_khz: u32,
    /// Tasks that can be queued.
    pub tasks: u32,
    /// Most pairs of a task.
    pub max_pairs: u32,
}

impl Design {
    /// Looks whether the card carries the design, by reading the user BAR.
    ///
    /// # Errors
    ///
    /// [`MsmError::NotMsm`] when it is something else; no user BAR, another curve, or the card is gone.
    pub fn of(card: &Card) -> Result<Self, MsmError> {
        Self::read(&card.user()?)
    }

    pub(super) fn read(user: &UserBar) -> Result<Self, MsmError> {
        let expect = |what, register, expected: u32| match user.read(register)? {
            GONE => Err(MsmError::Gone),
            value if value == expected => Ok(()),
            value => Err(MsmError::NotMsm { what, value, expected }),
        };
        expect("the image identifier", regs::IMAGE_ID, regs::IMAGE_ID_VALUE)?;
        expect("the extension's identifier", regs::EXTENSION_ID, regs::EXTENSION_ID_VALUE)?;
        let parameters = user.read(regs::IMAGE_PARAMETERS)?;
        let curve = parameters >> 20 & 0xff;
        if curve != BN254 {
            return Err(MsmError::OtherCurve(curve));
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

    /// Pairs a chunk where none are asked for: half of the shallower FIFO, so that one chunk is taken while the next arrives.
    ///
    /// By measurement (`cargo bench --bench feed -- --sweep`, FIFOs of 1,024): a core that takes 10 million pairs a second got
    /// 2^17 of them within 14 ms in chunks of 512, and within 18 ms in chunks of 1,024; it needs 13. A core that takes
    /// everything at once got them equally fast.
    pub fn default_chunk(&self) -> u32 {
        (self.scalar_depth.min(self.point_depth) / 4 * 2).max(2)
    }

    /// Refuses chunks that could deadlock the FIFOs, or do not fill beats.
    pub(super) fn check_chunk(&self, chunk: u32) -> Result<(), MsmError> {
        if chunk == 0 || !chunk.is_multiple_of(2) {
            return Err(MsmError::Chunk { chunk });
        }
        if chunk > self.scalar_depth {
            return Err(MsmError::Deadlock { chunk, depth: self.scalar_depth });
        }
        Ok(())
    }

    pub(super) fn check_pairs(&self, pairs: u64) -> Result<(), MsmError> {
        if pairs > self.max_pairs.into() {
            return Err(MsmError::TooMany { pairs, max: self.max_pairs });
        }
        Ok(())
    }

    /// Whether the card is there, and the design reports no error.
    pub(crate) fn check_alive(&self, user: &UserBar) -> Result<(), MsmError> {
        match user.read(regs::ERRORS)? {
            GONE => Err(MsmError::Gone),
            0 => Ok(()),
            errors => Err(MsmError::Design(regs::Errors::from_bits_retain(errors))),
        }
    }
}

/// What the design was doing at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Status register.
    pub status: regs::Status,
    /// Error register.
    pub errors: regs::Errors,
    /// Scalars in the FIFO.
    pub scalars: u32,
    /// Points in the FIFO.
    pub points: u32,
    /// Pairs that the running task still waits for.
    pub pairs_left: u32,
    /// Depths of the FIFOs: scalars, points.
    pub depths: (u32, u32),
}

impl Fill {
    pub(super) fn read(user: &UserBar, design: &Design) -> Result<Self, MsmError> {
        let status = match user.read(regs::STATUS)? {
            GONE => return Err(MsmError::Gone),
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

    /// Whether one FIFO is full and the other empty, so that neither data nor the core can go on, or the watchdog ended that.
    pub fn is_deadlock(&self) -> bool {
        if self.errors.contains(regs::Errors::WATCHDOG) {
            return true;
        }
        let scalars = self.status.contains(regs::Status::SCALAR_STALLED) && self.points == 0;
        let points = self.status.contains(regs::Status::POINT_STALLED) && self.scalars == 0;
        scalars || points
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scalars, points, pairs_left, depths, .. } = self;
        write!(f, "{scalars} of {} scalars and {points} of {} points in the FIFOs, ", depths.0, depths.1)?;
        write!(f, "{pairs_left} pairs still to be taken")?;
        let others = self.errors - regs::Errors::WATCHDOG;
        if !others.is_empty() {
            write!(f, ", {others:?}")?;
        }
        if self.is_deadlock() {
            f.write_str(
                ". This is a deadlock: the core takes a scalar only together with its point, one FIFO is full, and what the \
                 other one waits for is queued behind it; send smaller chunks",
            )?;
            if self.errors.contains(regs::Errors::WATCHDOG) {
                f.write_str(
                    ". The design's watchdog ended it: it drops what is written until it is flushed",
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
    fn chunks_that_could_deadlock_are_refused() {
        assert_eq!(DESIGN.default_chunk(), 512);
        assert!(DESIGN.check_chunk(1024).is_ok());
        assert!(matches!(DESIGN.check_chunk(1026), Err(MsmError::Deadlock { chunk: 1026, depth: 1024 })));
        assert!(matches!(DESIGN.check_chunk(511), Err(MsmError::Chunk { .. })));
        assert!(matches!(DESIGN.check_chunk(0), Err(MsmError::Chunk { .. })));
        assert!(DESIGN.check_pairs(1 << 26).is_ok() && DESIGN.check_pairs((1 << 26) + 1).is_err());
    }

    #[test]
    fn a_deadlock_is_explained() {
        let fill = Fill {
            status: regs::Status::BUSY | regs::Status::SCALAR_STALLED,
            errors: regs::Errors::empty(),
            scalars: 1024,
            points: 0,
            pairs_left: 4096,
            depths: (1024, 1024),
        };
        assert!(fill.is_deadlock());
        assert!(
            fill.to_string().contains("1024 of 1024 scalars") && fill.to_string().contains("smaller chunks")
        );
        assert!(!Fill { points: 1, ..fill }.is_deadlock());
    }
}
