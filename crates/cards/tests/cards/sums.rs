//! Sums equal those of the CPU.

use crate::common::{Fixture, LIMIT, cpu, emulated, options, points, scalars, source};
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ff::{AdditiveGroup, BigInt, Field, PrimeField};
use std::sync::Arc;
use std::time::Duration;
use xdma_cards::{
    Cards, CardsError, CardsOptions, MemberError, RegisterError, Scalars, ScalarsError, SumError,
};
use xdma_emulated_card::emulator::logic::MsmModelOptions;

fn cards(count: usize, pairs: usize, options: CardsOptions) -> Fixture {
    Fixture::new(vec![MsmModelOptions::default(); count], pairs, options)
}

#[test]
fn sums_of_all_sizes_equal_those_of_the_cpu() {
    for count in 1..=3 {
        for pairs in [0, 1, 2, 31, 64, 65, 1000, 4097] {
            let fixture = cards(count, pairs, options());
            let sum = fixture.check();
            assert!(sum.failures.is_empty());
            let expected = (pairs / 32).min(count).max(pairs.min(1));
            assert_eq!(sum.parts.len(), expected, "{count} cards, {pairs} pairs: {:?}", sum.parts);
        }
    }
}

#[test]
fn ranges_and_both_forms_of_scalars() {
    let fixture = cards(2, 300, CardsOptions { check: true, ..options() });
    let values = scalars(200);
    let canonical: Vec<BigInt<4>> = values.iter().map(|scalar| scalar.into_bigint()).collect();
    for scalars in [Scalars::from_fr(values.clone()), Scalars::from_canonical(canonical).unwrap()] {
        for (first, range) in [(0, 0..200), (100, 0..200), (7, 33..132), (299, 199..200), (300, 5..5)] {
            let mut pending = fixture.cards.submit(&fixture.bases, first, &scalars, range.clone()).unwrap();
            let sum = pending.wait(LIMIT).unwrap();
            let expected = cpu(&fixture.points[first..first + range.len()], &values[range.clone()]);
            assert!(sum.point == expected, "{first}, {range:?}");
            assert!(pending.is_finished() && matches!(pending.wait(LIMIT), Err(SumError::Taken)));
        }
    }
}

/// Infinity, equal points, opposite points and zeros are not mistaken for wrong results, wherever a sum begins.
#[test]
fn special_points_and_scalars_pass_the_check() {
    let mut points = points(70);
    (points[0], points[3], points[65]) = (G1Affine::identity(), -points[4], points[66]);
    let mut values = scalars(70);
    (values[3], values[5], values[66]) = (values[4], Fr::ZERO, Fr::ONE);
    let emulated = [0, 1].map(|_| emulated(MsmModelOptions::default()));
    let sources = emulated.iter().map(|card| source("card", card));
    let cards = Cards::open(sources, CardsOptions { check: true, min_part: 1, ..options() }).unwrap();
    let (bases, empty) = (cards.register(points.clone()).unwrap(), cards.register(vec![]).unwrap());
    for values in [values, vec![Fr::ZERO; 70]] {
        let scalars = Scalars::from_fr(values.clone());
        for (first, range) in [(0, 0..1), (5, 5..6), (0, 0..70), (3, 3..5), (1, 2..65), (65, 66..67)] {
            let sum = cards.submit(&bases, first, &scalars, range.clone()).unwrap().wait(LIMIT).unwrap();
            assert!(sum.failures.is_empty(), "{first}, {range:?}: {:?}", sum.failures);
            assert!(sum.point == cpu(&points[first..first + range.len()], &values[range]));
        }
        assert_eq!(
            cards.submit(&empty, 0, &scalars, 70..70).unwrap().wait(LIMIT).unwrap().point,
            G1Projective::ZERO
        );
    }
}

/// Sums with common scalars, as those of a proof, copy them once.
#[test]
fn scalars_are_copied_once_to_each_card() {
    let fixture = cards(2, 400, CardsOptions { min_part: 200, ..options() });
    let scalars = Scalars::from_fr(scalars(400));
    let copied = || fixture.cards.status().iter().map(|card| card.bytes_copied).sum::<u64>();
    fixture.cards.sum(&fixture.bases, &scalars, LIMIT).unwrap();
    assert_eq!(copied(), 32 * 400, "each card copies its part only");
    let one = cards(1, 400, options());
    for (first, range) in [(0, 0..400), (0, 0..400), (3, 10..300)] {
        one.cards.submit(&one.bases, first, &scalars, range).unwrap().wait(LIMIT).unwrap();
    }
    assert_eq!(one.cards.status()[0].bytes_copied, 32 * 400);
}

#[test]
fn large_sums_are_split_at_the_largest_job() {
    let model = MsmModelOptions { max_elements: 100, ..MsmModelOptions::default() };
    let fixture = Fixture::new(vec![model; 2], 450, options());
    let sum = fixture.check();
    assert!(sum.parts.iter().all(|part| part.pairs.len() <= 100) && sum.parts.len() >= 5, "{:?}", sum.parts);
}

#[test]
fn invalid_requests_are_refused() {
    let fixture = cards(1, 100, options());
    let (cards, bases) = (&fixture.cards, &fixture.bases);
    let scalars = Scalars::from_fr(scalars(50));
    assert!(matches!(cards.sum(bases, &scalars, LIMIT), Err(SumError::Counts { points: 100, scalars: 50 })));
    #[allow(clippy::reversed_empty_ranges)]
    for (first, range) in [(51, 0..50), (0, 0..51), (usize::MAX, 0..50), (0, 3..2)] {
        let refused = cards.submit(bases, first, &scalars, range.clone()).map(drop).unwrap_err();
        assert!(matches!(refused, SumError::OutOfRange { .. }), "{first}, {range:?}: {refused}");
    }
    let others = self::cards(1, 50, options());
    let foreign = cards.submit(&others.bases, 0, &scalars, 0..50).map(drop).unwrap_err();
    assert!(matches!(foreign, SumError::ForeignBases), "{foreign}");
    assert!(matches!(
        Scalars::from_canonical(vec![BigInt::from(1u64), Fr::MODULUS]),
        Err(ScalarsError::NotCanonical { index: 1 })
    ));
    let mut wrong = points(10);
    wrong[7].y = wrong[7].x;
    let error = cards.register(wrong).map(drop).unwrap_err();
    assert!(matches!(error, RegisterError::Curve(_)) && error.to_string().contains("point 7"), "{error}");
    fixture.check();
}

#[test]
fn a_deadline_leaves_the_sum_in_progress() {
    let fixture = Fixture::new(vec![crate::common::slow(500.0)], 200, options());
    let scalars = Scalars::from_fr(fixture.scalars.clone());
    let mut pending = fixture.cards.submit(&fixture.bases, 0, &scalars, 0..200).unwrap();
    let error = pending.wait(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, SumError::Deadline { pairs: 200, .. }), "{error}");
    assert!(error.to_string().contains("card 0: computes 200 pairs"), "{error}");
    assert!(pending.wait(LIMIT).unwrap().point == cpu(&fixture.points, &fixture.scalars));
}

#[test]
fn unusable_cards_are_refused_by_name() {
    assert!(matches!(Cards::open([], options()), Err(CardsError::NoCards)));
    let good = emulated(MsmModelOptions::default());
    let bad = emulated(MsmModelOptions { max_elements: 0, ..MsmModelOptions::default() });
    let sources = || [source("good", &good), source("bad", &bad)];
    let error = Cards::open(sources(), options()).map(drop).unwrap_err();
    let CardsError::Card { card, source: MemberError::Unusable { max_pairs: 0, .. } } = &error else {
        panic!("{error}")
    };
    assert_eq!(&**card, "bad");
    // Without the bad one.
    let cards = Cards::open(sources(), CardsOptions { require_all: false, ..options() }).unwrap();
    assert_eq!(cards.in_service(), 1);
    let bases = cards.register(points(100)).unwrap();
    let sum = cards.sum(&bases, &Scalars::from_fr(scalars(100)), LIMIT).unwrap();
    assert!(sum.point == cpu(&points(100), &scalars(100)));
    let error = cards.readmit(1, LIMIT).unwrap_err();
    assert!(error.to_string().contains("card bad could not be readmitted: its MSM design"), "{error}");
}

#[test]
fn an_empty_sum_needs_no_card() {
    let fixture = cards(1, 0, options());
    assert_eq!(fixture.sum().unwrap().point, G1Projective::ZERO);
    let shared: Arc<[Fr]> = Arc::from(vec![]);
    assert!(Scalars::from_fr(shared).is_empty());
}
