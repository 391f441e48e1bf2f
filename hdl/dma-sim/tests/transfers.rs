//! Random transfers on all channels.

#[path = "../benches/cycles/chains.rs"]
mod chains;

use chains::Case;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use xdma_rtl_dma::{Engine, Transfer};

const HOST: u64 = 0x12_3400_0000;
const CARD: u64 = 0x7_0000_0000;

/// Returns transfers of up to `longest` bytes with any alignment, in memory of their own, and fills their sources.
fn transfers(
    engine: &mut Engine,
    rng: &mut StdRng,
    to_card: bool,
    index: u32,
    longest: u32,
) -> Vec<(Transfer, Vec<u8>)> {
    let place = 0x100_0000 * u64::from(2 * index + u32::from(to_card));
    let (mut host, mut card) = (HOST + place, CARD + place);
    let mut found = vec![];
    for _ in 0..rng.random_range(1..150) {
        host += rng.random_range(0..130);
        card += rng.random_range(0..130);
        let mut data = vec![0; rng.random_range(1..=longest) as usize];
        rng.fill_bytes(&mut data);
        if to_card {
            engine.host.poke(host, &data)
        } else {
            engine.card.poke(card, &data)
        }
        let len = data.len() as u64;
        found.push(((host, card, len as u32), data));
        (host, card) = (host + len, card + len);
    }
    found
}

#[test]
fn random_transfers_on_all_channels_at_once() {
    for seed in 0..12 {
        let mut rng = StdRng::seed_from_u64(seed);
        let latency = rng.random_range(1..400);
        let mut engine = Engine::new(
            Engine::host_memory(latency, 64),
            Engine::card_memory(latency / 3 + 1),
            seed as u8 % 3,
        );
        let longest = [100, 5_000, 20_000][seed as usize % 3];
        let mut runs = vec![];
        for (to_card, index) in (0..8).map(|n| (n < 4, n % 4)) {
            let all = transfers(&mut engine, &mut rng, to_card, index, longest);
            let list = 0x4000_0000 + 0x1_0000 * u64::from(2 * index + u32::from(to_card));
            let word = 0x5000_0000 + 64 * u64::from(2 * index + u32::from(to_card));
            let laid: Vec<Transfer> = all.iter().map(|(transfer, _)| *transfer).collect();
            let adjacent = engine.lay(to_card, list, &laid);
            engine.prepare(to_card, index, list, adjacent, word);
            runs.push((to_card, index, word, all));
        }
        for (to_card, index, ..) in &runs {
            engine.ring(*to_card, *index);
        }
        for (to_card, index, word, all) in &runs {
            assert_eq!(
                engine.outcome(*to_card, *index),
                (0x06, all.len() as u32),
                "seed {seed} {to_card} {index}"
            );
            assert_eq!(engine.host.peek(*word, 4), (all.len() as u32).to_le_bytes());
            for ((host, card, len), data) in all {
                let arrived = if *to_card {
                    engine.card.peek(*card, *len as usize)
                } else {
                    engine.host.peek(*host, *len as usize)
                };
                assert!(arrived == *data, "seed {seed}: {to_card} {index} {host:#x} {card:#x} {len}");
            }
        }
    }
}

/// At least 90 % of the width of the data path, or of the bytes in flight by the latency.
#[test]
fn chains_reach_90_percent_of_the_limit() {
    for (latency, reads, code) in [(250, 64, 2), (500, 32, 1)] {
        let case = Case { latency, reads, code, count: 256, len: 4096 };
        let (h2c, c2h) = (case.rates(&[true])[0], case.rates(&[false])[0]);
        assert!(h2c >= 0.9 * case.limit(), "H2C: {h2c} bytes a cycle, {} is the limit", case.limit());
        assert!(c2h >= 0.9 * 64.0, "C2H: {c2h} bytes a cycle");
        let both = case.rates(&[true, false]);
        assert!(both[0] >= 0.9 * case.limit() && both[1] >= 0.9 * 64.0, "{both:?} bytes a cycle at once");
    }
    // Descriptors of 512 bytes, which the blocks of 64 feed.
    let small = Case { latency: 500, reads: 64, code: 2, count: 1024, len: 512 };
    assert!(small.rates(&[true])[0] >= 0.75 * 64.0, "{:?}", small.rates(&[true]));
}
