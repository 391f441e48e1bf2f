//! Divides a sum over several cards, and counts the clock cycles of the cards' cores.
//!
//! `cargo bench --package xdma-cards` prints, for 2^20 pairs over 1, 2, 4 and 8 emulated cards, the cycles of the slowest card, and
//! then compares two ways of dividing a sum: its pairs, as [`Cards`] does, or the windows of its scalars. The cycles are those of the
//! design (register `CORE_BUSY`), so the figures are the same on every machine. Another exponent than 20 can be passed.

use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::{CurveGroup, PrimeGroup, VariableBaseMSM};
use ark_ff::{BigInt, Field, PrimeField};
use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;
use xdma::card::{Card, CardOptions};
use xdma::regs::msm::CORE_BUSY;
use xdma_cards::{CardSource, Cards, CardsOptions, Scalars};
use xdma_emulated_card::emulator::CardFile;
use xdma_emulated_card::emulator::logic::msm::CoreCycles;

/// Window bits of the design.
const WINDOW_BITS: u8 = 13;
/// Clock of the design.
const HERTZ: f64 = 250e6;
/// Bytes of a pair.
const PAIR_BYTES: f64 = 96.0;
/// Bytes that the design's AXI port accepts in each cycle: a beat, which is a point or two scalars.
const PORT_BYTES: f64 = 64.0;
/// Fails below this efficiency.
const LIMIT: f64 = 0.82;

fn main() {
    let exponent = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(20u32);
    split_pairs(1 << exponent);
    compare_with_windows();
}

fn split_pairs(pairs: usize) {
    let points: Arc<[G1Affine]> = points(pairs).into();
    let canonical: Vec<BigInt<4>> = scalars(pairs).iter().map(|scalar| scalar.into_bigint()).collect();
    let expected = G1Projective::msm_bigint(&points, &canonical);
    let scalars = Scalars::from_canonical(canonical).expect("field elements");
    let core = CoreCycles::new(WINDOW_BITS);
    println!("{pairs} pairs, divided over emulated cards; every sum equals the CPU's");
    println!("cards  cycles of the slowest card       ms at 250 MHz  efficiency");
    let mut one = 0;
    for count in [1, 2, 4, 8] {
        let busy = run(count, &points, &scalars, &expected);
        let slowest = busy.iter().copied().max().unwrap_or(0);
        one = if count == 1 { slowest } else { one };
        let efficiency = one as f64 / (count as f64 * slowest as f64);
        let reduction = core.reduction(false) as f64 / slowest as f64;
        println!(
            "{count:>5}  {slowest:>10} ({:>4.1} % reduction)  {:>13.2}  {:>9.1} %",
            reduction * 100.0,
            slowest as f64 / HERTZ * 1e3,
            efficiency * 100.0
        );
        assert!(pairs < 1 << 20 || efficiency >= LIMIT, "the efficiency is below {LIMIT}");
    }
}

/// Computes the sum on `count` cards, and returns the cycles of each core.
fn run(count: usize, points: &Arc<[G1Affine]>, scalars: &Scalars, expected: &G1Projective) -> Vec<u64> {
    let open =
        || xdma_emulated_card::start_like(CardFile::f1(), CardOptions::default()).expect("an emulated card");
    let handles: Vec<Card> = (0..count).map(|_| open()).collect();
    let sources =
        handles.iter().enumerate().map(|(at, card)| CardSource::opened(format!("card {at}"), card.clone()));
    let cards = Cards::open(sources, CardsOptions::default()).expect("cards with the MSM design");
    let bases = cards.register(Arc::clone(points)).expect("memory for the points");
    let sum = cards.sum(&bases, scalars, Duration::from_secs(600)).expect("a sum");
    assert!(sum.point == *expected && sum.failures.is_empty(), "the sum is wrong");
    let busy = |card: &Card| {
        let user = card.user().expect("registers");
        let read = |register| u64::from(user.read(register).expect("a register"));
        read(CORE_BUSY) | read(CORE_BUSY + 4) << 32
    };
    handles.iter().map(busy).collect()
}

/// Compares dividing pairs with dividing windows, by the cycles of the core and of its AXI port.
fn compare_with_windows() {
    println!();
    println!("divided by pairs or by windows, computed from the model; the design cannot divide windows");
    println!("pairs  cards  cycles by pairs  by windows  GB/s to a card by pairs  by windows  better");
    let core = CoreCycles::new(WINDOW_BITS);
    for exponent in [14, 16, 18, 20, 22] {
        for cards in [2, 4, 8] {
            let pairs = 1u64 << exponent;
            let by_pairs = core.pairs(pairs.div_ceil(cards)) + core.reduction(false);
            let windows = core.windows().div_ceil(cards);
            // Every card receives all pairs, and consumes one at most as fast as its port accepts it.
            let pair_cycles = (windows as f64).max(PAIR_BYTES / PORT_BYTES);
            let by_windows = (pairs as f64 * pair_cycles) as u64 + core.reduction_of(windows);
            let rate = |pairs: u64, cycles: u64| pairs as f64 * PAIR_BYTES / (cycles as f64 / HERTZ) / 1e9;
            println!(
                "2^{exponent:<3}  {cards:>5}  {by_pairs:>15}  {by_windows:>10}  {:>23.2}  {:>10.2}  {}",
                rate(pairs / cards, by_pairs),
                rate(pairs, by_windows),
                if by_windows < by_pairs { "windows" } else { "pairs" }
            );
        }
    }
}

/// Returns the first multiples of the generator.
fn points(count: usize) -> Vec<G1Affine> {
    let generator = G1Projective::generator();
    let multiples: Vec<_> =
        successors(Some(generator), |point| Some(*point + generator)).take(count).collect();
    G1Projective::normalize_batch(&multiples)
}

/// Returns scalars of full size.
fn scalars(count: usize) -> Vec<Fr> {
    let base = Fr::from(3u64).pow([0x9e37_79b9_7f4a_7c15]);
    successors(Some(base), |power| Some(*power * base)).take(count).collect()
}
