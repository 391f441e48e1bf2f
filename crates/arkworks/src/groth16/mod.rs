//! Groth16 proofs.

mod convert;
pub(crate) mod overlap;

pub use convert::{from_stock_key, stock_proof};

use crate::CardBn254;
use crate::curve::G1Affine;
use crate::key::{Key, OnCard};
use ark_bn254::Fr;
use ark_ff::UniformRand;
use ark_groth16::r1cs_to_qap::{LibsnarkReduction, R1CSToQAP};
use ark_groth16::{Groth16, PreparedVerifyingKey, Proof, ProvingKey, prepare_verifying_key};
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystem, Matrix, OptimizationGoal, R1CS_PREDICATE_LABEL, SynthesisError,
    SynthesisMode,
};
use ark_std::rand::{CryptoRng, RngCore};
use overlap::{Overlapped, Scope};

/// The sums of a proof: A, B in G1, H and L.
impl Key for ProvingKey<CardBn254> {
    type Prepared = PreparedVerifyingKey<CardBn254>;

    fn bases(&self) -> Vec<(&'static str, &[G1Affine])> {
        vec![
            ("a_query", &self.a_query),
            ("b_g1_query", &self.b_g1_query),
            ("h_query", &self.h_query),
            ("l_query", &self.l_query),
        ]
    }

    fn prepare(&self) -> Self::Prepared {
        prepare_verifying_key(&self.vk)
    }
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The circuit or its assignment is invalid.
    #[error("the prover of ark-groth16 failed: {0}")]
    Synthesis(#[from] SynthesisError),
    /// The proof is wrong, although the CPU computed it.
    #[error(
        "the verifier rejects the proof, also when the CPU computes it: the assignment does not satisfy the circuit, or the key \
         belongs to another circuit or another reduction"
    )]
    Rejected,
}

impl OnCard<ProvingKey<CardBn254>> {
    /// Makes a proof, as `Groth16::prove` does, with three differences: the sums A, B1 and L begin
    /// before the scalars of H exist, the sum in G2 runs while the card computes H, and the proof is verified
    /// ([`Options::verify`](crate::Options::verify)). If it is wrong, a sum of the card was: the proof is made again on the CPU.
    ///
    /// The bare call `Groth16::<CardBn254>::prove(&key, circuit, rng)` also uses the card, but verifies nothing.
    ///
    /// # Errors
    ///
    /// [`ProveError`]. Errors of the card are none: the CPU computes what the card does not.
    pub fn prove<C: ConstraintSynthesizer<Fr>>(
        &self,
        circuit: C,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Proof<CardBn254>, ProveError> {
        let constraints = ConstraintSystem::new_ref();
        constraints.set_optimization_goal(OptimizationGoal::Constraints);
        constraints
            .set_mode(SynthesisMode::Prove { construct_matrices: true, generate_lc_assignments: false });
        circuit.generate_constraints(constraints.clone())?;
        constraints.finalize();
        let mut matrices = constraints.to_matrices()?;
        let matrices = matrices.remove(R1CS_PREDICATE_LABEL).ok_or(SynthesisError::MissingCS)?;
        let count = constraints.num_constraints();
        let system = constraints.borrow().ok_or(SynthesisError::MissingCS)?;
        let (inputs, witness) = (system.instance_assignment()?, system.witness_assignment()?);
        let assignment = [inputs, witness].concat();
        let blinding = [Fr::rand(rng), Fr::rand(rng)];
        self.prove_matrices::<LibsnarkReduction>(blinding, &matrices, inputs.len(), count, &assignment)
    }

    /// Makes a proof like [`prove`](Self::prove), from the matrices of a circuit: the counterpart of
    /// [`Groth16::create_proof_with_reduction_and_matrices`]. Keys of circom need the reduction of `ark-circom`.
    ///
    /// `blinding` are the random numbers r and s. `inputs` counts the public inputs, the constant one included, with which
    /// `assignment` begins.
    ///
    /// # Errors
    ///
    /// As [`prove`](Self::prove).
    pub fn prove_matrices<QAP: R1CSToQAP>(
        &self,
        blinding: [Fr; 2],
        matrices: &[Matrix<Fr>],
        inputs: usize,
        constraints: usize,
        assignment: &[Fr],
    ) -> Result<Proof<CardBn254>, ProveError> {
        let public = assignment.get(1..inputs).ok_or(SynthesisError::AssignmentMissing)?;
        let make = |on_cpu| {
            let _scope = Scope::enter(self.key.clone(), on_cpu);
            let [r, s] = blinding;
            Groth16::<CardBn254, Overlapped<QAP>>::create_proof_with_reduction_and_matrices(
                self,
                r,
                s,
                matrices,
                inputs,
                constraints,
                assignment,
            )
        };
        let proof = make(false)?;
        if !self.context().options().verify || self.verifies(&proof, public)? {
            return Ok(proof);
        }
        let proof = make(true)?;
        if !self.verifies(&proof, public)? {
            return Err(ProveError::Rejected);
        }
        self.context().wrong_proof();
        Ok(proof)
    }

    fn verifies(&self, proof: &Proof<CardBn254>, public: &[Fr]) -> Result<bool, SynthesisError> {
        Groth16::<CardBn254>::verify_proof(self.prepared(), proof, public)
    }
}
