//! Allocation of device addresses.

#![deny(clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// Number of best-fit holes to try, which may be too small when aligned, before trying one that is large enough for any
/// alignment.
const TRIES: usize = 16;

/// Allocates ranges of device addresses from those that a bus allows. Addresses from the base on are allocated first, those below
/// it when none are left. The smallest hole that fits is used. All operations take time logarithmic in the number of holes,
/// except an allocation that fails.
#[derive(Debug, Clone)]
pub struct IovaAllocator {
    holes: Holes,
    /// All usable ranges, as first and last address. They neither overlap nor touch.
    allowed: BTreeMap<u64, u64>,
}

/// Free ranges. They do not overlap, touch only at the base, and none spans it.
#[derive(Debug, Clone, Default)]
struct Holes {
    /// Last addresses, by first address.
    by_start: BTreeMap<u64, u64>,
    /// For each hole: whether it is below the base, its length minus one, and its first address.
    by_size: BTreeSet<(bool, u64, u64)>,
    base: u64,
}

impl Holes {
    fn key(&self, first: u64, last: u64) -> (bool, u64, u64) {
        (first < self.base, last.saturating_sub(first), first)
    }

    fn insert(&mut self, first: u64, last: u64) {
        if first < self.base && self.base <= last {
            self.insert_one(first, self.base.saturating_sub(1));
            self.insert_one(self.base, last);
        } else {
            self.insert_one(first, last);
        }
    }

    fn insert_one(&mut self, first: u64, last: u64) {
        self.by_start.insert(first, last);
        self.by_size.insert(self.key(first, last));
    }

    /// Removes the hole that begins at `first`, if there is one, and returns its last address.
    fn remove(&mut self, first: u64) -> Option<u64> {
        let last = self.by_start.remove(&first)?;
        self.by_size.remove(&self.key(first, last));
        Some(last)
    }

    /// Finds space for `extra` + 1 bytes. Returns its address and the first address of the hole that contains it.
    fn find(&self, extra: u64, align: u64) -> Option<(u64, u64)> {
        let fits = |&(_, size, first): &(bool, u64, u64)| {
            let start = first.checked_next_multiple_of(align)?;
            let end = start.checked_add(extra)?;
            (end <= first.saturating_add(size)).then_some((start, first))
        };
        let on_side =
            |below: bool, least: u64| self.by_size.range((below, least, 0)..=(below, u64::MAX, u64::MAX));
        let enough = extra.saturating_add(align.saturating_sub(1));
        let quick =
            |below| on_side(below, extra).take(TRIES).chain(on_side(below, enough).take(1)).find_map(fits);
        // As a last resort, try all holes.
        quick(false).or_else(|| quick(true)).or_else(|| self.by_size.iter().find_map(fits))
    }
}

impl IovaAllocator {
    /// Creates an allocator over `allowed`, whose ranges may overlap or touch. The lowest 64 KiB are never allocated, so that a
    /// descriptor of zeros does not refer to mapped memory.
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

    /// Moves the base to `share` / 2^64 of the way through the usable addresses, rounded down to a boundary that suits large
    /// pages. All addresses become free.
    pub fn set_base(&mut self, share: u64) {
        let total = self.free_bytes();
        let granule: u64 = if total >= 64 << 30 { 1 << 30 } else { 2 << 20 };
        // Both factors are below 2^64, unless the total is the whole address space.
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

    /// Returns the address at which allocation begins.
    pub fn base(&self) -> u64 {
        self.holes.base
    }

    /// Allocates `len` bytes aligned to `align`, a power of two. `None` if no hole is large enough, or if `len` or `align` is 0.
    pub fn allocate(&mut self, len: u64, align: u64) -> Option<u64> {
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

    /// Returns the size in bytes of the largest hole.
    pub fn largest(&self) -> u64 {
        let on_side = |below| self.holes.by_size.range(..=(below, u64::MAX, u64::MAX)).next_back();
        let size = |hole: Option<&(bool, u64, u64)>| hole.map_or(0, |&(_, size, _)| size.saturating_add(1));
        size(on_side(false)).max(size(on_side(true)))
    }

    /// Frees a range that [`allocate`](Self::allocate) returned. A range that is not usable, or that is already free in part, is
    /// ignored.
    pub fn free(&mut self, start: u64, len: u64) {
        let Some(end) = len.checked_sub(1).and_then(|extra| start.checked_add(extra)) else { return };
        if !self.is_allocated(start, end) {
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

    fn is_allocated(&self, start: u64, end: u64) -> bool {
        let inside = self.allowed.range(..=start).next_back().is_some_and(|(_, &last)| end <= last);
        let free = self.holes.by_start.range(..=end).next_back().is_some_and(|(_, &last)| start <= last);
        inside && !free
    }

    /// Returns the total number of free addresses.
    pub fn free_bytes(&self) -> u128 {
        self.holes.by_start.iter().map(|(&first, &last)| bytes(first, last)).fold(0, u128::saturating_add)
    }
}

/// Returns the size of a range in bytes, from its first and last address.
fn bytes(first: u64, last: u64) -> u128 {
    u128::from(last.abs_diff(first)).saturating_add(1)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn allocations_avoid_reserved_ranges() {
        let mut iovas = IovaAllocator::new(&[0..=0xfedf_ffff, 0xfef0_0000..=u64::MAX]);
        assert_eq!(iovas.allocate(0x1000, 0x1000), Some(0x1_0000));
        assert_eq!(iovas.allocate(0xfe00_0000, 0x20_0000), Some(0x20_0000));
        assert_eq!(iovas.allocate(0x4000_0000, 0x4000_0000), Some(0x1_0000_0000));
        assert_eq!(iovas.allocate(0, 1), None);
        assert_eq!(iovas.allocate(u64::MAX, 1), None);
    }

    #[test]
    fn bases_are_distinct_and_all_addresses_can_be_allocated() {
        let allowed = [0..=0xfedf_ffff, 0xfef0_0000..=0x7fff_ffff_ffff];
        let base = |share| {
            let mut iovas = IovaAllocator::new(&allowed);
            iovas.set_base(share);
            assert_eq!(iovas.allocate(0x1000, 0x1000), Some(iovas.base().max(0x1_0000)));
            iovas.base()
        };
        assert_eq!((base(0), base(1 << 63), base(u64::MAX)), (0, 0x4000_0000_0000, 0x7fff_c000_0000));
        let mut small = IovaAllocator::new(&[0x10_0000..=0x4f_ffff]);
        small.set_base(1 << 63);
        let allocated: Vec<_> = std::iter::from_fn(|| small.allocate(0x10_0000, 0x10_0000)).collect();
        assert_eq!(allocated, [0x20_0000, 0x30_0000, 0x40_0000, 0x10_0000], "allocation wraps around");
    }

    #[test]
    fn no_allocation_spans_the_base() {
        let mut iovas = IovaAllocator::new(&[0x10_0000..=0x4f_ffff]);
        iovas.set_base(1 << 63);
        assert_eq!(iovas.base(), 0x20_0000);
        assert_eq!((iovas.largest(), iovas.allocate(0x40_0000, 0x1000)), (0x30_0000, None));
        assert_eq!(iovas.allocate(0x30_0000, 0x1000), Some(0x20_0000));
        assert_eq!((iovas.largest(), iovas.allocate(0x10_0000, 0x1000)), (0x10_0000, Some(0x10_0000)));
        assert_eq!(iovas.largest(), 0);
    }

    /// The only hole that fits may come after many that are long enough, but not aligned.
    #[test]
    fn a_fitting_hole_is_found_after_many_that_do_not_fit() {
        let mut iovas = IovaAllocator::new(&[0x10_0000..=0x1fff_ffff]);
        let all: Vec<u64> = std::iter::from_fn(|| iovas.allocate(0x1000, 0x1000)).collect();
        // Holes of two pages that begin at odd pages, then one that begins at an even page.
        for pair in all.chunks_exact(4).take(100) {
            pair[1..3].iter().for_each(|&at| iovas.free(at, 0x1000));
        }
        assert_eq!(iovas.allocate(0x2000, 0x2000), None);
        all[802..804].iter().for_each(|&at| iovas.free(at, 0x1000));
        assert_eq!(iovas.allocate(0x2000, 0x2000), Some(all[802]));
        assert_eq!(iovas.allocate(0x2000, 0x1000), Some(all[1]));
    }

    #[test]
    fn the_last_address_can_be_allocated() {
        let mut iovas = IovaAllocator::new(&[u64::MAX - 0xfff..=u64::MAX]);
        let all = u64::MAX - 0xfff;
        assert_eq!(iovas.allocate(0x1000, 0x1000), Some(all));
        iovas.free(all, 0x1000);
        assert_eq!(iovas.free_bytes(), 0x1000);
    }

    #[test]
    fn freeing_an_invalid_range_is_ignored() {
        let mut iovas = IovaAllocator::new(&[0x10_0000..=0x1f_ffff]);
        let at = iovas.allocate(0x1000, 0x1000).unwrap();
        let before = iovas.free_bytes();
        for (start, len) in
            [(at, 0), (at, u64::MAX), (u64::MAX, 2), (0, 0x1000), (at, 0x1001), (0x1f_f000, 0x1001)]
        {
            iovas.free(start, len);
            assert_eq!(iovas.free_bytes(), before, "{start:#x} {len:#x}");
        }
        iovas.free(at, 0x1000);
        iovas.free(at, 0x1000);
        assert_eq!(iovas.free_bytes(), before + 0x1000);
        assert_eq!(iovas.allocate(1, 0), None);
    }

    proptest! {
        #[test]
        fn allocations_never_overlap_and_can_be_freed(
            ranges in prop::collection::vec((0u64..1 << 20, 1u64..1 << 16), 1..6),
            steps in prop::collection::vec((any::<bool>(), 1u64..1 << 14, 0u32..13), 1..80),
            share: u64,
        ) {
            let allowed: Vec<_> = ranges.iter().map(|&(start, len)| start..=start + len - 1).collect();
            let mut iovas = IovaAllocator::new(&allowed);
            iovas.set_base(share);
            let before = iovas.free_bytes();
            let mut held: Vec<(u64, u64)> = vec![];
            for (allocate, len, align) in steps {
                if allocate {
                    if let Some(at) = iovas.allocate(len, 1 << align) {
                        prop_assert_eq!(at % (1 << align), 0);
                        prop_assert!(held.iter().all(|&(a, l)| at + len <= a || a + l <= at));
                        for byte in [at, at + len / 2, at + len - 1] {
                            prop_assert!(allowed.iter().any(|r| r.contains(&byte)));
                        }
                        held.push((at, len));
                    }
                } else if let Some((at, len)) = held.pop() {
                    iovas.free(at, len);
                }
                prop_assert!(u128::from(iovas.largest()) <= iovas.free_bytes());
                let out: u64 = held.iter().map(|h| h.1).sum();
                prop_assert_eq!(iovas.free_bytes() + u128::from(out), before);
            }
        }
    }
}
