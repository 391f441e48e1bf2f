//! Proofs during which the card is removed, hangs, or returns wrong results.

use crate::common::{Fixture, Squares, options};
use ark_bn254::{Bn254, Fr};
use ark_ec::VariableBaseMSM;
use ark_ff::PrimeField;
use ark_groth16::r1cs_to_qap::R1CSToQAP;
use ark_groth16::{Groth16, Proof, ProvingKey};
use ark_poly::EvaluationDomain;
use ark_relations::gr1cs::{ConstraintSystemRef, Matrix, SynthesisError};
use ark_snark::SNARK;
use ark_std::rand::{SeedableRng, rngs::StdRng};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use xdma::regs::Direction;
use xdma_arkworks::curve::G1Projective;
use xdma_arkworks::groth16::{ProveError, from_bn254_key, into_bn254_proof};
use xdma_arkworks::{CardBn254, ComputedOn, ContextOptions, OnCard};
use xdma_emulated_card::emulator::faults::{FaultDuration, Injection, Kind};
use xdma_emulated_card::emulator::logic::MsmModelOptions;
use xdma_emulated_card::emulator::logic::msm::{BitFlip, Window};

fn circuit() -> Squares {
    Squares::new(5, 500)
}

fn key() -> ProvingKey<CardBn254> {
    let mut rng = StdRng::seed_from_u64(1);
    from_bn254_key(Groth16::<Bn254>::generate_random_parameters_with_reduction(circuit(), &mut rng).unwrap())
}

fn verifies(key: &ProvingKey<CardBn254>, proof: &Proof<CardBn254>) -> bool {
    Groth16::<CardBn254>::verify(&key.vk, &[circuit().output()], proof).unwrap()
}

/// Injects a fault, creates a proof with `OnCard::prove` and one with the stock call, and returns the errors of failed MSMs.
fn prove_with_fault(inject: impl Fn(&Fixture)) -> (Fixture, OnCard<ProvingKey<CardBn254>>, Vec<String>) {
    let fixture = Fixture::new();
    let key = OnCard::new(&fixture.context, key()).unwrap();
    let failures = Arc::new(Mutex::new(vec![]));
    let seen = failures.clone();
    fixture.context.set_observer(move |msm| {
        if let ComputedOn::CpuAfterFailure(error) = &msm.computed_on {
            seen.lock().unwrap().push(error.to_string());
        }
    });
    let mut rng = StdRng::seed_from_u64(1);
    inject(&fixture);
    assert!(verifies(&key, &key.prove(circuit(), &mut rng).unwrap()));
    assert!(verifies(&key, &Groth16::<CardBn254>::prove(&key, circuit(), &mut rng).unwrap()));
    let failures = std::mem::take(&mut *failures.lock().unwrap());
    (fixture, key, failures)
}

#[test]
fn removing_the_card_during_a_proof_falls_back_to_the_cpu() {
    let (fixture, key, failures) = prove_with_fault(|fixture| {
        fixture.emulated.inject(Injection::from(Kind::LinkDown).after(1)).unwrap();
    });
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(!fixture.context.is_in_service());
    let before = fixture.context.stats();
    assert!(before.cpu_fallbacks >= 1 && before.out_of_service >= 4, "{before:?}");
    // The card stays out of service, and proofs do not wait for it.
    let begin = Instant::now();
    assert!(verifies(&key, &key.prove(circuit(), &mut StdRng::seed_from_u64(2)).unwrap()));
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(fixture.context.stats().out_of_service, before.out_of_service + 4);
    assert!(fixture.context.resume().is_err());
}

#[test]
fn an_engine_error_fails_only_one_msm() {
    let (fixture, key, failures) = prove_with_fault(|fixture| {
        fixture.emulated.inject(Kind::BadMagic.on(Direction::H2C, 0).after(2)).unwrap();
    });
    assert_eq!(failures.len(), 1, "{failures:?}");
    let stats = fixture.context.stats();
    assert!(fixture.context.is_in_service());
    assert_eq!((stats.on_card, stats.cpu_fallbacks, stats.invalid_proofs), (7, 1, 0));
    assert!(verifies(&key, &key.prove(circuit(), &mut StdRng::seed_from_u64(2)).unwrap()));
    assert_eq!(fixture.context.stats().on_card, 11);
}

#[test]
fn a_hung_card_times_out_at_most_twice() {
    let begin = Instant::now();
    let (fixture, _, failures) = prove_with_fault(|fixture| {
        fixture
            .emulated
            .inject(Kind::AxiHang(FaultDuration::Forever).on(Direction::H2C, 0).after(1))
            .unwrap();
    });
    let timeouts = failures.iter().filter(|error| error.contains("not finished within")).count();
    assert!((1..=2).contains(&timeouts), "{failures:?}");
    assert!(begin.elapsed() < Duration::from_secs(60));
    assert!(fixture.context.stats().cpu_fallbacks >= 1);
}

/// A model that flips one bit of a point.
fn bit_flip_model() -> MsmModelOptions {
    MsmModelOptions {
        flip: Some(BitFlip { window: Window::Points, byte: 64 * 17, mask: 1 }),
        ..MsmModelOptions::default()
    }
}

#[test]
fn verification_detects_a_wrong_result() {
    let fixture = Fixture::with(bit_flip_model(), options());
    let key = OnCard::new(&fixture.context, key()).unwrap();
    let proof = key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    assert!(verifies(&key, &proof));
    let stats = fixture.context.stats();
    assert_eq!((stats.invalid_proofs, stats.on_card), (1, 4));
    // The proof recomputed on the CPU uses the same random numbers.
    let stock = Groth16::<CardBn254>::prove(&key, circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    assert_eq!(into_bn254_proof(proof), into_bn254_proof(stock));
    assert!(fixture.context.is_in_service(), "one wrong result is tolerated");
}

#[test]
fn the_stock_call_does_not_detect_a_wrong_result() {
    let fixture = Fixture::with(bit_flip_model(), options());
    let key = OnCard::new(&fixture.context, key()).unwrap();
    let proof = Groth16::<CardBn254>::prove(&key, circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    assert!(!verifies(&key, &proof));
}

#[test]
fn prove_without_verification_does_not_detect_a_wrong_result() {
    let fixture = Fixture::with(bit_flip_model(), ContextOptions { verify_proofs: false, ..options() });
    let key = OnCard::new(&fixture.context, key()).unwrap();
    let proof = key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
    assert!(!verifies(&key, &proof));
}

#[test]
fn checked_msms_detect_a_wrong_result() {
    for window in [Window::Points, Window::Scalars] {
        let flip = BitFlip { window, byte: 32 * 40 + 3, mask: 1 };
        let model = MsmModelOptions { flip: Some(flip), ..MsmModelOptions::default() };
        let fixture = Fixture::with(model, ContextOptions { check_msms: true, ..options() });
        let key = OnCard::new(&fixture.context, key()).unwrap();
        let proof = Groth16::<CardBn254>::prove(&key, circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
        assert!(verifies(&key, &proof), "{window:?}");
        let stats = fixture.context.stats();
        assert_eq!((stats.on_card, stats.cpu_fallbacks), (3, 1), "{window:?}");
        // Only one bit was flipped. From now on, the results are correct, with both calls.
        for seed in 2..4 {
            let mut rng = StdRng::seed_from_u64(seed);
            assert!(verifies(&key, &key.prove(circuit(), &mut rng).unwrap()));
            assert!(verifies(&key, &Groth16::<CardBn254>::prove(&key, circuit(), &mut rng).unwrap()));
        }
        assert_eq!((fixture.context.stats().cpu_fallbacks, fixture.context.stats().invalid_proofs), (1, 0));
    }
}

/// A reduction that fails after the early MSMs have started.
struct FailingReduction;

impl R1CSToQAP for FailingReduction {
    fn instance_map_with_evaluation<F: PrimeField, D: EvaluationDomain<F>>(
        _: ConstraintSystemRef<F>,
        _: &F,
    ) -> Result<(Vec<F>, Vec<F>, Vec<F>, F, usize, usize), SynthesisError> {
        Err(SynthesisError::Unsatisfiable)
    }

    fn witness_map_from_matrices<F: PrimeField, D: EvaluationDomain<F>>(
        _: &[Matrix<F>],
        _: usize,
        _: usize,
        _: &[F],
    ) -> Result<Vec<F>, SynthesisError> {
        Err(SynthesisError::Unsatisfiable)
    }

    fn h_query_scalars<F: PrimeField, D: EvaluationDomain<F>>(
        _: usize,
        _: F,
        _: F,
        _: F,
    ) -> Result<Vec<F>, SynthesisError> {
        Err(SynthesisError::Unsatisfiable)
    }
}

#[test]
fn an_abandoned_proof_leaves_the_card_usable() {
    let model = MsmModelOptions { pairs_per_second: Some(1000.0), ..MsmModelOptions::default() };
    let fixture = Fixture::with(model, options());
    let key = OnCard::new(&fixture.context, key()).unwrap();
    let assignment = vec![Fr::from(1u64); key.a_query.len()];
    let matrices = vec![vec![vec![]; 500]; 3];
    let blinding = [Fr::from(1u64); 2];
    for _ in 0..10 {
        let result = key.prove_with_matrices::<FailingReduction>(blinding, &matrices, 2, 500, &assignment);
        assert!(matches!(result, Err(ProveError::Synthesis(_))), "{result:?}");
    }
    // The MSMs that nobody waits for do not delay the drop: together, they would take 15 seconds.
    let begin = Instant::now();
    drop((key, fixture));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

/// With a second job on the card, its data would replace what the first one lacks, and the result would be wrong.
#[test]
fn lost_data_never_yields_a_result() {
    for after in [0, 1, 2, 3] {
        let fixture = Fixture::with(
            MsmModelOptions::default(),
            ContextOptions { timeout_margin: Duration::from_secs(1), ..options() },
        );
        let key = OnCard::new(&fixture.context, key()).unwrap();
        fixture.emulated.inject(Kind::AxiWriteLost.on(Direction::H2C, 0).after(after)).unwrap();
        key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap();
        let stats = fixture.context.stats();
        assert_eq!((stats.invalid_proofs, stats.cpu_fallbacks), (0, 1), "{after}: {stats:?}");
    }
}

#[test]
fn a_lost_result_is_not_the_previous_one() {
    let fixture = Fixture::new();
    let key = OnCard::new(&fixture.context, key()).unwrap();
    let scalars = |value: u64| vec![Fr::from(value); 400];
    let sum = |value| G1Projective::msm(&key.l_query[..400], &scalars(value)).unwrap();
    sum(3);
    fixture.emulated.inject(Kind::HostWriteDropped.on(Direction::C2H, 0)).unwrap();
    let expected = G1Projective::msm(&key.l_query.clone()[..400], &scalars(5)).unwrap();
    assert_eq!(sum(5), expected);
    assert_eq!((fixture.context.stats().on_card, fixture.context.stats().cpu_fallbacks), (1, 1));
}

#[test]
fn resuming_a_card_that_cannot_recover_fails_and_blocks_nothing() {
    let fixture = Fixture::new();
    let key = OnCard::new(&fixture.context, key()).unwrap();
    fixture.emulated.inject(Kind::LinkDown).unwrap();
    let begin = Instant::now();
    for _ in 0..3 {
        assert!(verifies(&key, &key.prove(circuit(), &mut StdRng::seed_from_u64(1)).unwrap()));
        assert!(fixture.context.resume().is_err());
    }
    assert!(begin.elapsed() < Duration::from_secs(30));
}
