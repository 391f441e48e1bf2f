//! A card that is pulled, hangs, or lies in the middle of a proof.

use crate::common::{Bench, Squares, options};
use ark_bn254::{Bn254, Fr};
use ark_groth16::{Groth16, Proof, ProvingKey};
use ark_snark::SNARK;
use ark_std::rand::{SeedableRng, rngs::StdRng};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use xdma::regs::Direction;
use xdma_arkworks::groth16::{from_stock_key, stock_proof};
use xdma_arkworks::{CardBn254, OnCard, Options, Place};
use xdma_emulated_card::emulator::faults::{FaultDuration, Injection, Kind};
use xdma_emulated_card::emulator::logic::MsmModelOptions;
use xdma_emulated_card::emulator::logic::msm::{BitFlip, Window};

fn circuit() -> Squares {
    Squares::new(5, 500)
}

fn key() -> ProvingKey<CardBn254> {
    let mut rng = StdRng::seed_from_u64(1);
    from_stock_key(Groth16::<Bn254>::generate_random_parameters_with_reduction(circuit(), &mut rng).unwrap())
}

fn verifies(key: &ProvingKey<CardBn254>, proof: &Proof<CardBn254>) -> bool {
    Groth16::<CardBn254>::verify(&key.vk, &[circuit().output()], proof).unwrap()
}

/// Makes proofs while faults are injected, by the stock call and by `OnCard::prove`, and returns the reasons of failed sums.
fn prove_with_fault(inject: impl Fn(&Bench)) -> (Bench, OnCard<ProvingKey<CardBn254>>, Vec<String>) {
    let bench = Bench::new();
    let key = OnCard::new(&bench.context, key()).unwrap();
    let failures = Arc::new(Mutex::new(vec![]));
    let seen = failures.clone();
    bench.context.observe(move |sum| {
        if let Place::Failed(error) = &sum.place {
            seen.lock().unwrap().push(error.to_string());
        }
    });
    let mut rng = StdRng::seed_from_u64(1);
    inject(&bench);
    assert!(verifies(&key, &key.prove(circuit(), &mut rng).unwrap()));
    assert!(verifies(&key, &Groth16::<CardBn254>::prove(&key, circuit(), &mut rng).unwrap()));
    let failures = std::mem::take(&mut *failures.lock().unwrap());
    (bench, key, failures)
}

#[test]
fn a_card_that_is_pulled_in_the_middle_of_a_proof() {
    let (bench, key, failures) = prove_with_fault(|bench| {
        bench.emulated.inject(Injection::from(Kind::LinkDown).after(1)).unwrap();
    });
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(!bench.context.is_in_service());
    let before = bench.context.stats();
    assert!(before.failed >= 1 && before.out_of_service >= 4, "{before:?}");
    // It stays out of service, and no proof waits for it.
    let begin = Instant::now();
    assert!(verifies(&key, &key.prove(circuit(), &mut StdRng::seed_from_u64(2)).unwrap()));
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(bench.context.stats().out_of_service, before.out_of_service + 4);
    assert!(bench.context.resume().is_err());
}

#[test]
fn an_engine_error_costs_one_sum() {
    let (bench, key, failures) = prove_with_fault(|bench| {
        bench.emulated.inject(Kind::BadMagic.on(Direction::H2C, 0).after(2)).unwrap();
    });
    assert_eq!(failures.len(), 1, "{failures:?}");
    let stats = bench.context.stats();
    assert!(bench.context.is_in_service());
    assert_eq!((stats.on_card, stats.failed, stats.wrong_proofs), (7, 1, 0));
    assert!(verifies(&key, &key.prove(circuit(), &mut StdRng::seed_from_u64(2)).unwrap()));
    assert_eq!(bench.context.stats().on_card, 11);
}

#[test]
fn a_card_that_hangs_is_waited_for_once_or_twice() {
    let begin = Instant::now();
    let (bench, _, failures) = prove_with_fault(|bench| {
        bench.emulated.inject(Kind::AxiHang(FaultDuration::Forever).on(Direction::H2C, 0).after(1)).unwrap();
    });
    assert!(failures.iter().any(|error| error.contains("not finished within")), "{failures:?}");
    assert!(begin.elapsed() < Duration::from_secs(60));
    assert!(bench.context.stats().failed >= 1);
}

/// A card that computes with a wrong bit of a point.
fn liar() -> MsmModelOptions {
    MsmModelOptions {
        flip: Some(BitFlip { window: Window::Points, byte: 64 * 17, mask: 1 }),
        ..MsmModelOptions::default()
    }
}

#[test]
fn a_card_that_lies_is_found_by_the_verifier() {
    let bench = Bench::with(liar(), options());
    let key = OnCard::new(&bench.context, key()).unwrap();
    let proof = key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    assert!(verifies(&key, &proof));
    let stats = bench.context.stats();
    assert_eq!((stats.wrong_proofs, stats.on_card), (1, 4));
    // The CPU's second proof has the same random numbers.
    let stock = Groth16::<CardBn254>::prove(&key, circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    assert_eq!(stock_proof(proof), stock_proof(stock));
    assert!(bench.context.is_in_service(), "one wrong result");
}

#[test]
fn the_bare_stock_call_does_not_find_it() {
    let bench = Bench::with(liar(), options());
    let key = OnCard::new(&bench.context, key()).unwrap();
    let proof = Groth16::<CardBn254>::prove(&key, circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    assert!(!verifies(&key, &proof));
}

#[test]
fn without_verification_prove_does_not_find_it_either() {
    let bench = Bench::with(liar(), Options { verify: false, ..options() });
    let key = OnCard::new(&bench.context, key()).unwrap();
    let proof = key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    assert!(!verifies(&key, &proof));
}

#[test]
fn a_card_that_lies_is_found_by_checked_sums() {
    for window in [Window::Points, Window::Scalars] {
        let flip = BitFlip { window, byte: 32 * 40 + 3, mask: 1 };
        let model = MsmModelOptions { flip: Some(flip), ..MsmModelOptions::default() };
        let bench = Bench::with(model, Options { check_sums: true, ..options() });
        let key = OnCard::new(&bench.context, key()).unwrap();
        let proof = Groth16::<CardBn254>::prove(&key, circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
        assert!(verifies(&key, &proof), "{window:?}");
        let stats = bench.context.stats();
        assert_eq!((stats.on_card, stats.failed), (3, 1), "{window:?}");
        // An honest card passes, in both ways of proving.
        for _ in 0..2 {
            key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
        }
        assert_eq!((bench.context.stats().failed, bench.context.stats().wrong_proofs), (1, 0));
    }
}

#[test]
fn a_proof_that_is_abandoned_leaves_the_card_usable() {
    let bench = Bench::new();
    let key = OnCard::new(&bench.context, key()).unwrap();
    for _ in 0..10 {
        // The reduction fails after the sums have begun: the matrices are empty.
        let assignment: Vec<Fr> = (0..500).map(|_| Fr::from(1u64)).collect();
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            key.prove_matrices::<ark_groth16::r1cs_to_qap::LibsnarkReduction>(
                [Fr::from(1u64); 2],
                &[],
                2,
                500,
                &assignment,
            )
        }));
        assert!(panic.is_err());
    }
    let proof = key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    assert!(verifies(&key, &proof));
}
