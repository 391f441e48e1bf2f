//! The published Groth16 prover, with MSMs on the card.

use ark_bn254::{Bn254, Fr};
use ark_ff::Field;
use ark_groth16::Groth16;
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError};
use ark_relations::lc;
use ark_snark::SNARK;
use rand_08::{SeedableRng, rngs::StdRng};
use std::time::Duration;
use xdma_arkworks::groth16::{from_bn254_key, into_bn254_proof};
use xdma_arkworks::{CardBn254, Context, ContextOptions, OnCard};
use xdma_emulator::EmulatorOptions;
use xdma_emulator::logic::{Design, MsmModelOptions};
use xdma_testkit::bench::Bench;

/// Proves knowledge of an x with x^(2^squarings) = y.
#[derive(Clone, Copy)]
struct Squares {
    x: Fr,
    squarings: usize,
}

impl ConstraintSynthesizer<Fr> for Squares {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let mut value = self.x;
        let mut variable = cs.new_witness_variable(|| Ok(value))?;
        for remaining in (0..self.squarings).rev() {
            value.square_in_place();
            let next = match remaining {
                0 => cs.new_input_variable(|| Ok(value))?,
                _ => cs.new_witness_variable(|| Ok(value))?,
            };
            cs.enforce_r1cs_constraint(|| lc!() + variable, || lc!() + variable, || lc!() + next)?;
            variable = next;
        }
        Ok(())
    }
}

#[test]
fn proofs_with_msms_on_the_card_equal_those_of_the_cpu() {
    let bench = Bench::new(EmulatorOptions::default(), Design::Msm(MsmModelOptions::default()));
    let timeout_margin = Duration::from_secs(60);
    let options = ContextOptions { crossover: Some(2), timeout_margin, ..ContextOptions::default() };
    let context = Context::open(&bench.open(), options).unwrap();
    let circuit = Squares { x: Fr::from(3), squarings: 100 };
    let rng = || StdRng::seed_from_u64(1);
    let (stock, _) = Groth16::<Bn254>::circuit_specific_setup(circuit, &mut rng()).unwrap();
    let expected = Groth16::<Bn254>::prove(&stock, circuit, &mut rng()).unwrap();
    let key = OnCard::new(&context, from_bn254_key(stock)).unwrap();
    let proof = Groth16::<CardBn254>::prove(&key, circuit, &mut rng()).unwrap();
    assert_eq!(into_bn254_proof(proof), expected);
    assert_eq!(into_bn254_proof(key.prove(circuit, &mut rng()).unwrap()), expected);
    let stats = context.stats();
    assert_eq!((stats.on_card, stats.started_early, stats.invalid_proofs), (8, 3, 0));
}
