//! Walks descriptor lists as hardware does, according to PG195, "Descriptors".
//!
//! The walk shares no code with the builder of the lists. It reads words in memory, and fetches a random part of each block, like
//! an engine whose fetches end at the maximum read request size or at a full buffer. It continues from the last descriptor that it
//! has fetched.

use proptest::prelude::*;
use std::collections::BTreeMap;
use xdma::unstable::descriptor::{Adjacency, End, Flags, List, Segment};

const STOP: u32 = 0x1;
const COMPLETED: u32 = 0x2;
const EOP: u32 = 0x10;

/// Maximum number of descriptors per read, for read requests of 512 bytes, which the vendor's driver configures, and 4096 bytes,
/// the PCIe maximum.
const MAX_READS: [u64; 2] = [16, 128];

type Memory = BTreeMap<u64, [u32; 8]>;

/// The result of a walk.
#[derive(Debug, Default)]
struct Walk {
    /// Addresses of the descriptors, in the order in which they were fetched.
    visited: Vec<u64>,
    fetches: usize,
}

/// Walks from the descriptor at `address`, which has `adjacent` more after it, until Stop or until `limit` descriptors were
/// fetched. `choose` selects how many of the n descriptors of a block a fetch reads.
fn walk(
    memory: &Memory,
    (mut address, mut adjacent): (u64, u32),
    limit: usize,
    mut choose: impl FnMut(u64) -> u64,
) -> Result<Walk, String> {
    let mut walk = Walk::default();
    while walk.visited.len() < limit {
        let block = u64::from(adjacent) + 1;
        check_block(address, block)?;
        let fetched = choose(block);
        assert!((1..=block).contains(&fetched), "the test selected an invalid number");
        walk.fetches += 1;
        for k in 0..fetched {
            let at = address + 32 * k;
            let words =
                memory.get(&at).ok_or(format!("there is no descriptor at {at:#x}, which was fetched"))?;
            check_words(at, words)?;
            walk.visited.push(at);
            if words[0] & STOP != 0 {
                // "Stop may only be set on the last descriptor of an adjacent block."
                return if k + 1 == block {
                    Ok(walk)
                } else {
                    Err(format!("Stop inside a block, at {at:#x}"))
                };
            }
        }
        let last = memory[&(address + 32 * (fetched - 1))];
        address = u64::from(last[6]) | u64::from(last[7]) << 32;
        adjacent = last[0] >> 8 & 0x3f;
    }
    Ok(walk)
}

fn check_block(address: u64, block: u64) -> Result<(), String> {
    if !address.is_multiple_of(32) {
        return Err(format!("{address:#x} is not a multiple of 32"));
    }
    if block > 64 {
        return Err(format!("a block of {block}"));
    }
    if address & 0xfff > 4096 - 32 * block {
        return Err(format!("the {block} descriptors at {address:#x} cross 4 KiB"));
    }
    Ok(())
}

fn check_words(at: u64, words: &[u32; 8]) -> Result<(), String> {
    if words[0] & 0xffff_0000 != 0xad4b_0000 {
        return Err(format!("no magic number at {at:#x}"));
    }
    if words[0] & 0x0000_c0ec != 0 || words[1] & 0xf000_0000 != 0 {
        return Err(format!("reserved bits at {at:#x}: {:#x} {:#x}", words[0], words[1]));
    }
    if words[1] == 0 {
        return Err(format!("length 0 at {at:#x}"));
    }
    Ok(())
}

/// The contents of a list: source, destination, length and flags of each descriptor.
#[derive(Clone, Debug)]
struct Contents {
    segments: Vec<(u64, u64, u32, u32)>,
}

fn contents() -> impl Strategy<Value = Contents> {
    let flags = prop::sample::select(vec![0, COMPLETED, EOP, COMPLETED | EOP]);
    let segment = (any::<u64>(), any::<u64>(), 1u32..1 << 28, flags);
    prop::collection::vec(segment, 1..400).prop_map(|segments| Contents { segments })
}

/// Returns the address of any slot that leaves space for the longest list.
fn base() -> impl Strategy<Value = u64> {
    (0u64..1 << 58).prop_map(|slot| slot << 5)
}

/// Returns a function that selects up to `most` descriptors at random.
fn splits(seed: u64, most: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed | 1;
    move |block| {
        // xorshift64: the numbers only need to vary and to be repeatable.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        1 + state % block.min(most)
    }
}

fn segment(&(source, destination, length, _): &(u64, u64, u32, u32)) -> Segment {
    Segment { source, destination, length }
}

fn list_in_memory(list: &List, contents: &Contents) -> Memory {
    let word = |i: usize| {
        let flags = Flags::from_bits_retain(contents.segments[i].3);
        list.descriptor(i, segment(&contents.segments[i]), flags).to_words()
    };
    (0..list.len()).map(|i| (list.base() + 32 * i as u64, word(i))).collect()
}

fn expected(list: &List) -> Vec<u64> {
    (0..list.len() as u64).map(|i| list.base() + 32 * i).collect()
}

fn start(list: &List) -> (u64, u32) {
    (list.base(), u32::from(list.first_adjacent()))
}

proptest! {
    #[test]
    fn an_open_list_is_walked_once_in_order_for_any_fetch_sizes(
        base in base(), contents in contents(), seed in any::<u64>(), blocks in any::<bool>(),
        most in prop::sample::select(MAX_READS.to_vec()),
    ) {
        let adjacency = if blocks { Adjacency::Blocks } else { Adjacency::None };
        let list = List::new(base, contents.segments.len(), End::Stop, adjacency);
        let memory = list_in_memory(&list, &contents);
        let walk = walk(&memory, start(&list), usize::MAX, splits(seed, most)).map_err(TestCaseError::fail)?;
        prop_assert_eq!(walk.visited, expected(&list));
        if !blocks {
            prop_assert_eq!(walk.fetches, list.len());
        }
    }

    #[test]
    fn descriptors_have_the_requested_contents_and_only_the_last_has_stop(base in base(), contents in contents()) {
        let list = List::new(base, contents.segments.len(), End::Stop, Adjacency::Blocks);
        let memory = list_in_memory(&list, &contents);
        for (i, words) in memory.values().enumerate() {
            let (source, destination, length, flags) = contents.segments[i];
            let last = i + 1 == list.len();
            prop_assert_eq!(words[0] & 0xff, flags | if last { STOP } else { 0 });
            prop_assert_eq!(words[1], length);
            prop_assert_eq!((words[2], words[3]), (source as u32, (source >> 32) as u32));
            prop_assert_eq!((words[4], words[5]), (destination as u32, (destination >> 32) as u32));
        }
    }

    #[test]
    fn a_closed_list_repeats(
        base in base(), contents in contents(), seed in any::<u64>(), blocks in any::<bool>(),
        most in prop::sample::select(MAX_READS.to_vec()),
    ) {
        let adjacency = if blocks { Adjacency::Blocks } else { Adjacency::None };
        let list = List::new(base, contents.segments.len(), End::Closed, adjacency);
        let memory = list_in_memory(&list, &contents);
        let laps = 3 * list.len();
        let walk = walk(&memory, start(&list), laps, splits(seed, most)).map_err(TestCaseError::fail)?;
        let round = expected(&list).into_iter().cycle();
        prop_assert!(walk.visited.len() >= laps);
        prop_assert!(walk.visited.iter().copied().eq(round.take(walk.visited.len())));
    }

    #[test]
    fn blocks_are_as_long_as_possible_within_half_pages(base in base(), contents in contents()) {
        let list = List::new(base, contents.segments.len(), End::Stop, Adjacency::Blocks);
        // The vendor driver's own formula for the start register: min(63 - slot mod 64, n - 1).
        let slot = base / 32 % 64;
        prop_assert_eq!(u64::from(list.first_adjacent()), (63 - slot).min(list.len() as u64 - 1));
        let memory = list_in_memory(&list, &contents);
        let walk = walk(&memory, start(&list), usize::MAX, |block| block).map_err(TestCaseError::fail)?;
        prop_assert_eq!(walk.fetches as u64, (slot + list.len() as u64).div_ceil(64));
    }

    #[test]
    fn the_walk_detects_adjacent_counts_that_start_at_n_minus_1(base in base(), contents in contents(), seed in any::<u64>()) {
        prop_assume!(contents.segments.len() > 1);
        // Place the list in a single block, so that no descriptor follows it.
        let base = base & !0x7ff;
        let len = contents.segments.len().min(64);
        let list = List::new(base, len, End::Stop, Adjacency::Blocks);
        let mut memory = list_in_memory(&list, &contents);
        for (k, words) in memory.values_mut().enumerate().take(len - 1) {
            words[0] = words[0] & !0x3f00 | ((len - 1 - k) as u32) << 8;
        }
        // The mistake has no effect as long as each fetch reads a whole block.
        prop_assert!(walk(&memory, start(&list), usize::MAX, |block| block).is_ok());
        let mut split = splits(seed, 16);
        let short = move |block: u64| if block == len as u64 { 1 } else { split(block) };
        prop_assert!(walk(&memory, start(&list), usize::MAX, short).is_err());
    }
}

/// Corrupts one descriptor of a valid list in every way that the walk detects.
#[test]
fn the_walk_detects_a_corrupt_descriptor() {
    let contents = Contents { segments: vec![(0x1000, 0x2000, 64, COMPLETED); 70] };
    let list = List::new(0x7_0000_0000, 70, End::Stop, Adjacency::Blocks);
    let good = list_in_memory(&list, &contents);
    let walked = |memory: &Memory| walk(memory, start(&list), 1000, |_| 1).map(|walk| walk.visited.len());
    assert_eq!(walked(&good), Ok(70));
    type Corrupt = fn(&mut [u32; 8]);
    let cases: [(&str, Corrupt); 8] = [
        ("no magic", |words| words[0] ^= 0x0001_0000),
        ("reserved bits", |words| words[0] |= 0x4000),
        ("reserved bits", |words| words[0] |= 0x20),
        ("reserved bits", |words| words[1] |= 0x1000_0000),
        ("length 0", |words| words[1] = 0),
        ("Stop inside", |words| words[0] |= STOP),
        ("there is no descriptor", |words| words[7] = 0),
        ("not a multiple of 32", |words| words[6] |= 4),
    ];
    for (message, corrupt) in cases {
        let mut memory = good.clone();
        corrupt(memory.get_mut(&(list.base() + 32 * 20)).unwrap());
        // Stop is an error only if the engine expects more adjacent descriptors.
        let choose = |block: u64| if message == "Stop inside" { block } else { 1 };
        let error = walk(&memory, start(&list), 1000, choose).unwrap_err();
        assert!(error.contains(message), "{message}: {error}");
    }
}

#[test]
fn the_walk_detects_a_block_that_crosses_a_page() {
    let contents = Contents { segments: vec![(0x1000, 0x2000, 64, COMPLETED); 70] };
    let list = List::new(0x7_0000_0fe0, 70, End::Stop, Adjacency::Blocks);
    let memory = list_in_memory(&list, &contents);
    assert_eq!(list.first_adjacent(), 0);
    let error = walk(&memory, (list.base(), 1), 1000, |_| 1).unwrap_err();
    assert!(error.contains("cross 4 KiB"), "{error}");
}
