//! Tests of the conversions and checks against both libraries, and of the libraries against each other.

use super::convert;
use super::limbs::{self, P, R};
use super::*;
use crate::memory::bytes_of;
use crate::regs::msm::{POINT_BYTES, RESULT_BYTES, SCALAR_BYTES};
use ::halo2curves::bn256 as halo2;
use ::halo2curves::group::{Curve, Group, prime::PrimeCurveAffine};
use ark_bn254::{Fq, Fr, G1Affine, G1Projective};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{BigInt, One, PrimeField, UniformRand, Zero};
use proptest::prelude::*;
use rand_08::{SeedableRng, rngs::StdRng};

const COUNT: usize = 50;

fn points() -> Vec<G1Affine> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut points: Vec<_> = (0..COUNT).map(|_| G1Projective::rand(&mut rng).into_affine()).collect();
    points.extend([G1Affine::zero(), G1Affine::generator(), -G1Affine::generator()]);
    points
}

fn scalars() -> Vec<Fr> {
    let mut rng = StdRng::seed_from_u64(2);
    let mut scalars: Vec<_> = (0..COUNT).map(|_| Fr::rand(&mut rng)).collect();
    scalars.extend([Fr::zero(), Fr::one(), -Fr::one()]);
    scalars
}

fn point_bytes() -> Vec<u8> {
    let mut bytes = vec![0xee; points().len() * POINT_BYTES];
    arkworks::points_to_bytes(&points(), &mut bytes).unwrap();
    bytes
}

fn scalar_bytes() -> Vec<u8> {
    let mut bytes = vec![0xee; scalars().len() * SCALAR_BYTES];
    arkworks::scalars_to_bytes(&scalars(), &mut bytes).unwrap();
    bytes
}

/// Homogeneous coordinates as a card may return them: scaled, each optionally increased by p.
fn result(x: Fq, y: Fq, z: Fq, higher: [bool; 3]) -> [u8; RESULT_BYTES] {
    let mut bytes = [0; RESULT_BYTES];
    for ((value, higher), to) in [x, y, z].into_iter().zip(higher).zip(bytes.chunks_mut(32)) {
        let mut value = value.0;
        if higher {
            ark_ff::BigInteger::add_with_carry(&mut value, &Fq::MODULUS);
        }
        convert::write(&value.0, to);
    }
    bytes
}

/// The bytes of registered elements equal the output of the conversions.
#[test]
fn elements_in_memory_are_the_bytes_of_the_conversions() {
    let (points, scalars) = (point_bytes(), scalar_bytes());
    assert_eq!(bytes_of(&self::points()), points);
    assert_eq!(bytes_of(&self::scalars()), scalars);
    assert_eq!(bytes_of(&halo2curves::points_from_bytes(&points).unwrap()), points);
    assert_eq!(bytes_of(&halo2curves::scalars_from_bytes(&scalars).unwrap()), scalars);
}

#[test]
fn points_round_trip_and_both_libraries_agree_on_them() {
    let bytes = point_bytes();
    assert_eq!(arkworks::points_from_bytes(&bytes).unwrap(), points());
    let others = halo2curves::points_from_bytes(&bytes).unwrap();
    for (point, other) in points().iter().zip(&others) {
        let canonical = |x: Fq| x.into_bigint().0;
        assert_eq!(canonical(point.x), limbs::read(&other.x.to_bytes()));
        assert_eq!(canonical(point.y), limbs::read(&other.y.to_bytes()));
    }
    let mut again = vec![0; bytes.len()];
    halo2curves::points_to_bytes(&others, &mut again).unwrap();
    assert_eq!(again, bytes);
    assert!(bool::from(others[COUNT].is_identity()));
    assert_eq!(bytes[COUNT * POINT_BYTES..][..POINT_BYTES], [0; POINT_BYTES]);
}

#[test]
fn scalars_round_trip_in_both_forms_of_both_libraries() {
    let mut montgomery = vec![0; scalars().len() * SCALAR_BYTES];
    let mut canonical = montgomery.clone();
    arkworks::scalars_to_bytes(&scalars(), &mut montgomery).unwrap();
    arkworks::scalars_to_canonical_bytes(&scalars(), &mut canonical).unwrap();
    assert_eq!(canonical[(COUNT + 1) * 32], 1);
    assert_ne!(montgomery, canonical);
    assert_eq!(arkworks::scalars_from_bytes(&montgomery).unwrap(), scalars());
    assert_eq!(arkworks::scalars_from_canonical_bytes(&canonical).unwrap(), scalars());

    let others = halo2curves::scalars_from_bytes(&montgomery).unwrap();
    assert_eq!(others, halo2curves::scalars_from_canonical_bytes(&canonical).unwrap());
    let mut again = vec![0; montgomery.len()];
    halo2curves::scalars_to_bytes(&others, &mut again).unwrap();
    assert_eq!(again, montgomery);
    halo2curves::scalars_to_canonical_bytes(&others, &mut again).unwrap();
    assert_eq!(again, canonical);
}

#[test]
fn results_of_any_representative_become_points_of_both_libraries() {
    let mut rng = StdRng::seed_from_u64(3);
    for (i, point) in points().iter().enumerate() {
        let scale = Fq::rand(&mut rng);
        let higher = [i % 2 == 0, i % 3 == 0, i % 5 == 0];
        let bytes = match point.is_zero() {
            true => result(Fq::zero(), scale, Fq::zero(), [true; 3]),
            false => result(point.x * scale, point.y * scale, scale, higher),
        };
        assert_eq!(arkworks::result_to_point(&bytes).unwrap(), *point);
        assert_eq!(arkworks::result_to_projective(&bytes).unwrap(), *point);
        let other = halo2curves::result_to_point(&bytes).unwrap();
        assert_eq!(other, halo2curves::result_to_projective(&bytes).unwrap().to_affine());
        let mut two = [[0; POINT_BYTES]; 2];
        arkworks::points_to_bytes(&[*point], &mut two[0]).unwrap();
        halo2curves::points_to_bytes(&[other], &mut two[1]).unwrap();
        assert_eq!(two[0], two[1]);
    }
    assert_eq!(halo2curves::result_to_projective(&result(0.into(), 7.into(), 0.into(), [true; 3])), {
        Ok(halo2::G1::identity())
    });
}

#[test]
fn results_that_are_not_points_are_rejected() {
    let generator = G1Affine::generator();
    let cases = [
        ([0; RESULT_BYTES], CurveError::ResultNotOnCurve),
        (result(generator.x, generator.x, Fq::one(), [false; 3]), CurveError::ResultNotOnCurve),
        (result(Fq::one(), Fq::one(), Fq::zero(), [false; 3]), CurveError::ResultNotOnCurve),
        ([0xff; RESULT_BYTES], CurveError::ResultTooLarge { coordinate: 'X' }),
    ];
    for (bytes, error) in cases {
        assert_eq!(arkworks::result_to_point(&bytes), Err(error.clone()));
        assert_eq!(halo2curves::result_to_point(&bytes), Err(error));
    }
    let mut bytes = result(generator.x, generator.y, Fq::one(), [false; 3]);
    bytes[95] = 0x61;
    assert_eq!(arkworks::result_to_point(&bytes), Err(CurveError::ResultTooLarge { coordinate: 'Z' }));
}

#[test]
fn the_first_invalid_element_is_reported() {
    let mut bytes = point_bytes();
    assert_eq!(check_points(&bytes), Ok(()));
    bytes[7 * POINT_BYTES] ^= 1;
    assert_eq!(check_points(&bytes), Err(CurveError::NotOnCurve { index: 7 }));
    convert::write(&P, &mut bytes[3 * POINT_BYTES + 32..][..32]);
    assert_eq!(check_points(&bytes), Err(CurveError::CoordinateTooLarge { index: 3, coordinate: 'y' }));
    assert_eq!(arkworks::points_from_bytes(&bytes).unwrap_err().to_string().split(':').next().unwrap(), {
        "y of point 3 is not below p, the modulus of BN254"
    });
    let mut scalars = [[0; SCALAR_BYTES]; 5];
    assert_eq!(check_scalars(scalars.as_flattened()), Ok(()));
    convert::write(&R, &mut scalars[4]);
    let error = CurveError::ScalarTooLarge { index: 4 };
    assert_eq!(check_scalars(scalars.as_flattened()), Err(error.clone()));
    assert_eq!(halo2curves::scalars_from_bytes(scalars.as_flattened()), Err(error.clone()));
    assert_eq!(arkworks::scalars_from_canonical_bytes(scalars.as_flattened()), Err(error));
    convert::write(&(-Fr::one()).into_bigint().0, &mut scalars[4]);
    assert_eq!(check_scalars(scalars.as_flattened()), Ok(()), "r - 1");
}

#[test]
fn sizes_must_be_exact() {
    let error = CurveError::BufferSize { what: "points", count: 2, expected: 128, actual: 127 };
    assert_eq!(arkworks::points_to_bytes(&points()[..2], &mut [0; 127]), Err(error.clone()));
    assert_eq!(halo2curves::points_to_bytes(&[halo2::G1Affine::identity(); 2], &mut [0; 127]), Err(error));
    let text = check_points(&[0; 127]).unwrap_err().to_string();
    assert!(text.starts_with("1 points take 64 bytes, and the buffer has 127;"), "{text}");
    let error = CurveError::BufferSize { what: "scalars", count: 1, expected: 32, actual: 33 };
    assert_eq!(check_scalars(&[0; 33]), Err(error.clone()));
    assert_eq!(arkworks::scalars_to_bytes(&[Fr::one()], &mut [0; 33]), Err(error));
    assert_eq!(check_scalars(&[]), Ok(()));
}

fn limb() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), Just(0), Just(1), Just(u64::MAX), (0..4usize).prop_map(|i| P[i])]
}

fn below_p() -> impl Strategy<Value = limbs::Limbs> {
    prop_oneof![
        (limb(), limb(), limb(), 0..=P[3])
            .prop_map(|(a, b, c, d)| [a, b, c, d])
            .prop_filter("below p", |value| limbs::below(value, &P)),
        (0..3u64).prop_map(|i| limbs::subtract(&P, &[1 + i, 0, 0, 0])),
    ]
}

proptest! {
    #[test]
    fn arithmetic_matches_arkworks(a in below_p(), b in below_p()) {
        let [x, y] = [a, b].map(|limbs| Fq::new_unchecked(BigInt(limbs)));
        prop_assert_eq!(limbs::multiply(&a, &b), (x * y).0.0);
        prop_assert_eq!(limbs::add(&a, &b), (x + y).0.0);
    }

    #[test]
    fn the_curve_check_matches_both_libraries(index in 0..COUNT + 3, byte in 0..POINT_BYTES, mask: u8) {
        let mut bytes = [0; POINT_BYTES];
        arkworks::points_to_bytes(&points()[index..=index], &mut bytes).unwrap();
        bytes[byte] ^= mask;
        let [x, y] = [&bytes[..32], &bytes[32..]].map(limbs::read);
        let in_range = limbs::below(&x, &P) && limbs::below(&y, &P);
        let ark = || G1Affine::new_unchecked(Fq::new_unchecked(BigInt(x)), Fq::new_unchecked(BigInt(y)));
        let other = <halo2::G1Affine as ::halo2curves::serde::SerdeObject>::from_raw_bytes(&bytes);
        prop_assert_eq!(check_points(&bytes).is_ok(), in_range && ark().is_on_curve());
        prop_assert_eq!(check_points(&bytes).is_ok(), other.is_some());
    }

    #[test]
    fn the_scalar_check_is_a_comparison_with_r(scalar: [u8; 32]) {
        let library = Option::<halo2::Fr>::from(halo2::Fr::from_bytes(&scalar)).is_some();
        prop_assert_eq!(check_scalars(&scalar).is_ok(), library);
    }
}
