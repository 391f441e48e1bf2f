//! The three multipliers, compared to each other and to halo2curves.

use crate::{P, add, bytes, element, limbs, representative, subtract};
use halo2curves::bn256::Fq;
use halo2curves::ff::Field;
use rand::{SeedableRng, rngs::StdRng};
use std::collections::VecDeque;
use xdma_rtl::{Top, Unit};

/// Latency of each multiplier in cycles, `ML` in the test top.
const LATENCY: usize = 26;

#[test]
fn all_multipliers_agree() {
    let mut unit = Unit::new(Top::FpMul);
    let mut random = StdRng::seed_from_u64(1);
    let top = subtract(add(P, P), [1, 0, 0, 0]);
    let edges = [[0; 4], [1, 0, 0, 0], subtract(P, [1, 0, 0, 0]), P, add(P, [1, 0, 0, 0]), top, Fq::ONE.0];
    let words = [[u64::MAX, 0, 0, 0], [0, u64::MAX, 0, 0], [0, 0, u64::MAX, 0], [0, 0, 0, 1 << 60]];
    let edges: Vec<[u64; 4]> = edges.into_iter().chain(words).collect();
    let mut pairs: Vec<_> = edges.iter().flat_map(|a| edges.iter().map(|b| (*a, *b))).collect();
    for _ in 0..10_000 {
        let mut any = || {
            let value = Fq(std::array::from_fn(|_| rand::RngExt::random(&mut random))) * Fq::ONE;
            representative(value, &mut random)
        };
        pairs.push((any(), any()));
    }
    let mut expected = VecDeque::new();
    let mut compared = 0;
    for (a, b) in pairs.iter().copied().chain([([0; 4], [0; 4]); LATENCY]) {
        unit.input[..32].copy_from_slice(&bytes(a));
        unit.input[32..].copy_from_slice(&bytes(b));
        unit.step();
        expected.push_back((a, b));
        if expected.len() > LATENCY {
            let (a, b) = expected.pop_front().unwrap();
            let [behav, tiled, dpi] = [0, 1, 2].map(|i| limbs(&unit.output[32 * i..32 * i + 32]));
            assert_eq!(behav, tiled, "{a:x?} {b:x?}");
            assert_eq!(behav, dpi, "{a:x?} {b:x?}");
            assert_eq!(element(behav), element(a) * element(b), "{a:x?} {b:x?}");
            compared += 1;
        }
    }
    assert_eq!(compared, pairs.len());
}
