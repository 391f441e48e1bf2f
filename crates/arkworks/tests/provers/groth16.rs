//! Groth16 proofs by the published prover, with the card's sums.

use crate::common::{Bench, Squares, options};
use ark_bn254::{Bn254, Fr};
use ark_groth16::{Groth16, ProvingKey};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use ark_snark::SNARK;
use ark_std::rand::{SeedableRng, rngs::StdRng};
use std::sync::{Arc, Mutex};
use xdma_arkworks::groth16::{ProveError, from_stock_key, stock_proof};
use xdma_arkworks::{CardBn254, OnCard, Options, Place};
use xdma_emulated_card::emulator::logic::MsmModelOptions;

const SQUARINGS: usize = 300;

fn circuit() -> Squares {
    Squares::new(3, SQUARINGS)
}

fn stock_key() -> ProvingKey<Bn254> {
    let mut rng = StdRng::seed_from_u64(1);
    Groth16::<Bn254>::generate_random_parameters_with_reduction(circuit(), &mut rng).unwrap()
}

fn bytes(value: &impl CanonicalSerialize) -> Vec<u8> {
    let mut bytes = vec![];
    value.serialize_uncompressed(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_stock_call_runs_on_the_card_and_its_proof_is_equal() {
    let bench = Bench::new();
    let stock = stock_key();
    let key = OnCard::new(&bench.context, from_stock_key(stock.clone())).unwrap();
    let sums = Arc::new(Mutex::new(vec![]));
    let seen = sums.clone();
    bench.context.observe(move |sum| seen.lock().unwrap().push((sum.bases, sum.pairs, sum.place.clone())));

    let proof = Groth16::<CardBn254>::prove(&key, circuit(), &mut StdRng::seed_from_u64(7)).unwrap();
    let expected = Groth16::<Bn254>::prove(&stock, circuit(), &mut StdRng::seed_from_u64(7)).unwrap();
    assert_eq!(bytes(&proof), bytes(&expected));
    assert_eq!(stock_proof(proof.clone()), expected);
    assert!(Groth16::<Bn254>::verify(&stock.vk, &[circuit().output()], &stock_proof(proof.clone())).unwrap());
    assert!(Groth16::<CardBn254>::verify(&key.vk, &[circuit().output()], &proof).unwrap());
    assert!(!Groth16::<CardBn254>::verify(&key.vk, &[Fr::from(1)], &proof).unwrap());

    let sums = sums.lock().unwrap();
    let names: Vec<_> = sums.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, ["h_query", "l_query", "a_query", "b_g1_query"]);
    assert!(sums.iter().all(|(.., place)| matches!(place, Place::Card)), "{sums:?}");
    let stats = bench.context.stats();
    let pairs: usize = sums.iter().map(|(_, pairs, _)| pairs).sum();
    assert_eq!((stats.on_card, stats.pairs_on_card), (4, pairs as u64));
    assert_eq!(stats.bytes_copied, 32 * pairs as u64);
}

#[test]
fn prove_overlaps_and_copies_the_assignment_once() {
    let bench = Bench::new();
    let stock = stock_key();
    let key = OnCard::new(&bench.context, from_stock_key(stock.clone())).unwrap();
    for round in 1..=3 {
        let proof = key.prove(circuit(), &mut StdRng::seed_from_u64(round)).unwrap();
        let expected = Groth16::<Bn254>::prove(&stock, circuit(), &mut StdRng::seed_from_u64(round)).unwrap();
        assert_eq!(stock_proof(proof), expected);
        let stats = bench.context.stats();
        assert_eq!((stats.on_card, stats.early, stats.wrong_proofs), (4 * round, 3 * round, 0));
        let scalars = stock.a_query.len() - 1 + stock.h_query.len();
        assert_eq!(stats.bytes_copied, 32 * scalars as u64 * round);
    }
}

#[test]
fn keys_and_proofs_serialize_to_the_same_bytes() {
    let stock = stock_key();
    let ours = from_stock_key(stock.clone());
    let addresses = [stock.a_query.as_ptr().addr(), stock.b_g2_query.as_ptr().addr()];
    assert_eq!(bytes(&ours), bytes(&stock));
    assert_eq!(ProvingKey::<CardBn254>::deserialize_uncompressed(&bytes(&stock)[..]).unwrap(), ours);
    let converted = from_stock_key(stock);
    assert_eq!([converted.a_query.as_ptr().addr(), converted.b_g2_query.as_ptr().addr()], addresses);
}

#[test]
fn sums_below_the_crossover_run_on_the_cpu() {
    let bench = Bench::with(MsmModelOptions::default(), Options { crossover: Some(400), ..options() });
    let key = OnCard::new(&bench.context, from_stock_key(stock_key())).unwrap();
    key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    // H has 511 pairs, and the others have about 300.
    let stats = bench.context.stats();
    assert_eq!((stats.on_card, stats.small, stats.early), (1, 3, 0));
}

#[test]
fn large_sums_are_split() {
    let bench = Bench::with(MsmModelOptions { max_elements: 100, ..MsmModelOptions::default() }, options());
    let stock = stock_key();
    let key = OnCard::new(&bench.context, from_stock_key(stock.clone())).unwrap();
    let proof = key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    let expected = Groth16::<Bn254>::prove(&stock, circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    assert_eq!(stock_proof(proof), expected);
    assert_eq!(bench.context.stats().on_card, 4);
}

#[test]
fn an_assignment_that_does_not_satisfy_the_circuit_is_an_error() {
    let bench = Bench::new();
    let key = OnCard::new(&bench.context, from_stock_key(stock_key())).unwrap();
    // A circuit of the same shape, with another constraint.
    let other =
        Groth16::<Bn254>::generate_random_parameters_with_reduction(circuit(), &mut StdRng::seed_from_u64(2));
    let other = other.unwrap();
    let mut mixed = key.into_inner();
    mixed.delta_g1 = other.delta_g1.into();
    let key = OnCard::new(&bench.context, mixed).unwrap();
    let error = key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap_err();
    assert!(matches!(error, ProveError::Rejected), "{error}");
    assert_eq!(bench.context.stats().wrong_proofs, 0);
    assert!(bench.context.is_in_service());
}

#[test]
fn many_threads_prove_with_one_key() {
    let bench = Bench::new();
    let key = OnCard::new(&bench.context, from_stock_key(stock_key())).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let key = &key;
            scope.spawn(move || {
                for _ in 0..3 {
                    key.prove(circuit(), &mut StdRng::seed_from_u64(seed)).unwrap();
                }
            });
        }
    });
    let stats = bench.context.stats();
    assert_eq!((stats.on_card, stats.wrong_proofs), (48, 0));
}
