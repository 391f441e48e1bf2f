//! Lists of descriptors, walked as PG195 "Descriptors" says that hardware walks them.
//!
//! The walk shares nothing with the code that builds lists: it sees words in memory, takes a random part of each block as
//! an engine does whose fetches end at the maximum read request or at a full buffer, and goes on from the last
//! descriptor that it fetched.

use proptest::prelude::*;
use std::collections::BTreeMap;
use xdma::descriptor::{Adjacency, End, Flags, List, Segment};

const STOP: u32 = 0x1;
const COMPLETED: u32 = 0x2;
const EOP: u32 = 0x10;

/// Descriptors in one read: of 512 bytes, as the vendor's driver sets it, and of 4096, the most that PCIe knows.
const MAX_READS: [u64; 2] = [16, 128];

type Memory = BTreeMap<u64, [u32; 8]>;

/// What a walk did.
#[derive(Debug, Default)]
struct Walk {
    /// Addresses in the order in which they were fetched.
    visited: Vec<u64>,
    fetches: usize,
}

/// Walks from `address` with `adjacent` more descriptors beside it, until Stop or until `limit` descriptors were fetched.
/// `take` chooses how many of up to n descriptors a fetch takes.
fn walk(
    memory: &Memory,
    (mut address, mut adjacent): (u64, u32),
    limit: usize,
    mut take: impl FnMut(u64) -> u64,
) -> Result<Walk, String> {
    let mut walk = Walk::default();
    while walk.visited.len() < limit {
        let block = u64::from(adjacent) + 1;
        check_block(address, block)?;
        let taken = take(block);
        assert!((1..=block).contains(&taken), "the test's own split is off");
        walk.fetches += 1;
        for k in 0..taken {
            let at = address + 32 * k;
            let words = memory.get(&at).ok_or(format!("{at:#x} was fetched, and no descriptor is there"))?;
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
        let last = memory[&(address + 32 * (taken - 1))];
        address = u64::from(last[6]) | u64::from(last[7]) << 32;
        adjacent = last[0] >> 8 & 0x3f;
    }
    Ok(walk)
}

fn check_block(address: u64, block: u64) -> Result<(), String> {
    if !address.is_multiple_of(32) {
        return Err(format!("{address:#x} is no multiple of 32"));
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

/// What the caller asked for, apart from where it lies.
#[derive(Clone, Debug)]
struct Wanted {
    segments: Vec<(u64, u64, u32, u32)>,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let flags = prop::sample::select(vec![0, COMPLETED, EOP, COMPLETED | EOP]);
    let segment = (any::<u64>(), any::<u64>(), 1u32..1 << 28, flags);
    prop::collection::vec(segment, 1..400).prop_map(|segments| Wanted { segments })
}

/// Any slot of any page that leaves room for the longest list.
fn base() -> impl Strategy<Value = u64> {
    (0u64..1 << 58).prop_map(|slot| slot << 5)
}

/// A fetch of as much as `most` descriptors, or less at random.
fn splits(seed: u64, most: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed | 1;
    move |block| {
        // xorshift64: the split only has to be different every time, and repeatable.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        1 + state % block.min(most)
    }
}

fn segment(&(source, destination, length, _): &(u64, u64, u32, u32)) -> Segment {
    Segment { source, destination, length }
}

fn list_in_memory(list: &List, wanted: &Wanted) -> Memory {
    let word = |i: usize| {
        let flags = Flags::from_bits_retain(wanted.segments[i].3);
        list.descriptor(i, segment(&wanted.segments[i]), flags).to_words()
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
    fn an_open_list_is_walked_once_in_order_whatever_fetches_take(
        base in base(), wanted in wanted(), seed in any::<u64>(), blocks in any::<bool>(),
        most in prop::sample::select(MAX_READS.to_vec()),
    ) {
        let adjacency = if blocks { Adjacency::Blocks } else { Adjacency::None };
        let list = List::new(base, wanted.segments.len(), End::Stop, adjacency);
        let memory = list_in_memory(&list, &wanted);
        let walk = walk(&memory, start(&list), usize::MAX, splits(seed, most)).map_err(TestCaseError::fail)?;
        prop_assert_eq!(walk.visited, expected(&list));
        if !blocks {
            prop_assert_eq!(walk.fetches, list.len());
        }
    }

    #[test]
    fn the_words_say_what_was_asked_for_and_only_the_last_stops(base in base(), wanted in wanted()) {
        let list = List::new(base, wanted.segments.len(), End::Stop, Adjacency::Blocks);
        let memory = list_in_memory(&list, &wanted);
        for (i, words) in memory.values().enumerate() {
            let (source, destination, length, flags) = wanted.segments[i];
            let last = i + 1 == list.len();
            prop_assert_eq!(words[0] & 0xff, flags | if last { STOP } else { 0 });
            prop_assert_eq!(words[1], length);
            prop_assert_eq!((words[2], words[3]), (source as u32, (source >> 32) as u32));
            prop_assert_eq!((words[4], words[5]), (destination as u32, (destination >> 32) as u32));
        }
    }

    #[test]
    fn a_closed_list_goes_round(
        base in base(), wanted in wanted(), seed in any::<u64>(), blocks in any::<bool>(),
        most in prop::sample::select(MAX_READS.to_vec()),
    ) {
        let adjacency = if blocks { Adjacency::Blocks } else { Adjacency::None };
        let list = List::new(base, wanted.segments.len(), End::Closed, adjacency);
        let memory = list_in_memory(&list, &wanted);
        let laps = 3 * list.len();
        let walk = walk(&memory, start(&list), laps, splits(seed, most)).map_err(TestCaseError::fail)?;
        let round = expected(&list).into_iter().cycle();
        prop_assert!(walk.visited.len() >= laps);
        prop_assert!(walk.visited.iter().copied().eq(round.take(walk.visited.len())));
    }

    #[test]
    fn blocks_are_as_long_as_the_rules_allow_at_half_pages(base in base(), wanted in wanted()) {
        let list = List::new(base, wanted.segments.len(), End::Stop, Adjacency::Blocks);
        // The vendor driver's own formula for the start register: min(63 - slot mod 64, n - 1).
        let slot = base / 32 % 64;
        prop_assert_eq!(u64::from(list.first_adjacent()), (63 - slot).min(list.len() as u64 - 1));
        let memory = list_in_memory(&list, &wanted);
        let walk = walk(&memory, start(&list), usize::MAX, |block| block).map_err(TestCaseError::fail)?;
        prop_assert_eq!(walk.fetches as u64, (slot + list.len() as u64).div_ceil(64));
    }

    #[test]
    fn the_walk_catches_numbering_from_n_minus_1(base in base(), wanted in wanted(), seed in any::<u64>()) {
        prop_assume!(wanted.segments.len() > 1);
        // Within one block, so that the descriptor after it is nobody's.
        let base = base & !0x7ff;
        let len = wanted.segments.len().min(64);
        let list = List::new(base, len, End::Stop, Adjacency::Blocks);
        let mut memory = list_in_memory(&list, &wanted);
        for (k, words) in memory.values_mut().enumerate().take(len - 1) {
            words[0] = words[0] & !0x3f00 | ((len - 1 - k) as u32) << 8;
        }
        // Nobody notices as long as a fetch takes the whole block, which is how the mistake survives.
        prop_assert!(walk(&memory, start(&list), usize::MAX, |block| block).is_ok());
        let mut split = splits(seed, 16);
        let short = move |block: u64| if block == len as u64 { 1 } else { split(block) };
        prop_assert!(walk(&memory, start(&list), usize::MAX, short).is_err());
    }
}

/// One descriptor of a good list, broken in every way that the walk knows.
#[test]
fn the_walk_catches_a_broken_word() {
    let wanted = Wanted { segments: vec![(0x1000, 0x2000, 64, COMPLETED); 70] };
    let list = List::new(0x7_0000_0000, 70, End::Stop, Adjacency::Blocks);
    let good = list_in_memory(&list, &wanted);
    let walked = |memory: &Memory| walk(memory, start(&list), 1000, |_| 1).map(|walk| walk.visited.len());
    assert_eq!(walked(&good), Ok(70));
    type Break = fn(&mut [u32; 8]);
    let breaks: [(&str, Break); 8] = [
        ("no magic", |words| words[0] ^= 0x0001_0000),
        ("reserved bits", |words| words[0] |= 0x4000),
        ("reserved bits", |words| words[0] |= 0x20),
        ("reserved bits", |words| words[1] |= 0x1000_0000),
        ("length 0", |words| words[1] = 0),
        ("Stop inside", |words| words[0] |= STOP),
        ("no descriptor is there", |words| words[7] = 0),
        ("no multiple of 32", |words| words[6] |= 4),
    ];
    for (message, broken) in breaks {
        let mut memory = good.clone();
        broken(memory.get_mut(&(list.base() + 32 * 20)).unwrap());
        // Stop is only wrong where the engine saw that more is adjacent.
        let take = |block: u64| if message == "Stop inside" { block } else { 1 };
        let error = walk(&memory, start(&list), 1000, take).unwrap_err();
        assert!(error.contains(message), "{message}: {error}");
    }
}

#[test]
fn the_walk_catches_a_block_across_a_page() {
    let wanted = Wanted { segments: vec![(0x1000, 0x2000, 64, COMPLETED); 70] };
    let list = List::new(0x7_0000_0fe0, 70, End::Stop, Adjacency::Blocks);
    let memory = list_in_memory(&list, &wanted);
    assert_eq!(list.first_adjacent(), 0);
    let error = walk(&memory, (list.base(), 1), 1000, |_| 1).unwrap_err();
    assert!(error.contains("cross 4 KiB"), "{error}");
}
