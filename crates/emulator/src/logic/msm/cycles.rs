//! The clock cycles of the design's core (`hdl/rtl/msm`).

/// Bits of a scalar. Signed windows need one more bit.
const SCALAR_BITS: u64 = 254;
/// Cycles from one addition to the next that needs its sum: 82 in the adder, and 3 around it.
const DEPENDENT_ADDITION: u64 = 85;
/// Cycles from the consumption of the last pair to the end of its additions, and between the states of the core.
const DRAIN: u64 = 91;
/// Additions that multiply a sum by 2^-256 modulo r: one for each bit below the top bit of that number, and one for each of those
/// that is set.
const SCALE_ADDITIONS: u64 = 252 + 122;

/// The cycles of a core with one adder that starts an addition in every cycle.
///
/// The counts equal those of the simulated design (`hdl/sim`, C = 13) as long as no two additions to the same bucket follow each other
/// closely. With 2^16 random scalars, that costs it 6 cycles. The counts do not depend on the speed of this model or of the host.
///
/// ```
/// use xdma_emulator::logic::msm::CoreCycles;
///
/// let core = CoreCycles::new(13);
/// assert_eq!((core.windows(), core.pairs(1000)), (20, 20_000));
/// assert_eq!(core.reduction(false), 534_806);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreCycles {
    window_bits: u64,
}

impl CoreCycles {
    /// Creates the model of a core with windows of `window_bits` bits, limited to 1 to 32.
    pub fn new(window_bits: u8) -> Self {
        Self { window_bits: u64::from(window_bits.clamp(1, 32)) }
    }

    /// Returns the number of windows of a scalar.
    pub fn windows(&self) -> u64 {
        SCALAR_BITS / self.window_bits + 1
    }

    /// Returns the cycles in which the core consumes pairs: an addition for each window of a pair.
    pub fn pairs(&self, pairs: u64) -> u64 {
        pairs.saturating_mul(self.windows())
    }

    /// Returns the cycles of a reduction: the sums of the buckets of all windows, and Horner's rule over the windows. Scalars in
    /// Montgomery form need a multiplication of the result.
    pub fn reduction(&self, montgomery: bool) -> u64 {
        let scale = if montgomery { SCALE_ADDITIONS * DEPENDENT_ADDITION + 1 } else { 0 };
        self.reduction_of(self.windows()) + scale
    }

    /// Returns the cycles of the reduction of a core that had only this number of windows. The design always has all of them.
    pub fn reduction_of(&self, windows: u64) -> u64 {
        let buckets = 1 << (self.window_bits - 1);
        // A step handles one bucket of every window, with two additions each, and waits for the step before. The last sums follow.
        let sums = buckets * (2 * windows + DEPENDENT_ADDITION) + windows + DEPENDENT_ADDITION;
        let chain = windows.saturating_sub(1) * (self.window_bits + 1) * DEPENDENT_ADDITION;
        DRAIN + sums + chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `CORE_BUSY` of the simulated design after one task of random pairs.
    #[test]
    fn the_counts_equal_those_of_the_simulated_design() {
        let core = CoreCycles::new(13);
        let canonical = [(1, 534_826), (2, 534_846), (64, 536_088), (1024, 555_288), (65_536, 1_845_532)];
        let montgomery = [(1, 566_617), (2, 566_637), (64, 567_879), (1024, 587_081), (65_536, 1_877_321)];
        for (form, counts) in [(false, canonical), (true, montgomery)] {
            for (pairs, simulated) in counts {
                let cycles = core.pairs(pairs) + core.reduction(form);
                // Additions to the same bucket wait for each other.
                assert!((cycles..cycles + 10).contains(&simulated), "{pairs} pairs: {cycles}, {simulated}");
            }
        }
    }
}
