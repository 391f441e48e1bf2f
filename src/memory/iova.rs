//! Device addresses: which are free.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Hands out ranges of device addresses from the ones that a bus allows: the lowest from its base on, then the lowest of all.
#[derive(Debug, Clone)]
pub struct IovaAllocator {
    /// Free ranges, first address to last, neither overlapping nor touching.
    free: BTreeMap<u64, u64>,
    base: u64,
}

impl IovaAllocator {
    /// An allocator over `allowed`. Ranges may overlap or touch. The lowest 64 KiB are never given, so that a
    /// descriptor that was never written leads nowhere.
    pub fn new(allowed: &[RangeInclusive<u64>]) -> Self {
        let mut this = Self { free: BTreeMap::new(), base: 0 };
        let mut sorted: Vec<(u64, u64)> =
            allowed.iter().map(|r| ((*r.start()).max(0x1_0000), *r.end())).filter(|(a, b)| a <= b).collect();
        sorted.sort_unstable();
        for (first, last) in sorted {
            match this.free.last_entry() {
                Some(mut entry) if first <= entry.get().saturating_add(1) => {
                    let end = (*entry.get()).max(last);
                    entry.insert(end);
                }
                _ => {
                    this.free.insert(first, last);
                }
            }
        }
        this
    }

    /// Moves the base to `share` / 2^64 of the way through the free addresses, rounded down to a boundary that suits the largest
    /// pages.
    pub fn set_base(&mut self, share: u64) {
        let total = self.free_bytes();
        let granule: u64 = if total >= 64 << 30 { 1 << 30 } else { 2 << 20 };
        let mut skip = (total * u128::from(share)) >> 64;
        for (&first, &last) in &self.free {
            let len = u128::from(last - first) + 1;
            if skip < len {
                self.base = (first + skip as u64) & !(granule - 1);
                return;
            }
            skip -= len;
        }
    }

    /// Where the search for free addresses begins.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Takes `len` bytes aligned to `align`, a power of two. `None` when there is no such hole, or `len` is 0.
    pub fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        let extra = len.checked_sub(1)?;
        let fit = |from: u64| {
            self.free.iter().find_map(|(&first, &last)| {
                let start = first.max(from).checked_next_multiple_of(align)?;
                (start.checked_add(extra)? <= last).then_some((first, last, start))
            })
        };
        let (first, last, start) = fit(self.base).or_else(|| fit(0))?;
        self.free.remove(&first);
        if first < start {
            self.free.insert(first, start - 1);
        }
        if start + extra < last {
            self.free.insert(start + extra + 1, last);
        }
        Some(start)
    }

    /// Gives back what [`take`](Self::take) gave.
    pub fn give_back(&mut self, start: u64, len: u64) {
        let (mut first, mut last) = (start, start + (len - 1));
        if let Some((&before, &end)) = self.free.range(..start).next_back()
            && end + 1 == start
        {
            self.free.remove(&before);
            first = before;
        }
        if let Some(next) = last.checked_add(1)
            && let Some(end) = self.free.remove(&next)
        {
            last = end;
        }
        self.free.insert(first, last);
    }

    /// Addresses that are free, in all.
    pub fn free_bytes(&self) -> u128 {
        self.free.iter().map(|(&first, &last)| u128::from(last - first) + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn goes_around_reserved_ranges() {
        let mut iovas = IovaAllocator::new(&[0..=0xfedf_ffff, 0xfef0_0000..=u64::MAX]);
        assert_eq!(iovas.take(0x1000, 0x1000), Some(0x1_0000));
        assert_eq!(iovas.take(0xfe00_0000, 0x20_0000), Some(0x20_0000));
        assert_eq!(iovas.take(0x4000_0000, 0x4000_0000), Some(0x1_0000_0000));
        assert_eq!(iovas.take(0, 1), None);
        assert_eq!(iovas.take(u64::MAX, 1), None);
    }

    #[test]
    fn bases_lie_apart_and_all_addresses_can_be_had() {
        let allowed = [0..=0xfedf_ffff, 0xfef0_0000..=0x7fff_ffff_ffff];
        let base = |share| {
            let mut iovas = IovaAllocator::new(&allowed);
            iovas.set_base(share);
            assert_eq!(iovas.take(0x1000, 0x1000), Some(iovas.base().max(0x1_0000)));
            iovas.base()
        };
        assert_eq!((base(0), base(1 << 63), base(u64::MAX)), (0, 0x4000_0000_0000, 0x7fff_c000_0000));
        let mut small = IovaAllocator::new(&[0x10_0000..=0x4f_ffff]);
        small.set_base(1 << 63);
        let taken: Vec<_> = std::iter::from_fn(|| small.take(0x10_0000, 0x10_0000)).collect();
        assert_eq!(taken, [0x20_0000, 0x30_0000, 0x40_0000, 0x10_0000], "after the last comes the first");
    }

    #[test]
    fn the_last_address_can_be_had() {
        let mut iovas = IovaAllocator::new(&[u64::MAX - 0xfff..=u64::MAX]);
        let all = u64::MAX - 0xfff;
        assert_eq!(iovas.take(0x1000, 0x1000), Some(all));
        iovas.give_back(all, 0x1000);
        assert_eq!(iovas.free_bytes(), 0x1000);
    }

    proptest! {
        #[test]
        fn never_overlaps_stays_inside_and_comes_back(
            ranges in prop::collection::vec((0u64..1 << 20, 1u64..1 << 16), 1..6),
            steps in prop::collection::vec((any::<bool>(), 1u64..1 << 14, 0u32..13), 1..80),
            share: u64,
        ) {
            let allowed: Vec<_> = ranges.iter().map(|&(start, len)| start..=start + len - 1).collect();
            let mut iovas = IovaAllocator::new(&allowed);
            iovas.set_base(share);
            let before = iovas.free_bytes();
            let mut held: Vec<(u64, u64)> = vec![];
            for (take, len, align) in steps {
                if take {
                    if let Some(at) = iovas.take(len, 1 << align) {
                        prop_assert_eq!(at % (1 << align), 0);
                        prop_assert!(held.iter().all(|&(a, l)| at + len <= a || a + l <= at));
                        for byte in [at, at + len / 2, at + len - 1] {
                            prop_assert!(allowed.iter().any(|r| r.contains(&byte)));
                        }
                        held.push((at, len));
                    }
                } else if let Some((at, len)) = held.pop() {
                    iovas.give_back(at, len);
                }
                let out: u64 = held.iter().map(|h| h.1).sum();
                prop_assert_eq!(iovas.free_bytes() + u128::from(out), before);
            }
        }
    }
}
