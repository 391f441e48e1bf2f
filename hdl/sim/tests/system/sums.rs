//! Results of tasks.

use crate::bench::{Bench, Pairs, limb_bytes};
use halo2curves::bn256::{Fr, G1, G1Affine};
use halo2curves::ff::Field;
use halo2curves::group::Group;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use xdma_regs::msm::*;
use xdma_rtl::{Throttle, Variant};

const FORMS: [Mode; 2] = [Mode::empty(), Mode::MONTGOMERY];

#[test]
fn sums_match_halo2curves_in_both_scalar_forms() {
    for variant in [Variant::Small, Variant::Halved] {
        let mut bench = Bench::new(variant);
        for count in [1, 2, 3, 33, 1025] {
            let pairs = Pairs::random(count, count as u64);
            for mode in FORMS {
                assert_eq!(bench.run(&pairs, mode), pairs.sum(), "{variant:?}, {count} pairs, {mode:?}");
            }
        }
        assert_eq!(bench.get(ERRORS), 0);
    }
}

#[test]
fn a_thousand_pairs_with_every_product_simulated() {
    let mut bench = Bench::new(Variant::Pure);
    let pairs = Pairs::random(1 << 10, 1);
    assert_eq!(bench.run(&pairs, Mode::empty()), pairs.sum());
}

#[test]
fn windows_of_thirteen_bits() {
    let mut bench = Bench::new(Variant::Full);
    let pairs = Pairs::random(1 << 12, 2);
    assert_eq!(bench.run(&pairs, Mode::MONTGOMERY), pairs.sum());
}

#[test]
fn many_pairs() {
    let mut bench = Bench::new(Variant::Small);
    let pairs = Pairs::random(1 << 16, 3);
    assert_eq!(bench.run(&pairs, Mode::MONTGOMERY), pairs.sum());
    // The core must not wait for data: a pair takes 32 cycles, one per window.
    let clocks = bench.get64(PHASE1_CLOCKS);
    let ideal = 32 << 16;
    assert!((ideal - 200..ideal + ideal / 1000).contains(&clocks), "{clocks}");
}

#[test]
fn special_scalars_and_points() {
    for variant in [Variant::Small, Variant::Halved] {
        let mut bench = Bench::new(variant);
        let count = 129;
        let mut pairs = Pairs::random(count, 4);
        let first = pairs.points[0];
        let mut check = |what: &str, change: &mut dyn FnMut(&mut Pairs, usize)| {
            (0..count).for_each(|i| change(&mut pairs, i));
            assert_eq!(bench.run(&pairs, Mode::empty()), pairs.sum(), "{variant:?}, {what}");
        };
        check("ones and zeros", &mut |pairs, i| pairs.scalars[i] = Fr::from(i as u64 % 2));
        check("one hot", &mut |pairs, i| pairs.scalars[i] = Fr::from(2).pow([2 * i as u64 % 254]));
        check("r - 1", &mut |pairs, i| pairs.scalars[i] = -Fr::from(1 + i as u64 % 3));
        check("equal", &mut |pairs, i| {
            pairs.scalars[i] =
                Fr::from(u64::MAX) * Fr::from(1 << 50) + pairs.scalars[0].double() * Fr::from((i == 0) as u64)
        });
        check("some infinity", &mut |pairs, i| {
            pairs.points[i] = if i % 3 == 0 { G1Affine::default() } else { pairs.points[i] }
        });
        check("a point and its negative", &mut |pairs, i| {
            pairs.points[i] = if i % 2 == 0 { first } else { -first }
        });
        check("all the same", &mut |pairs, i| pairs.points[i] = first);
        check("all zero", &mut |pairs, i| pairs.scalars[i] = Fr::ZERO);
        check("all infinity", &mut |pairs, i| pairs.points[i] = G1Affine::default());
    }
}

#[test]
fn values_out_of_range_are_reduced() {
    let mut bench = Bench::new(Variant::Small);
    let pairs = Pairs::random(3, 5);
    let multiple = |modulus: [u64; 4], times: u64, plus: [u64; 4]| {
        let mut carry = 0;
        limb_bytes(std::array::from_fn(|i| {
            let sum = u128::from(modulus[i]) * u128::from(times) + u128::from(plus[i]) + carry;
            carry = sum >> 64;
            sum as u64
        }))
    };
    let r = [0x43e1f593f0000001, 0x2833e84879b97091, 0xb85045b68181585d, 0x30644e72e131a029];
    let p = [0x3c208c16d87cfd47, 0x97816a916871ca8d, 0xb85045b68181585d, 0x30644e72e131a029];
    // Scalars up to 2^256 - 1; the second point, (p, 5 p), reduces to infinity.
    let scalars = [multiple(r, 4, [2, 0, 0, 0]), multiple(r, 5, [7, 0, 0, 0]), [0xff; 32], [0; 32]].concat();
    let [a, b, c] = [0, 1, 2].map(|i| pairs.points[i]);
    let points = [
        [multiple(p, 4, a.x.0), multiple(p, 2, a.y.0)].concat(),
        [multiple(p, 1, [0; 4]), multiple(p, 5, [0; 4])].concat(),
        [multiple(p, 0, c.x.0), multiple(p, 3, c.y.0)].concat(),
    ]
    .concat();
    bench.push(3, Mode::empty());
    bench.queue(0, SCALAR_WINDOW, &scalars);
    bench.queue(0, POINT_WINDOW, &points);
    let ones = Fr::from_raw([u64::MAX; 4]);
    assert_eq!(bench.result().0, a * Fr::from(2) + c * ones);
    assert_ne!(b, a);
}

#[test]
fn invalid_points_do_not_hang_the_core() {
    let mut bench = Bench::new(Variant::Small);
    let mut random = StdRng::seed_from_u64(6);
    let noise: Vec<u8> = (0..300 * 96).map(|_| random.random()).collect();
    bench.push(300, Mode::MONTGOMERY);
    bench.queue(0, SCALAR_WINDOW, &noise[..300 * 32]);
    bench.queue(0, POINT_WINDOW, &noise[300 * 32..]);
    bench.wait(RESULT_VALID, 1);
    bench.set(POP_RESULT, 1);
    let pairs = Pairs::random(20, 7);
    assert_eq!(bench.run(&pairs, Mode::empty()), pairs.sum(), "the next task is not affected");
    assert_ne!(pairs.sum(), G1::identity());
}

#[test]
fn random_idle_clocks_do_not_change_results() {
    let mut bench = Bench::new(Variant::Small);
    for share in [64, 200] {
        bench.master.set_throttle(Throttle::Random(share, 8));
        let pairs = Pairs::random(601, 8);
        assert_eq!(bench.run(&pairs, Mode::MONTGOMERY), pairs.sum());
    }
}
