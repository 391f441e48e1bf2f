//! Commits to a polynomial and opens it at a point, by the published `ark-poly-commit`. The sums run on the card, and the stock
//! verifier checks the opening.
//!
//!     cargo run --release --example commit
//!     cargo run --release --example commit -- --degree 1000
//!
//! Typical output:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//! sums of 1 or more pairs run on the card, as configured
//! a polynomial of degree 65,536: committed in 711.11ms, opened in 905.22ms, verified
//!   powers: 65,537 pairs on the card in 619.87ms
//!   powers: 65,536 pairs on the card in 733.47ms
//! ```

use anyhow::{Result, anyhow, ensure};
use ark_bn254::Fr;
use ark_crypto_primitives::sponge::CryptographicSponge;
use ark_crypto_primitives::sponge::poseidon::{PoseidonConfig, PoseidonSponge};
use ark_ff::{PrimeField, UniformRand};
use ark_poly::DenseUVPolynomial;
use ark_poly::univariate::DensePolynomial;
use ark_poly_commit::marlin_pc::MarlinKZG10;
use ark_poly_commit::{LabeledPolynomial, PolynomialCommitment};
use clap::Parser;
use std::time::Instant;
use xdma_arkworks::{CardBn254, OnCard, Place};
use xdma_examples::card::CardArgs;
use xdma_examples::human;
use xdma_examples::sums::SumArgs;

type Univariate = DensePolynomial<Fr>;
/// The stock scheme, with another curve.
type Scheme = MarlinKZG10<CardBn254, Univariate>;

/// Commits to a random polynomial and opens it. The card computes the sums.
#[derive(Parser)]
pub struct Args {
    /// Degree of the polynomial.
    #[arg(long, default_value_t = 1 << 16, value_parser = clap::value_parser!(u32).range(2..=1 << 22))]
    degree: u32,
    #[command(flatten)]
    sums: SumArgs,
    #[command(flatten)]
    card: CardArgs,
}

fn main() -> Result<()> {
    run(&Args::parse())
}

pub fn run(args: &Args) -> Result<()> {
    let card = args.card.open()?;
    println!("{}", args.card.describe(&card)?);
    // Once per program: the card for sums.
    let context = args.sums.open(&args.card, &card)?;
    println!("{}", context.crossover());
    let (degree, mut rng) = (args.degree as usize, rand_08::thread_rng());
    // A real committer reads the parameters of a ceremony.
    let parameters = Scheme::setup(degree, None, &mut rng).map_err(failed)?;
    let (committer, verifier) = Scheme::trim(&parameters, degree, 0, None).map_err(failed)?;
    // Once per key: its owner, which puts the points on the card.
    let committer = OnCard::new(&context, committer)?;
    context.observe(|sum| {
        let place = if let Place::Card = sum.place { "card" } else { "CPU" };
        let (pairs, time) = (human::count(sum.pairs as u64), human::seconds(sum.time.as_secs_f64()));
        println!("  {}: {pairs} pairs on the {place} in {time}", sum.bases);
    });

    let polynomial = LabeledPolynomial::new("p".into(), Univariate::rand(degree, &mut rng), None, None);
    let point = Fr::rand(&mut rng);
    let begin = Instant::now();
    let (commitments, states) = Scheme::commit(&committer, [&polynomial], None).map_err(failed)?;
    let committed = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let opening = Scheme::open(&committer, [&polynomial], &commitments, &point, &mut sponge(), &states, None);
    let opening = opening.map_err(failed)?;
    let opened = begin.elapsed().as_secs_f64();
    let value = polynomial.evaluate(&point);
    let accepted =
        Scheme::check(&verifier, &commitments, &point, [value], &opening, &mut sponge(), Some(&mut rng))
            .map_err(failed)?;
    ensure!(accepted, "the verifier rejected the opening: a result of the card was wrong");
    println!(
        "a polynomial of degree {}: committed in {}, opened in {}, verified",
        human::count(degree as u64),
        human::seconds(committed),
        human::seconds(opened)
    );
    let stats = context.stats();
    println!(
        "{} sums on the card, {} on the CPU; {} of scalars copied",
        human::count(stats.on_card),
        human::count(stats.small + stats.failed + stats.out_of_service),
        human::bytes(stats.bytes_copied)
    );
    Ok(())
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("ark-poly-commit failed: {error}")
}

/// The sponge of the challenges. With one polynomial, they are not used; the parameters are not secure.
fn sponge() -> PoseidonSponge<Fr> {
    let row = |first: u64| {
        (first..first + 3).map(|value| Fr::from_le_bytes_mod_order(&value.to_le_bytes())).collect()
    };
    let mds = [1, 4, 9].map(row).into();
    let ark = (0..39).map(|round| row(10 + 3 * round)).collect();
    PoseidonSponge::new(&PoseidonConfig::new(8, 31, 17, mds, ark, 2, 1))
}
