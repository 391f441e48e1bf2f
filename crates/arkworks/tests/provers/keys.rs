//! Which points are found on the card, and how long they stay there.

use crate::common::{Bench, emulated, options};
use ark_bn254::Fr;
use ark_ec::{PrimeGroup, ScalarMul, VariableBaseMSM};
use ark_ff::{BigInt, PrimeField};
use std::time::{Duration, Instant};
use xdma::card::CardOptions;
use xdma_arkworks::curve::{G1Affine, G1Projective};
use xdma_arkworks::{Context, Key, OnCard, OnError, Options, RegisterError};
use xdma_emulated_card::emulator::faults::Kind;
use xdma_emulated_card::emulator::logic::MsmModelOptions;

/// Returns the multiples 1 to `count` of the generator.
fn points(count: u64) -> Vec<G1Affine> {
    let scalars: Vec<_> = (1..=count).map(Fr::from).collect();
    G1Projective::generator().batch_mul(&scalars)
}

fn scalars(count: u64) -> Vec<BigInt<4>> {
    (1..=count).map(|k| Fr::from(k * k).into_bigint()).collect()
}

/// Computes a sum over points that begin with the multiple `first` of the generator, checks it, and returns the number of sums on
/// the card.
fn check(bench: &Bench, points: &[G1Affine], first: u64) -> u64 {
    let scalars = scalars(points.len() as u64);
    let sum = G1Projective::msm_bigint(points, &scalars);
    let expected: u64 = (1..=points.len() as u64).map(|k| k * k * (first + k - 1)).sum();
    assert_eq!(sum, G1Projective::generator() * Fr::from(expected));
    bench.context.stats().on_card
}

#[test]
fn every_part_of_a_registered_slice_is_found() {
    let bench = Bench::new();
    let key = OnCard::new(&bench.context, points(100)).unwrap();
    let mut expected = 0;
    for first in [0, 1, 2, 31, 97] {
        for end in [first + 2, 99.max(first + 2), 100] {
            expected += 1;
            let part = &key[first..end.min(100)];
            assert_eq!(check(&bench, part, first as u64 + 1), expected, "{first}..{end}");
        }
    }
}

#[test]
fn copies_and_dropped_keys_are_not_found() {
    let bench = Bench::new();
    let key = OnCard::new(&bench.context, points(50)).unwrap();
    assert_eq!(check(&bench, &key.clone(), 1), 0);
    assert_eq!(check(&bench, &key, 1), 1);
    let key = key.into_inner();
    assert_eq!(check(&bench, &key, 1), 1);
    // Other points at the addresses of points that were on the card.
    let mut points = key;
    points.rotate_left(1);
    points[49] = points[48];
    let key = OnCard::new(&bench.context, points).unwrap();
    assert_eq!(check(&bench, &key[..49], 2), 2);
}

#[test]
fn the_lengths_may_differ() {
    let bench = Bench::new();
    let key = OnCard::new(&bench.context, points(50)).unwrap();
    let (all, some) = (scalars(50), scalars(20));
    let expected = G1Projective::msm_bigint(&key[..20], &some);
    assert_eq!(G1Projective::msm_bigint(&key, &some), expected);
    assert_eq!(G1Projective::msm_bigint(&key[..20], &all), expected);
    assert_eq!(G1Projective::msm_bigint(&key, &[]), G1Projective::default());
    assert_eq!(bench.context.stats().on_card, 3);
}

/// Two views of the same points.
struct Twice(Vec<G1Affine>);

impl Key for Twice {
    type Prepared = ();

    fn bases(&self) -> Vec<(&'static str, &[G1Affine])> {
        vec![("all", &self.0), ("part", &self.0[3..])]
    }

    fn prepare(&self) {}
}

#[test]
fn slices_that_overlap_are_an_error_that_returns_the_key() {
    let bench = Bench::new();
    let error = OnCard::new(&bench.context, Twice(points(10))).map(drop).unwrap_err();
    assert!(matches!(error.source, RegisterError::Overlap("part")), "{error}");
    let key = error.key.0;
    assert_eq!(check(&bench, &key, 1), 0);
    let key = OnCard::new(&bench.context, key).unwrap();
    assert_eq!(check(&bench, &key, 1), 1);
}

#[test]
fn the_card_is_free_after_the_last_owner() {
    let emulated = emulated(MsmModelOptions::default());
    let card = xdma_emulated_card::connect(&emulated, CardOptions::default()).unwrap();
    let context = Context::open(&card, options()).unwrap();
    let key = OnCard::new(&context, points(10)).unwrap();
    let error = Context::open(&card, options()).map(drop).unwrap_err();
    assert!(error.to_string().contains("open"), "{error}");
    drop(context);
    assert!(Context::open(&card, options()).is_err(), "the key uses it");
    drop(key);
    drop(Context::open(&card, options()).unwrap());
}

#[test]
fn a_scalar_that_is_not_canonical_is_summed_on_the_cpu() {
    let bench = Bench::new();
    let key = OnCard::new(&bench.context, points(10)).unwrap();
    let mut scalars = scalars(10);
    scalars[7] = Fr::MODULUS;
    let expected = G1Projective::msm_bigint(&key.clone(), &scalars);
    assert_eq!(G1Projective::msm_bigint(&key, &scalars), expected);
    let stats = bench.context.stats();
    assert_eq!((stats.on_card, stats.failed), (0, 1));
}

#[test]
fn errors_can_panic() {
    let bench = Bench::with(MsmModelOptions::default(), Options { on_error: OnError::Panic, ..options() });
    let key = OnCard::new(&bench.context, points(100)).unwrap();
    bench.emulated.inject(Kind::BadMagic.on(xdma::regs::Direction::H2C, 0)).unwrap();
    let panic = std::thread::scope(|scope| {
        scope.spawn(|| G1Projective::msm_bigint(&key, &scalars(100))).join().unwrap_err()
    });
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("the card did not compute the sum over points"), "{text}");
    assert_eq!(check(&bench, &key, 1), 1);
}

#[test]
fn the_crossover_is_measured_and_shown() {
    let begin = Instant::now();
    let bench = Bench::with(MsmModelOptions::default(), Options { crossover: None, ..options() });
    assert!(begin.elapsed() < Duration::from_secs(30));
    let crossover = bench.context.crossover();
    assert!(crossover.timings().len() >= 2);
    assert!(crossover.to_string().contains("64 pairs card"), "{crossover}");
    // The sums of the measurement do not count.
    assert_eq!(bench.context.stats().on_card, 0);
    let given = Bench::new();
    assert_eq!(given.context.crossover().pairs(), Some(2));
    assert_eq!(
        given.context.crossover().to_string(),
        "sums of 2 or more pairs run on the card, as configured"
    );
}

#[test]
fn resuming_a_card_in_service_changes_nothing() {
    let bench = Bench::new();
    assert!(bench.context.is_in_service());
    bench.context.resume().unwrap();
    assert!(bench.context.is_in_service());
}
