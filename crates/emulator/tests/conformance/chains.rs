//! Adjacency (PG195 "Descriptors"): where fetches may end, and the effects of wrong adjacent counts.

use crate::host::{COMPLETED, STOP, descriptor};
use crate::rig::{Channel, LIST, Piece, RTL, Rig, c2h, h2c, pieces, synchronous};
use xdma_emulator::{EmulatorOptions, Rule, Switches};

/// A deterministic random number generator.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn up_to(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % (most + 1)
    }
}

/// Places blocks at random: each has up to 64 descriptors at a random offset in its own page, and is not followed by valid
/// descriptors.
fn scattered(rng: &mut Rng, blocks: usize) -> Vec<(usize, usize)> {
    let block = |i: usize| {
        let len = 2 + rng.up_to(62) as usize;
        let slot = rng.up_to(128 - len as u64) as usize;
        (LIST + 0x1000 * i + 32 * slot, len)
    };
    (0..blocks).map(block).collect()
}

/// Writes the blocks. `number(n, k)` is the adjacent count of descriptor k in a block of n, except for the last one.
fn write_blocks(
    rig: &Rig,
    channel: Channel,
    blocks: &[(usize, usize)],
    pieces: &[Piece],
    number: impl Fn(usize, usize) -> usize,
) {
    let mut pieces = pieces.iter();
    for (b, &(at, len)) in blocks.iter().enumerate() {
        for k in 0..len {
            let (next, adjacent) = match blocks.get(b + 1) {
                _ if k + 1 < len => (rig.host.at(at + 32 * (k + 1)), number(len, k)),
                Some(&(next, count)) => (rig.host.at(next), count - 1),
                None => (0, 0),
            };
            let control = if next == 0 { STOP | COMPLETED } else { 0 };
            let piece = pieces.next().unwrap();
            rig.host.put(at + 32 * k, piece.descriptor(&rig.host, channel, control, adjacent as u32, next));
        }
    }
}

fn clear_list(rig: &Rig) {
    rig.host.write(LIST, &[0; 0x1_0000]);
}

const SEEDS: std::ops::Range<u64> = 0..40;

#[test]
fn correct_adjacency_works_for_any_fetch_size() {
    for seed in SEEDS {
        let mut rng = Rng::new(seed);
        let synchronous_card = seed % 2 == 0;
        let mut rig = Rig::new(EmulatorOptions { seed, synchronous: synchronous_card, ..synchronous() });
        for channel in [h2c(0), c2h(0), h2c(2), c2h(3)] {
            clear_list(&rig);
            let count = 1 + rng.up_to(7) as usize;
            let blocks = scattered(&mut rng, count);
            let total: usize = blocks.iter().map(|(_, len)| len).sum();
            let pieces = pieces(total, 1 + rng.up_to(3000) as u32);
            let expected = rig.fill(channel, &pieces, seed * 1000);
            write_blocks(&rig, channel, &blocks, &pieces, |n, k| n - 2 - k);
            rig.run(channel, blocks[0].0, blocks[0].1 as u32 - 1, 0x00f8_3e1e);
            assert_eq!(rig.read(channel.base + 0x44), 0x06, "seed {seed} {channel:?}");
            assert_eq!(rig.read(channel.base + 0x48), total as u32);
            rig.check(channel, &pieces, &expected);
        }
    }
}

/// Runs a list with at most `credits` credits at a time.
fn run_with_credits(rig: &mut Rig, channel: Channel, offset: usize, adjacent: u32, credits: u32) {
    rig.write(0x6024, channel.common);
    rig.go(channel, offset, adjacent, 0x00f8_3e1e);
    let ended = |rig: &mut Rig| rig.read(channel.base + 0x40) & !1 != 0;
    while !ended(rig) {
        rig.write(channel.sgdma + 0x8c, credits);
    }
    rig.write(0x6028, channel.common);
    rig.idle(channel);
}

/// PRA#8: counts that start at n-1 instead of n-2 work only if a fetch covers the whole block. Credits make fetches end inside blocks.
/// Without them, the fetches of the emulated card end at random, and those of the engine of `hdl/rtl/dma` cover the blocks.
#[test]
fn adjacent_counts_from_n_minus_1_are_caught() {
    for (seed, with_credits) in SEEDS.flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::new(EmulatorOptions { seed, ..synchronous() });
        rig.tolerate_violation(Rule::StopInsideBlock);
        rig.tolerate_violation(Rule::BlockCrossesPage);
        clear_list(&rig);
        let channel = if seed % 2 == 0 { h2c(0) } else { c2h(0) };
        let blocks: Vec<(usize, usize)> =
            (0..8).map(|i| (LIST + 0x1000 * i, 48 + rng.up_to(15) as usize)).collect();
        let total: usize = blocks.iter().map(|(_, len)| len).sum();
        let pieces = pieces(total, 64);
        rig.fill(channel, &pieces, seed);
        write_blocks(&rig, channel, &blocks, &pieces, |n, k| n - 1 - k);
        let (at, adjacent) = (blocks[0].0, blocks[0].1 as u32 - 1);
        match with_credits {
            true => run_with_credits(&mut rig, channel, at, adjacent, 5),
            false => rig.run(channel, at, adjacent, 0x00f8_3e1e),
        }
        let (status, count) = (rig.read(channel.base + 0x44), rig.read(channel.base + 0x48));
        if RTL && !with_credits {
            assert_eq!((status, count), (0x06, total as u32));
            continue;
        }
        assert_eq!(status & 0x10, 0x10, "seed {seed}: no magic number after a block");
        assert!(count < total as u32, "seed {seed}: {count}");
    }
}

/// AWSM's `xdma_desc_adjacent` writes the same count, up to 63, into every descriptor of the run. That works as long as credits end each
/// fetch before the mistake. Without them, the fetches of the emulated card end at random, and those of the engine of `hdl/rtl/dma`
/// always reach it.
#[test]
fn too_large_an_adjacent_count_fetches_garbage() {
    let mut caught = 0;
    for (seed, with_credits) in SEEDS.flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut rig = Rig::new(EmulatorOptions { seed, ..synchronous() });
        rig.tolerate_violation(Rule::BlockCrossesPage);
        rig.tolerate_violation(Rule::StopInsideBlock);
        clear_list(&rig);
        let channel = h2c(0);
        // Two descriptors, and a third one elsewhere. The first block claims to have 4.
        let blocks = [(LIST, 2), (LIST + 0x2000, 1)];
        let pieces = pieces(3, 64);
        rig.fill(channel, &pieces, seed);
        write_blocks(&rig, channel, &blocks, &pieces, |n, k| n - 2 - k);
        match with_credits {
            true => run_with_credits(&mut rig, channel, LIST, 3, 2),
            false => rig.run(channel, LIST, 3, 0x00f8_3e1e),
        }
        match (rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)) {
            (0x06, 3) => {}
            (0x10, 2) if !with_credits => caught += 1,
            other => panic!("seed {seed}: {other:x?}"),
        }
    }
    match RTL {
        true => assert_eq!(caught, SEEDS.end),
        false => assert!(caught > 0 && caught < SEEDS.end, "{caught}: only some fetches reach the mistake"),
    }
}

#[test]
fn too_small_an_adjacent_count_is_only_slow() {
    for seed in 0..8 {
        let mut rig = Rig::new(EmulatorOptions { seed, ..synchronous() });
        let (channel, pieces) = (h2c(0), pieces(20, 64));
        let expected = rig.fill(channel, &pieces, seed);
        rig.lay(channel, LIST, &pieces, 0, STOP | COMPLETED);
        for i in 0..20 {
            let word = rig.host.word(LIST + 32 * i);
            rig.host.set_word(LIST + 32 * i, word & !0x3f00);
        }
        rig.run(channel, LIST, 0, 0x00f8_3e1e);
        assert_eq!((rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)), (0x06, 20));
        rig.check(channel, &pieces, &expected);
    }
}

/// Runs a block across 4 KiB. Returns whether the card reads it incorrectly, which must be detected.
fn misreads_a_block_across_4_kib(rig: &mut Rig) -> bool {
    rig.expect_violation(Rule::BlockCrossesPage);
    clear_list(rig);
    let (channel, pieces) = (h2c(0), pieces(4, 64));
    let expected = rig.fill(channel, &pieces, 1);
    write_blocks(rig, channel, &[(LIST + 0xfc0, 4)], &pieces, |n, k| n - 2 - k);
    rig.run(channel, LIST + 0xfc0, 3, 0x00f8_3e1e);
    match (rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)) {
        (0x06, 4) => {
            rig.check(channel, &pieces, &expected);
            false
        }
        (0x10, 2) => true,
        other => panic!("{other:x?}"),
    }
}

/// DID#48, DID#49: a request does not cross 4 KiB. On a card whose requests do not end at multiples of their size, a block that does
/// is read incorrectly, unless a fetch ends exactly at the boundary by chance. Requests that end at multiples of their size follow such
/// a block as if it were legal, which is why AWS's driver worked. It is not known which cards do this, so it is a switch. Such a block is a
/// rule violation either way.
#[test]
fn a_block_across_4_kib_is_read_according_to_the_switch() {
    for aligned in [false, true] {
        let switches = Switches { aligned_fetch: aligned.into(), ..Switches::default() };
        let mut outcomes = SEEDS.map(|seed| {
            let options = EmulatorOptions { seed, ..synchronous() }.with_switches(switches);
            let mut rig = Rig::new(options);
            (rig.switches().aligned_fetch, misreads_a_block_across_4_kib(&mut rig))
        });
        let (aligned, first) = outcomes.next().expect("there are seeds");
        let caught = outcomes.filter(|(_, caught)| *caught).count() + usize::from(first);
        assert_eq!(caught > 0, !aligned.or(true), "{caught}");
    }
}

#[test]
fn a_block_that_ends_at_4_kib_works() {
    for seed in 0..8 {
        let mut rig = Rig::new(EmulatorOptions { seed, ..synchronous() });
        let (channel, pieces) = (c2h(0), pieces(64, 64));
        let expected = rig.fill(channel, &pieces, seed);
        write_blocks(&rig, channel, &[(LIST + 0x800, 64)], &pieces, |n, k| n - 2 - k);
        rig.run(channel, LIST + 0x800, 63, 0x00f8_3e1e);
        assert_eq!((rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)), (0x06, 64));
        rig.check(channel, &pieces, &expected);
    }
}

/// "Stop may only be set on the last descriptor of an adjacent block."
#[test]
fn stop_inside_a_block_is_detected() {
    for seed in 0..8 {
        let mut rig = Rig::new(EmulatorOptions { seed, ..synchronous() });
        let (channel, pieces) = (h2c(0), pieces(4, 64));
        rig.fill(channel, &pieces, 1);
        let adjacent = rig.lay(channel, LIST, &pieces, 0, STOP);
        rig.host.set_word(LIST + 32, rig.host.word(LIST + 32) | STOP);
        rig.expect_violation(Rule::StopInsideBlock);
        rig.run(channel, LIST, adjacent, 0x00f8_3e1e);
        assert_eq!((rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)), (0x02, 2));
    }
}

#[test]
fn an_unaligned_descriptor_is_detected() {
    let mut rig = Rig::new(synchronous());
    let (channel, pieces) = (h2c(0), pieces(2, 64));
    rig.fill(channel, &pieces, 1);
    let second = pieces[1].descriptor(&rig.host, channel, STOP, 0, 0);
    rig.host.put(LIST, pieces[0].descriptor(&rig.host, channel, 0, 0, rig.host.at(LIST + 0x50)));
    rig.host.put(LIST + 0x50, second);
    rig.expect_violation(Rule::DescriptorAlignment);
    rig.go(channel, LIST, 0, 0x00f8_3e1e);
    rig.idle(channel);
}

/// A circular list has no end.
#[test]
fn a_circular_list_runs_until_it_is_stopped() {
    let mut rig = Rig::new(EmulatorOptions::default());
    let channel = h2c(0);
    for i in 0..4 {
        let next = rig.host.at(LIST + 32 * ((i + 1) % 4));
        rig.host.put(LIST + 32 * i, descriptor(0, 0, 64, rig.host.at(0), 0x40 * i as u64, next));
    }
    rig.go(channel, LIST, 0, 0x00f8_3e5e);
    rig.until("it has run a hundred rounds", |rig| rig.read(channel.base + 0x48) > 400);
    assert_eq!(rig.read(channel.base + 0x40) & 1, 1, "busy");
    rig.stop(channel);
    let count = rig.read(channel.base + 0x48);
    assert_eq!(rig.read(channel.base + 0x40), 0x40, "idle after Run was cleared");
    assert_eq!(rig.read(channel.base + 0x48), count, "stopped for good");
}
