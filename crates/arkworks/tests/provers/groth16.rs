//! Groth16 proofs by the published prover, with MSMs on the card.

use crate::common::{Fixture, Squares, options};
use ark_bn254::{Bn254, Fr};
use ark_groth16::r1cs_to_qap::LibsnarkReduction;
use ark_groth16::{Groth16, ProvingKey};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use ark_snark::SNARK;
use ark_std::rand::{SeedableRng, rngs::StdRng};
use std::sync::{Arc, Mutex};
use xdma_arkworks::groth16::{ProveError, from_bn254_key, into_bn254_proof};
use xdma_arkworks::{CardBn254, ComputedOn, ContextOptions, OnCard};
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
fn the_stock_call_on_the_card_creates_the_same_proof() {
    let fixture = Fixture::new();
    let stock = stock_key();
    let key = OnCard::new(&fixture.context, from_bn254_key(stock.clone())).unwrap();
    let msms = Arc::new(Mutex::new(vec![]));
    let seen = msms.clone();
    fixture
        .context
        .set_observer(move |msm| seen.lock().unwrap().push((msm.bases, msm.pairs, msm.computed_on.clone())));

    let proof = Groth16::<CardBn254>::prove(&key, circuit(), &mut StdRng::seed_from_u64(7)).unwrap();
    let expected = Groth16::<Bn254>::prove(&stock, circuit(), &mut StdRng::seed_from_u64(7)).unwrap();
    assert_eq!(bytes(&proof), bytes(&expected));
    assert_eq!(into_bn254_proof(proof.clone()), expected);
    assert!(
        Groth16::<Bn254>::verify(&stock.vk, &[circuit().output()], &into_bn254_proof(proof.clone())).unwrap()
    );
    assert!(Groth16::<CardBn254>::verify(&key.vk, &[circuit().output()], &proof).unwrap());
    assert!(!Groth16::<CardBn254>::verify(&key.vk, &[Fr::from(1)], &proof).unwrap());

    let msms = msms.lock().unwrap();
    let names: Vec<_> = msms.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, ["h_query", "l_query", "a_query", "b_g1_query"]);
    assert!(msms.iter().all(|(.., computed_on)| matches!(computed_on, ComputedOn::Card)), "{msms:?}");
    let stats = fixture.context.stats();
    let pairs: usize = msms.iter().map(|(_, pairs, _)| pairs).sum();
    assert_eq!((stats.on_card, stats.pairs_on_card), (4, pairs as u64));
    assert_eq!(stats.bytes_copied, 32 * pairs as u64);
}

#[test]
fn prove_starts_msms_early_and_copies_the_assignment_once() {
    let fixture = Fixture::new();
    let stock = stock_key();
    let key = OnCard::new(&fixture.context, from_bn254_key(stock.clone())).unwrap();
    for round in 1..=3 {
        let proof = key.prove(circuit(), &mut StdRng::seed_from_u64(round)).unwrap();
        let expected = Groth16::<Bn254>::prove(&stock, circuit(), &mut StdRng::seed_from_u64(round)).unwrap();
        assert_eq!(into_bn254_proof(proof), expected);
        let stats = fixture.context.stats();
        assert_eq!((stats.on_card, stats.started_early, stats.invalid_proofs), (4 * round, 3 * round, 0));
        let scalars = stock.a_query.len() - 1 + stock.h_query.len();
        assert_eq!(stats.bytes_copied, 32 * scalars as u64 * round);
    }
}

#[test]
fn keys_and_proofs_serialize_to_the_same_bytes() {
    let stock = stock_key();
    let ours = from_bn254_key(stock.clone());
    let addresses = [stock.a_query.as_ptr().addr(), stock.b_g2_query.as_ptr().addr()];
    assert_eq!(bytes(&ours), bytes(&stock));
    assert_eq!(ProvingKey::<CardBn254>::deserialize_uncompressed(&bytes(&stock)[..]).unwrap(), ours);
    let converted = from_bn254_key(stock);
    assert_eq!([converted.a_query.as_ptr().addr(), converted.b_g2_query.as_ptr().addr()], addresses);
}

#[test]
fn msms_below_the_crossover_run_on_the_cpu() {
    let fixture =
        Fixture::with(MsmModelOptions::default(), ContextOptions { crossover: Some(400), ..options() });
    let key = OnCard::new(&fixture.context, from_bn254_key(stock_key())).unwrap();
    key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    // H has 511 pairs. The other MSMs have about 300.
    let stats = fixture.context.stats();
    assert_eq!((stats.on_card, stats.below_crossover, stats.started_early), (1, 3, 0));
}

#[test]
fn large_msms_are_split() {
    let fixture =
        Fixture::with(MsmModelOptions { max_elements: 100, ..MsmModelOptions::default() }, options());
    let stock = stock_key();
    let key = OnCard::new(&fixture.context, from_bn254_key(stock.clone())).unwrap();
    let proof = key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    let expected = Groth16::<Bn254>::prove(&stock, circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    assert_eq!(into_bn254_proof(proof), expected);
    assert_eq!(fixture.context.stats().on_card, 4);
}

#[test]
fn a_mismatched_key_is_rejected() {
    let fixture = Fixture::new();
    let key = OnCard::new(&fixture.context, from_bn254_key(stock_key())).unwrap();
    // The key of another setup of the same circuit.
    let other =
        Groth16::<Bn254>::generate_random_parameters_with_reduction(circuit(), &mut StdRng::seed_from_u64(2));
    let other = other.unwrap();
    let mut mismatched = key.into_inner();
    mismatched.delta_g1 = other.delta_g1.into();
    let key = OnCard::new(&fixture.context, mismatched).unwrap();
    let error = key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap_err();
    assert!(matches!(error, ProveError::Rejected), "{error}");
    assert_eq!(fixture.context.stats().invalid_proofs, 0);
    assert!(fixture.context.is_in_service());
}

#[test]
fn many_threads_prove_with_one_key() {
    let fixture = Fixture::new();
    let key = OnCard::new(&fixture.context, from_bn254_key(stock_key())).unwrap();
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
    let stats = fixture.context.stats();
    assert_eq!((stats.on_card, stats.invalid_proofs), (48, 0));
}

#[test]
fn inconsistent_input_is_an_error() {
    let fixture = Fixture::new();
    let key = OnCard::new(&fixture.context, from_bn254_key(stock_key())).unwrap();
    let variables = key.a_query.len();
    let rows = |columns: &[usize]| {
        vec![columns.iter().map(|column| (Fr::from(1), *column)).collect::<Vec<_>>(); SQUARINGS]
    };
    let good = || vec![rows(&[0]), rows(&[1]), rows(&[variables - 1])];
    let prove = |matrices: &[Vec<Vec<(Fr, usize)>>], inputs, constraints, variables| {
        let assignment = vec![Fr::from(1); variables];
        let blinding = [Fr::from(1), Fr::from(2)];
        key.prove_with_matrices::<LibsnarkReduction>(blinding, matrices, inputs, constraints, &assignment)
    };
    // All ones satisfy the key's circuit.
    prove(&good(), 2, SQUARINGS, variables).unwrap();
    let wrong = [
        prove(&good()[..2], 2, SQUARINGS, variables),
        prove(&[], 2, SQUARINGS, variables),
        prove(&good(), 2, SQUARINGS + 1, variables),
        prove(&good(), 2, usize::MAX, variables),
        prove(&[good(), vec![rows(&[variables])]].concat()[1..], 2, SQUARINGS, variables),
        prove(&good(), 1, SQUARINGS, variables),
        prove(&good(), 0, SQUARINGS, variables),
        prove(&good(), 3, SQUARINGS, variables),
        prove(&good(), 2, SQUARINGS, variables - 1),
        prove(&good(), 2, SQUARINGS, 0),
    ];
    for (number, result) in wrong.into_iter().enumerate() {
        assert!(matches!(result, Err(ProveError::Inconsistent { .. })), "{number}: {result:?}");
    }
}
