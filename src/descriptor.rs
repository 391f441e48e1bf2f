//! The 32-byte descriptor, and lists of descriptors (PG195, "Descriptors"). Pure functions on numbers and bytes.
//!
//! A [`List`] has correct adjacency by construction.
//!
//! A fetch requests a *block* of adjacent descriptors and may end at any of them. The engine then continues with the `next` and
//! `next_adjacent` of the last descriptor it fetched, so each descriptor must state how many follow it. Blocks here end at
//! every 2 KiB boundary, which limits them to 64 descriptors and keeps them inside a 4 KiB page. Descriptor k of a block of n
//! holds n-2-k; the last one holds the size of the next block minus one (PG195 "Descriptors"; numbering from n-1 breaks on
//! hardware).

pub use xdma_regs::descriptor::*;

/// Maximum number of descriptors per block.
pub const MAX_BLOCK: usize = 64;

/// The data that one descriptor moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Source address.
    pub source: u64,
    /// Destination address.
    pub destination: u64,
    /// Length in bytes, 1 to [`MAX_LENGTH`].
    pub length: u32,
}

/// How a list ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The last descriptor has Stop and no next one.
    Stop,
    /// The last descriptor links back to the first.
    Closed,
}

/// Whether descriptors state how many adjacent ones follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjacency {
    /// Blocks of up to [`MAX_BLOCK`].
    Blocks,
    /// Every descriptor is fetched alone: always valid, and known to work with credits.
    None,
}

/// The addresses of a list's descriptors, and how they are linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    base: u64,
    len: usize,
    end: End,
    adjacency: Adjacency,
}

impl List {
    /// Creates a list of `len` descriptors, contiguous in memory from device address `base`.
    ///
    /// # Panics
    ///
    /// If `base` is not a multiple of 32, if `len` is 0, or if the list ends beyond the address space.
    pub const fn new(base: u64, len: usize, end: End, adjacency: Adjacency) -> Self {
        assert!(base.is_multiple_of(DESCRIPTOR_BYTES), "descriptors are 32-byte aligned");
        assert!(len > 0, "a list has at least one descriptor");
        assert!(
            (len as u64 - 1) <= (u64::MAX - base) / DESCRIPTOR_BYTES,
            "the list ends beyond the address space"
        );
        Self { base, len, end, adjacency }
    }

    /// Returns the device address of the first descriptor.
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Returns the number of descriptors.
    #[expect(clippy::len_without_is_empty, reason = "a list is never empty")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns the device address of descriptor `index`.
    ///
    /// # Panics
    ///
    /// If the list has no such descriptor.
    #[inline]
    pub const fn address(&self, index: usize) -> u64 {
        assert!(index < self.len, "the list has no such descriptor");
        // `new` checked the address of the last one.
        self.base + index as u64 * DESCRIPTOR_BYTES
    }

    /// Returns the number of adjacent descriptors after the first: the value for the start registers.
    #[inline]
    pub const fn first_adjacent(&self) -> u8 {
        self.run_from(0) - 1
    }

    /// Returns descriptor `index`, which moves `segment`. `flags` are combined with the Stop that ends an open list.
    ///
    /// # Panics
    ///
    /// If the list has no such descriptor.
    #[inline]
    pub const fn descriptor(&self, index: usize, segment: Segment, flags: Flags) -> Descriptor {
        assert!(index < self.len, "the list has no such descriptor");
        let last = index + 1 == self.len;
        let (next, next_adjacent) = match (last, self.end) {
            // Inside a block this is n-2-k; at its end, the size of the next block minus one.
            (false, _) => (self.address(index + 1), self.run_from(index + 1) - 1),
            (true, End::Closed) => (self.base, self.first_adjacent()),
            (true, End::Stop) => (0, 0),
        };
        let flags = if last && matches!(self.end, End::Stop) { flags.union(Flags::STOP) } else { flags };
        let Segment { source, destination, length } = segment;
        Descriptor { flags, next_adjacent, length, source, destination, next }
    }

    /// Returns the number of descriptors of the block from `index` on, including that one.
    #[inline]
    const fn run_from(&self, index: usize) -> u8 {
        if matches!(self.adjacency, Adjacency::None) {
            return 1;
        }
        let slot = (self.address(index) / DESCRIPTOR_BYTES) as usize % MAX_BLOCK;
        let (to_boundary, to_end) = (MAX_BLOCK - slot, self.len - index);
        (if to_boundary < to_end { to_boundary } else { to_end }) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: Segment = Segment { source: 1, destination: 2, length: 3 };

    fn adjacents(base: u64, len: usize, end: End) -> Vec<u8> {
        let list = List::new(base, len, end, Adjacency::Blocks);
        (0..len).map(|i| list.descriptor(i, SEGMENT, Flags::empty()).next_adjacent).collect()
    }

    #[test]
    fn a_block_counts_down_from_n_minus_2() {
        assert_eq!(adjacents(0, 1, End::Stop), [0]);
        assert_eq!(adjacents(0, 2, End::Stop), [0, 0]);
        assert_eq!(adjacents(0, 4, End::Stop), [2, 1, 0, 0]);
        assert_eq!(List::new(0, 4, End::Stop, Adjacency::Blocks).first_adjacent(), 3);
    }

    #[test]
    fn the_last_descriptor_of_a_block_holds_the_size_of_the_next() {
        let seen = adjacents(0x1000, 70, End::Stop);
        assert_eq!(seen[..3], [62, 61, 60]);
        assert_eq!(seen[62..], [0, 5, 4, 3, 2, 1, 0, 0]);
    }

    #[test]
    fn a_list_that_starts_inside_a_block_ends_it_at_the_boundary() {
        let list = List::new(0x17e0, 3, End::Stop, Adjacency::Blocks);
        assert_eq!(list.first_adjacent(), 0);
        assert_eq!(adjacents(0x17e0, 3, End::Stop), [1, 0, 0]);
    }

    #[test]
    fn a_closed_list_links_back_to_its_start() {
        let list = List::new(0x2000, 65, End::Closed, Adjacency::Blocks);
        let last = list.descriptor(64, SEGMENT, Flags::COMPLETED);
        assert_eq!((last.next, last.next_adjacent, last.flags), (0x2000, 63, Flags::COMPLETED));
    }

    #[test]
    fn an_open_list_ends_with_stop() {
        let list = List::new(0x2000, 2, End::Stop, Adjacency::None);
        let [first, last] = [0, 1].map(|i| list.descriptor(i, SEGMENT, Flags::COMPLETED));
        assert_eq!((first.next, first.flags), (0x2020, Flags::COMPLETED));
        assert_eq!((last.next, last.flags), (0, Flags::COMPLETED | Flags::STOP));
        assert_eq!(list.first_adjacent(), 0);
    }
}
