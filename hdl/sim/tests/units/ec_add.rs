//! The adder, with dedicated and with shared multipliers, compared to halo2curves.

use crate::{bytes, element, limbs, representative};
use halo2curves::bn256::{Fq, G1};
use halo2curves::ff::Field;
use halo2curves::group::Group;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::collections::VecDeque;
use xdma_rtl::{Top, Unit};

/// Encodes a point with a random projective scale and a random representative of each coordinate.
fn coordinates(point: G1, random: &mut StdRng) -> Vec<u8> {
    let scale = Fq(std::array::from_fn(|_| random.random())) * Fq::ONE;
    [point.x, point.y, point.z].iter().flat_map(|c| bytes(representative(*c * scale, random))).collect()
}

fn point(output: &[u8]) -> G1 {
    let [x, y, z] = [0, 1, 2].map(|i| element(limbs(&output[32 * i..32 * i + 32])));
    if z == Fq::ZERO {
        assert!(x == Fq::ZERO && y != Fq::ZERO, "infinity is (0, y, 0)");
        return G1::identity();
    }
    G1 { x, y, z }
}

#[test]
fn every_case_is_added_correctly() {
    let mut random = StdRng::seed_from_u64(2);
    let mut any = || G1::generator() * halo2curves::bn256::Fr::from(random.random::<u64>());
    let mut cases = vec![];
    for _ in 0..60 {
        let (p, q, zero) = (any(), any(), G1::identity());
        cases.extend([
            (p, q),
            (p, p),
            (p, -p),
            (zero, q),
            (p, zero),
            (zero, zero),
            (p, p + p),
            (p, -(p + p)),
        ]);
    }
    let mut unit = Unit::new(Top::EcAdd);
    // The additions in flight in each adder.
    let mut in_flight: [VecDeque<(u16, G1)>; 3] = Default::default();
    let mut checked = [0; 3];
    let mut step = |unit: &mut Unit, offered: Option<(u16, G1)>| {
        unit.step();
        for adder in 0..3 {
            let output = &unit.output[100 * adder..100 * adder + 100];
            let flags = output[98];
            if flags & 1 != 0 {
                let (tag, sum) = in_flight[adder].pop_front().expect("a sum belongs to an addition");
                assert_eq!(u16::from_le_bytes([output[96], output[97]]), tag);
                assert_eq!(point(output), sum, "adder {adder}, case {tag}");
                checked[adder] += 1;
            }
            if let Some(accepted) = offered.filter(|_| flags & 2 != 0) {
                in_flight[adder].push_back(accepted);
            }
        }
    };
    // Each case is offered in two consecutive clocks, so that adders with II = 2 accept every case once.
    for (tag, (p, q)) in cases.iter().enumerate() {
        let operands = [coordinates(*p, &mut random), coordinates(*q, &mut random)].concat();
        unit.input[..192].copy_from_slice(&operands);
        unit.input[192..194].copy_from_slice(&(tag as u16).to_le_bytes());
        unit.input[194] = 1;
        for _ in 0..2 {
            step(&mut unit, Some((tag as u16, p + q)));
        }
    }
    unit.input[194] = 0;
    for _ in 0..60 {
        step(&mut unit, None);
    }
    assert_eq!(checked, [2 * cases.len(), cases.len(), cases.len()]);
}
