//! Which points are registered, and for how long.

use crate::common::{Fixture, emulated, options};
use ark_bn254::Fr;
use ark_ec::{PrimeGroup, ScalarMul, VariableBaseMSM};
use ark_ff::{BigInt, PrimeField};
use std::time::{Duration, Instant};
use xdma::card::CardOptions;
use xdma_arkworks::curve::{G1Affine, G1Projective};
use xdma_arkworks::{Context, ContextError, ContextOptions, MsmKey, OnCard, OnError, RegisterError};
use xdma_cards::{CardsError, MemberError};
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

/// Computes an MSM over consecutive multiples of the generator, from `first` on, and checks the result. Returns the number of
/// MSMs on the card so far.
fn check_msm(fixture: &Fixture, points: &[G1Affine], first: u64) -> u64 {
    let scalars = scalars(points.len() as u64);
    let result = G1Projective::msm_bigint(points, &scalars);
    let expected: u64 = (1..=points.len() as u64).map(|k| k * k * (first + k - 1)).sum();
    assert_eq!(result, G1Projective::generator() * Fr::from(expected));
    fixture.context.stats().on_card
}

#[test]
fn every_part_of_a_registered_slice_is_found() {
    let fixture = Fixture::new();
    let key = OnCard::new(&fixture.context, points(100)).unwrap();
    let mut expected = 0;
    for first in [0, 1, 2, 31, 97] {
        for end in [first + 2, 99.max(first + 2), 100] {
            expected += 1;
            let part = &key[first..end.min(100)];
            assert_eq!(check_msm(&fixture, part, first as u64 + 1), expected, "{first}..{end}");
        }
    }
}

#[test]
fn copies_and_dropped_keys_are_not_found() {
    let fixture = Fixture::new();
    let key = OnCard::new(&fixture.context, points(50)).unwrap();
    assert_eq!(check_msm(&fixture, &key.clone(), 1), 0);
    assert_eq!(check_msm(&fixture, &key, 1), 1);
    let key = key.into_inner();
    assert_eq!(check_msm(&fixture, &key, 1), 1);
    // Other points at the addresses of points that were registered.
    let mut points = key;
    points.rotate_left(1);
    points[49] = points[48];
    let key = OnCard::new(&fixture.context, points).unwrap();
    assert_eq!(check_msm(&fixture, &key[..49], 2), 2);
}

#[test]
fn points_and_scalars_may_differ_in_length() {
    let fixture = Fixture::new();
    let key = OnCard::new(&fixture.context, points(50)).unwrap();
    let (all, some) = (scalars(50), scalars(20));
    let expected = G1Projective::msm_bigint(&key[..20], &some);
    assert_eq!(G1Projective::msm_bigint(&key, &some), expected);
    assert_eq!(G1Projective::msm_bigint(&key[..20], &all), expected);
    assert_eq!(G1Projective::msm_bigint(&key, &[]), G1Projective::default());
    assert_eq!(fixture.context.stats().on_card, 3);
}

/// A key with two slices that overlap.
struct OverlappingKey(Vec<G1Affine>);

impl MsmKey for OverlappingKey {
    type Precomputed = ();

    fn bases(&self) -> Vec<(&'static str, &[G1Affine])> {
        vec![("all", &self.0), ("part", &self.0[3..])]
    }

    fn precompute(&self) {}
}

#[test]
fn overlapping_slices_fail_and_return_the_key() {
    let fixture = Fixture::new();
    let error = OnCard::new(&fixture.context, OverlappingKey(points(10))).map(drop).unwrap_err();
    assert!(matches!(error.source, RegisterError::Overlap("part")), "{error}");
    let key = error.key.0;
    assert_eq!(check_msm(&fixture, &key, 1), 0);
    let key = OnCard::new(&fixture.context, key).unwrap();
    assert_eq!(check_msm(&fixture, &key, 1), 1);
}

#[test]
fn dropping_the_last_owner_releases_the_card() {
    let emulated = emulated(MsmModelOptions::default());
    let card = xdma_emulated_card::connect(&emulated, CardOptions::default()).unwrap();
    let context = Context::open(&card, options()).unwrap();
    let key = OnCard::new(&context, points(10)).unwrap();
    let error = Context::open(&card, options()).map(drop).unwrap_err();
    assert!(error.to_string().contains("open"), "{error}");
    drop(context);
    assert!(Context::open(&card, options()).is_err(), "the key still uses the card");
    drop(key);
    drop(Context::open(&card, options()).unwrap());
}

#[test]
fn an_msm_with_a_noncanonical_scalar_runs_on_the_cpu() {
    let fixture = Fixture::new();
    let key = OnCard::new(&fixture.context, points(10)).unwrap();
    let mut scalars = scalars(10);
    scalars[7] = Fr::MODULUS;
    let expected = G1Projective::msm_bigint(&key.clone(), &scalars);
    assert_eq!(G1Projective::msm_bigint(&key, &scalars), expected);
    let stats = fixture.context.stats();
    assert_eq!((stats.on_card, stats.cpu_fallbacks), (0, 1));
}

#[test]
fn errors_panic_if_the_options_say_so() {
    let fixture =
        Fixture::with(MsmModelOptions::default(), ContextOptions { on_error: OnError::Panic, ..options() });
    let key = OnCard::new(&fixture.context, points(100)).unwrap();
    fixture.emulated.inject(Kind::BadMagic.on(xdma::regs::Direction::H2C, 0)).unwrap();
    let panic = std::thread::scope(|scope| {
        scope.spawn(|| G1Projective::msm_bigint(&key, &scalars(100))).join().unwrap_err()
    });
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("the cards failed to compute the MSM over points"), "{text}");
    assert_eq!(check_msm(&fixture, &key, 1), 1);
}

#[test]
fn the_crossover_is_measured_and_printed() {
    let begin = Instant::now();
    let fixture = Fixture::with(MsmModelOptions::default(), ContextOptions { crossover: None, ..options() });
    assert!(begin.elapsed() < Duration::from_secs(30));
    let crossover = fixture.context.crossover();
    assert!(crossover.timings().len() >= 2);
    assert!(crossover.to_string().contains("; 64 pairs, card "), "{crossover}");
    // The MSMs of the measurement are not counted.
    assert_eq!(fixture.context.stats().on_card, 0);
    let configured = Fixture::new();
    assert_eq!(configured.context.crossover().min_pairs(), Some(2));
    assert_eq!(
        configured.context.crossover().to_string(),
        "MSMs of 2 or more pairs run on the card, as configured"
    );
}

#[test]
fn resuming_a_card_in_service_changes_nothing() {
    let fixture = Fixture::new();
    assert!(fixture.context.is_in_service());
    fixture.context.resume().unwrap();
    assert!(fixture.context.is_in_service());
}

#[test]
fn a_point_off_the_curve_is_refused() {
    let fixture = Fixture::new();
    let mut points = points(10);
    points[7].0.y = points[7].0.x;
    let error = OnCard::new(&fixture.context, points).map(drop).unwrap_err();
    assert!(error.to_string().contains("point 7"), "{error}");
    assert_eq!(error.key.len(), 10);
}

#[test]
fn an_unusable_design_is_refused() {
    let model = MsmModelOptions { max_elements: 0, ..MsmModelOptions::default() };
    let emulated = emulated(model);
    let card = xdma_emulated_card::connect(&emulated, CardOptions::default()).unwrap();
    let error = Context::open(&card, options()).map(drop).unwrap_err();
    let ContextError::Cards(CardsError::Card { source: MemberError::Unusable { max_pairs: 0, .. }, .. }) =
        error
    else {
        panic!("{error}")
    };
}

/// A child process has no worker thread and no DMA memory. It has no threads of rayon either, so it cannot compute.
#[test]
fn a_forked_child_leaves_the_card_alone() {
    let emulated = emulated(MsmModelOptions::default());
    let card = xdma_emulated_card::connect(&emulated, CardOptions::default()).unwrap();
    let context = Context::open(&card, options()).unwrap();
    let key = OnCard::new(&context, points(50)).unwrap();
    let msm = |key: &[G1Affine]| G1Projective::msm_bigint(key, &scalars(50));
    let expected = msm(&key);
    // SAFETY: the child uses no other thread, and ends without running destructors of others.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused =
            context.resume().is_err() && context.cards().h2c_stats(0).is_none() && !context.is_in_service();
        drop((key, context, card));
        // SAFETY: as above.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) }
    }
    let mut status = 0;
    // SAFETY: the child exists.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
    assert_eq!(msm(&key), expected);
    assert_eq!(context.stats().on_card, 2);
}
