//! Device addresses: which are free.

#![deny(clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// Holes that may be too small, for their alignment, before one is looked for that is large enough wherever it begins.
const TRIES: usize = 16;

/// Hands out ranges of device addresses from the ones that a bus allows: from its base on, and below it when nothing is left there. Of
/// the holes the smallest that fits is taken. Everything takes time that is logarithmic in their number, unless there is none.
#[derive(Debug, Clone)]
pub struct IovaAllocator {
    holes: Holes,
    /// All ranges that there are: first address to last, neither overlapping nor touching.
    allowed: BTreeMap<u64, u64>,
}

/// Ranges that are free, neither overlapping nor touching, but at the base: none spans that.
#[derive(Debug, Clone, Default)]
struct Holes {
    /// First address to last.
    by_start: BTreeMap<u64, u64>,
    /// Whether it is below the base, its length less one, and its first address.
    by_size: BTreeSet<(bool, u64, u64)>,
    base: u64,
}

impl Holes {
    fn key(&self, first: u64, last: u64) -> (bool, u64, u64) {
        (first < self.base, last.saturating_sub(first), first)
    }

    fn insert(&mut self, first: u64, last: u64) {
        if first < self.base && self.base <= last {
            self.insert_whole(first, self.base.saturating_sub(1));
            self.insert_whole(self.base, last);
        } else {
            self.insert_whole(first, last);
        }
    }

    fn insert_whole(&mut self, first: u64, last: u64) {
        self.by_start.insert(first, last);
        self.by_size.insert(self.key(first, last));
    }

    /// Removes the hole that begins at `first`, if there is one; its last address.
    fn remove(&mut self, first: u64) -> Option<u64> {
        let last = self.by_start.remove(&first)?;
        self.by_size.remove(&self.key(first, last));
        Some(last)
    }

    /// Where `extra` + 1 bytes can begin, and the first address of the hole they are in.
    fn find(&self, extra: u64, align: u64) -> Option<(u64, u64)> {
        let fits = |&(_, size, first): &(bool, u64, u64)| {
            let start = first.checked_next_multiple_of(align)?;
            let end = start.checked_add(extra)?;
            (end <= first.saturating_add(size)).then_some((start, first))
        };
        let on_side =
            |below: bool, least: u64| self.by_size.range((below, least, 0)..=(below, u64::MAX, u64::MAX));
        let large = extra.saturating_add(align.saturating_sub(1));
        let soon =
            |below| on_side(below, extra).take(TRIES).chain(on_side(below, large).take(1)).find_map(fits);
        // What was not tried, before nothing is said to be left.
        soon(false).or_else(|| soon(true)).or_else(|| self.by_size.iter().find_map(fits))
    }
}

impl IovaAllocator {
    /// An allocator over `allowed`. Ranges may overlap or touch. The lowest 64 KiB are never given, so that a
    /// descriptor that was never written leads nowhere.
    pub fn new(allowed: &[RangeInclusive<u64>]) -> Self {
        let mut merged = BTreeMap::new();
        let mut sorted: Vec<(u64, u64)> =
            allowed.iter().map(|r| ((*r.start()).max(0x1_0000), *r.end())).filter(|(a, b)| a <= b).collect();
        sorted.sort_unstable();
        for (first, last) in sorted {
            match merged.last_entry() {
                Some(mut entry) if first <= u64::saturating_add(*entry.get(), 1) => {
                    let end = last.max(*entry.get());
                    entry.insert(end);
                }
                _ => {
                    merged.insert(first, last);
                }
            }
        }
        let mut this = Self { holes: Holes::default(), allowed: merged };
        this.free_all();
        this
    }

    fn free_all(&mut self) {
        self.allowed.iter().for_each(|(&first, &last)| self.holes.insert(first, last));
    }

    /// Moves the base to `share` / 2^64 of the way through the addresses, rounded down to a boundary that suits the largest pages.
    /// All are free.
    pub fn set_base(&mut self, share: u64) {
        let total = self.free_bytes();
        let granule: u64 = if total >= 64 << 30 { 1 << 30 } else { 2 << 20 };
        // Both factors are below 2^64, but for a total of all addresses there are.
        let mut skip = total.saturating_mul(u128::from(share)) >> 64;
        for (&first, &last) in &self.allowed {
            if let Some(rest) = skip.checked_sub(bytes(first, last)) {
                skip = rest;
                continue;
            }
            let wanted = first.saturating_add(u64::try_from(skip).unwrap_or(0));
            self.holes = Holes { base: wanted & granule.wrapping_neg(), ..Holes::default() };
            return self.free_all();
        }
    }

    /// Where the search for free addresses begins.
    pub fn base(&self) -> u64 {
        self.holes.base
    }

    /// Takes `len` bytes aligned to `align`, a power of two. `None` when there is no such hole, or `len` or `align` is 0.
    pub fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        let extra = len.checked_sub(1)?;
        let (start, first) = self.holes.find(extra, align)?;
        let (last, end) = (self.holes.remove(first)?, start.checked_add(extra)?);
        if let Some(before) = start.checked_sub(1).filter(|&before| first <= before) {
            self.holes.insert(first, before);
        }
        if let Some(after) = end.checked_add(1).filter(|&after| after <= last) {
            self.holes.insert(after, last);
        }
        Some(start)
    }

    /// The largest number of bytes that are free in one piece.
    pub fn largest(&self) -> u64 {
        let on_side = |below| self.holes.by_size.range(..=(below, u64::MAX, u64::MAX)).next_back();
        let size = |hole: Option<&(bool, u64, u64)>| hole.map_or(0, |&(_, size, _)| size.saturating_add(1));
        size(on_side(false)).max(size(on_side(true)))
    }

    /// Gives back what [`take`](Self::take) gave. A range that is not allowed, or of which something is free already, is left as it
    /// is.
    pub fn give_back(&mut self, start: u64, len: u64) {
        let Some(end) = len.checked_sub(1).and_then(|extra| start.checked_add(extra)) else { return };
        if !self.is_taken(start, end) {
            return;
        }
        let (mut first, mut last) = (start, end);
        if let Some((&before, &before_end)) = self.holes.by_start.range(..start).next_back()
            && before_end.checked_add(1) == Some(start)
        {
            self.holes.remove(before);
            first = before;
        }
        if let Some(next) = last.checked_add(1)
            && let Some(next_end) = self.holes.remove(next)
        {
            last = next_end;
        }
        self.holes.insert(first, last);
    }

    fn is_taken(&self, start: u64, end: u64) -> bool {
        let inside = self.allowed.range(..=start).next_back().is_some_and(|(_, &last)| end <= last);
        let free = self.holes.by_start.range(..=end).next_back().is_some_and(|(_, &last)| start <= last);
        inside && !free
    }

    /// Addresses that are free, in all.
    pub fn free_bytes(&self) -> u128 {
        self.holes.by_start.iter().map(|(&first, &last)| bytes(first, last)).fold(0, u128::saturating_add)
    }
}

/// Bytes of a range, by its first address and its last.
fn bytes(first: u64, last: u64) -> u128 {
    u128::from(last.abs_diff(first)).saturating_add(1)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]
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
    fn a_hole_that_only_fits_across_the_base_is_no_hole() {
        let mut iovas = IovaAllocator::new(&[0x10_0000..=0x4f_ffff]);
        iovas.set_base(1 << 63);
        assert_eq!(iovas.base(), 0x20_0000);
        assert_eq!((iovas.largest(), iovas.take(0x40_0000, 0x1000)), (0x30_0000, None));
        assert_eq!(iovas.take(0x30_0000, 0x1000), Some(0x20_0000));
        assert_eq!((iovas.largest(), iovas.take(0x10_0000, 0x1000)), (0x10_0000, Some(0x10_0000)));
        assert_eq!(iovas.largest(), 0);
    }

    /// The smallest hole that fits may be one of many that are large enough, but not where they begin.
    #[test]
    fn whatever_fits_is_found() {
        let mut iovas = IovaAllocator::new(&[0x10_0000..=0x1fff_ffff]);
        let all: Vec<u64> = std::iter::from_fn(|| iovas.take(0x1000, 0x1000)).collect();
        // Holes of two pages that begin at odd ones, and one that does not.
        for pair in all.chunks_exact(4).take(100) {
            pair[1..3].iter().for_each(|&at| iovas.give_back(at, 0x1000));
        }
        assert_eq!(iovas.take(0x2000, 0x2000), None);
        all[802..804].iter().for_each(|&at| iovas.give_back(at, 0x1000));
        assert_eq!(iovas.take(0x2000, 0x2000), Some(all[802]));
        assert_eq!(iovas.take(0x2000, 0x1000), Some(all[1]));
    }

    #[test]
    fn the_last_address_can_be_had() {
        let mut iovas = IovaAllocator::new(&[u64::MAX - 0xfff..=u64::MAX]);
        let all = u64::MAX - 0xfff;
        assert_eq!(iovas.take(0x1000, 0x1000), Some(all));
        iovas.give_back(all, 0x1000);
        assert_eq!(iovas.free_bytes(), 0x1000);
    }

    #[test]
    fn what_was_not_taken_cannot_be_given_back() {
        let mut iovas = IovaAllocator::new(&[0x10_0000..=0x1f_ffff]);
        let at = iovas.take(0x1000, 0x1000).unwrap();
        let before = iovas.free_bytes();
        for (start, len) in
            [(at, 0), (at, u64::MAX), (u64::MAX, 2), (0, 0x1000), (at, 0x1001), (0x1f_f000, 0x1001)]
        {
            iovas.give_back(start, len);
            assert_eq!(iovas.free_bytes(), before, "{start:#x} {len:#x}");
        }
        iovas.give_back(at, 0x1000);
        iovas.give_back(at, 0x1000);
        assert_eq!(iovas.free_bytes(), before + 0x1000);
        assert_eq!(iovas.take(1, 0), None);
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
                prop_assert!(u128::from(iovas.largest()) <= iovas.free_bytes());
                let out: u64 = held.iter().map(|h| h.1).sum();
                prop_assert_eq!(iovas.free_bytes() + u128::from(out), before);
            }
        }
    }
}
