//! Emulated cards, and sums over them.

use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::{PrimeGroup, ScalarMul, VariableBaseMSM};
use ark_ff::Field;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma::card::CardOptions;
use xdma_cards::{Bases, CardSource, Cards, CardsOptions, Scalars, Sum, SumError};
use xdma_emulated_card::emulator::logic::{Design, MsmModelOptions};
use xdma_emulated_card::emulator::{EmulatedCard, EmulatorOptions};

/// Time limit of sums that succeed. It leaves room for a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Options for tests: all sums of 64 or more pairs are split, and timeouts are short.
pub fn options() -> CardsOptions {
    CardsOptions { min_part: 32, timeout_margin: Duration::from_secs(2), ..CardsOptions::default() }
}

/// Returns distinct points: the first multiples of the generator.
pub fn points(count: usize) -> Vec<G1Affine> {
    let scalars: Vec<_> = (1..=count as u64).map(Fr::from).collect();
    G1Projective::generator().batch_mul(&scalars)
}

/// Returns scalars of full size.
pub fn scalars(count: usize) -> Vec<Fr> {
    let base = Fr::from(3u64).pow([0x9e37_79b9_7f4a_7c15]);
    std::iter::successors(Some(base), |power| Some(*power * base)).take(count).collect()
}

pub fn cpu(points: &[G1Affine], scalars: &[Fr]) -> G1Projective {
    G1Projective::msm(points, scalars).unwrap()
}

/// A model that consumes this number of pairs per second.
pub fn slow(pairs_per_second: f64) -> MsmModelOptions {
    MsmModelOptions { pairs_per_second: Some(pairs_per_second), ..MsmModelOptions::default() }
}

/// Cards `card 0`, `card 1`... and a sum over all of their points.
pub struct Fixture {
    pub cards: Cards,
    pub emulated: Vec<Arc<EmulatedCard>>,
    pub bases: Bases,
    pub points: Vec<G1Affine>,
    pub scalars: Vec<Fr>,
}

/// Starts a card whose function can be reset.
pub fn emulated(model: MsmModelOptions) -> Arc<EmulatedCard> {
    let options = EmulatorOptions::default().with_function_reset(true);
    Arc::new(EmulatedCard::start(options, Design::Msm(model).build()).unwrap())
}

pub fn source(name: &str, emulated: &Arc<EmulatedCard>) -> CardSource {
    let emulated = Arc::clone(emulated);
    CardSource::with(name, move || xdma_emulated_card::connect(&emulated, CardOptions::default()))
}

impl Fixture {
    pub fn new(models: Vec<MsmModelOptions>, pairs: usize, options: CardsOptions) -> Self {
        // Only the first call in a process has an effect.
        let _ = tracing_subscriber::fmt().with_test_writer().without_time().try_init();
        let emulated: Vec<_> = models.into_iter().map(emulated).collect();
        let sources = emulated.iter().enumerate().map(|(index, card)| source(&format!("card {index}"), card));
        let cards = Cards::open(sources.collect::<Vec<_>>(), options).unwrap();
        let (points, scalars) = (points(pairs), scalars(pairs));
        let bases = cards.register(points.clone()).unwrap();
        Self { cards, emulated, bases, points, scalars }
    }

    pub fn sum(&self) -> Result<Sum, SumError> {
        self.cards.sum(&self.bases, &Scalars::from_fr(self.scalars.clone()), LIMIT)
    }

    /// Computes the sum, and checks it and its parts.
    pub fn check(&self) -> Sum {
        let sum = self.sum().unwrap();
        assert!(sum.point == cpu(&self.points, &self.scalars), "the sum is wrong");
        let mut parts: Vec<_> = sum.parts.iter().map(|part| part.pairs.clone()).collect();
        parts.sort_by_key(|part| part.start);
        let end = parts.iter().fold(0, |end, part| {
            assert_eq!(part.start, end, "{parts:?}");
            part.end
        });
        assert_eq!(end, self.points.len());
        sum
    }

    /// Returns the indices of the cards in service.
    pub fn in_service(&self) -> Vec<usize> {
        let status = self.cards.status();
        (0..status.len()).filter(|card| status[*card].is_in_service()).collect()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            for emulated in &self.emulated {
                assert_eq!(emulated.violations(), [], "the driver violated a rule of the card");
            }
        }
    }
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
