//! The core's arithmetic: an MSM over the bytes from the FIFOs.

use ark_bn254::{Fq, Fr, G1Affine, G1Projective};
use ark_ec::AffineRepr;
use ark_ec::short_weierstrass::Bucket;
use ark_ff::{AdditiveGroup, BigInt, Field, PrimeField, Zero};
use rand::{RngExt, rngs::StdRng};
use rayon::prelude::*;
use std::mem;
use xdma_regs::msm::{POINT_BYTES, RESULT_BYTES, SCALAR_BYTES};

type Limbs = [u64; 4];

/// The modulus p of the coordinates, least significant limb first.
const P: Limbs = [0x3c20_8c16_d87c_fd47, 0x9781_6a91_6871_ca8d, 0xb850_45b6_8181_585d, 0x3064_4e72_e131_a029];
/// The modulus r of the scalars, which is the order of the curve, least significant limb first.
const R: Limbs = [0x43e1_f593_f000_0001, 0x2833_e848_79b9_7091, 0xb850_45b6_8181_585d, 0x3064_4e72_e131_a029];
/// The number of pairs between two checks for cancellation.
const BATCH: usize = 1 << 18;
/// Fewer pairs are not divided among threads.
const MIN_SHARE: usize = 32;

/// Computes the sum of scalar times point over all pairs. Returns `None` if `cancelled` returns true.
///
/// Coordinates are reduced modulo p and scalars modulo r. (0, 0) is infinity. A point that is not on the curve is replaced by the
/// generator, because this arithmetic is undefined for such points; the result is wrong but deterministic.
pub(super) fn msm(
    scalars: &[u8],
    points: &[u8],
    montgomery: bool,
    mut cancelled: impl FnMut() -> bool,
) -> Option<G1Projective> {
    let mut sum = G1Projective::zero();
    for (scalars, points) in scalars.chunks(BATCH * SCALAR_BYTES).zip(points.chunks(BATCH * POINT_BYTES)) {
        if cancelled() {
            return None;
        }
        sum += sum_on_all_threads(scalars, points, montgomery);
    }
    Some(sum)
}

/// Computes the sum of scalar times point. `ark_ec::VariableBaseMSM` does too, but takes far longer to compile.
fn sum_on_all_threads(scalars: &[u8], points: &[u8], montgomery: bool) -> G1Projective {
    let pairs = scalars.len() / SCALAR_BYTES;
    let share = pairs.div_ceil(rayon::current_num_threads()).max(MIN_SHARE);
    let shares = scalars.par_chunks(share * SCALAR_BYTES).zip(points.par_chunks(share * POINT_BYTES));
    shares
        .map(|(scalars, points)| {
            let scalars: Vec<_> =
                scalars.chunks_exact(SCALAR_BYTES).map(|bytes| scalar(bytes, montgomery)).collect();
            let points: Vec<_> = points.chunks_exact(POINT_BYTES).map(point).collect();
            sum_with_buckets(&scalars, &points)
        })
        .sum()
}

/// Computes the sum of scalar times point with the bucket method, from the highest bits of the scalars to the lowest.
fn sum_with_buckets(scalars: &[Fr], points: &[G1Affine]) -> G1Projective {
    // Doubled, so that each digit of Booth's recoding is read together with the bit below it.
    let doubled: Vec<Limbs> = scalars.iter().map(|scalar| (scalar.into_bigint() << 1).0).collect();
    // Close to the width with the fewest additions: each window adds each point once, and each bucket twice.
    let bits = (scalars.len().ilog2() * 3).div_ceil(4).max(1);
    let mut buckets = vec![Bucket::ZERO; 1 << (bits - 1)];
    let mut sum = G1Projective::zero();
    for window in (0..(Fr::MODULUS_BIT_SIZE + 1).div_ceil(bits)).rev() {
        for _ in 0..bits {
            sum.double_in_place();
        }
        for (point, scalar) in points.iter().zip(&doubled) {
            match signed_digit(scalar, window * bits, bits) {
                0 => {}
                digit @ 1.. => buckets[digit as usize - 1] += point,
                digit => buckets[digit.unsigned_abs() - 1] -= point,
            }
        }
        let (mut higher, mut window_sum) = (Bucket::ZERO, Bucket::ZERO);
        for bucket in buckets.iter_mut().rev() {
            higher += &mem::replace(bucket, Bucket::ZERO);
            window_sum += &higher;
        }
        sum += &window_sum;
    }
    sum
}

/// Returns the digit of `count` bits from `first` on. Digits are at most 2^(count - 1) in magnitude.
fn signed_digit(doubled: &Limbs, first: u32, count: u32) -> isize {
    let (limb, shift) = (first as usize / 64, first % 64);
    let high = doubled.get(limb + 1).map_or(0, |high| u128::from(*high) << 64);
    let bits = (high | u128::from(doubled[limb])) >> shift;
    let bits = bits as isize & ((2 << count) - 1);
    (bits + 1) / 2 - (bits >> count << count)
}

/// Encodes a result: homogeneous X, Y, Z (x = X/Z, y = Y/Z), converted from the library's Jacobian form (x = X/Z², y = Y/Z³). The
/// coordinates are multiplied by a random value, and each is one of its two representatives below 2p at random, so that clients
/// cannot rely on a particular one. Z = 0 modulo p is infinity.
pub(super) fn result(sum: &G1Projective, random: &mut StdRng) -> [u8; RESULT_BYTES] {
    let scale = loop {
        let value = coordinate(random.random());
        if !value.is_zero() {
            break value;
        }
    };
    let mut bytes = [0; RESULT_BYTES];
    let homogeneous = [sum.x * sum.z, sum.y, sum.z.square() * sum.z];
    for (coordinate, to) in homogeneous.into_iter().zip(bytes.chunks_exact_mut(32)) {
        let mut limbs = (coordinate * scale).0.0;
        if random.random() {
            limbs = add(&limbs, &P);
        }
        for (limb, to) in limbs.into_iter().zip(to.chunks_exact_mut(8)) {
            to.copy_from_slice(&limb.to_le_bytes());
        }
    }
    bytes
}

fn scalar(bytes: &[u8], montgomery: bool) -> Fr {
    let value = BigInt(reduce(limbs(bytes), &R));
    if montgomery { Fr::new_unchecked(value) } else { Fr::from_bigint(value).expect("below r") }
}

fn point(bytes: &[u8]) -> G1Affine {
    let (x, y) = bytes.split_at(POINT_BYTES / 2);
    let (x, y) = (coordinate(limbs(x)), coordinate(limbs(y)));
    if x.is_zero() && y.is_zero() {
        return G1Affine::zero();
    }
    let point = G1Affine::new_unchecked(x, y);
    if point.is_on_curve() { point } else { G1Affine::generator() }
}

/// Converts a coordinate, which is in Montgomery form in memory too.
fn coordinate(limbs: Limbs) -> Fq {
    Fq::new_unchecked(BigInt(reduce(limbs, &P)))
}

fn limbs(bytes: &[u8]) -> Limbs {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        *limb = u64::from_le_bytes(word);
    }
    limbs
}

/// Reduces `value` modulo `modulus`, which is above 2^253, so at most five subtractions are needed.
fn reduce(mut value: Limbs, modulus: &Limbs) -> Limbs {
    while value.iter().rev().ge(modulus.iter().rev()) {
        let mut borrow = false;
        for (limb, m) in value.iter_mut().zip(modulus) {
            let (difference, under) = limb.overflowing_sub(*m);
            let (difference, under_again) = difference.overflowing_sub(borrow as u64);
            (*limb, borrow) = (difference, under || under_again);
        }
    }
    value
}

/// Adds two values below 2^255.
fn add(a: &Limbs, b: &Limbs) -> Limbs {
    let mut sum = [0; 4];
    let mut carry = false;
    for (limb, (a, b)) in sum.iter_mut().zip(a.iter().zip(b)) {
        let (s, over) = a.overflowing_add(*b);
        let (s, over_again) = s.overflowing_add(carry as u64);
        (*limb, carry) = (s, over || over_again);
    }
    sum
}
