//! Groth16 proofs.

mod convert;
pub(crate) mod overlap;

pub use convert::{from_bn254_key, into_bn254_proof};

use crate::CardBn254;
use crate::curve::G1Affine;
use crate::key::{MsmKey, OnCard};
use ark_bn254::Fr;
use ark_ff::UniformRand;
use ark_groth16::r1cs_to_qap::{LibsnarkReduction, R1CSToQAP};
use ark_groth16::{Groth16, PreparedVerifyingKey, Proof, ProvingKey, prepare_verifying_key};
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystem, Matrix, OptimizationGoal, R1CS_PREDICATE_LABEL, SynthesisError,
    SynthesisMode,
};
use ark_std::rand::{CryptoRng, RngCore};
use overlap::{OverlappedReduction, ProofScope};
use std::any::TypeId;

/// The points of the G1 MSMs of a proof: A, B1, H and L.
impl MsmKey for ProvingKey<CardBn254> {
    type Precomputed = PreparedVerifyingKey<CardBn254>;

    fn bases(&self) -> Vec<(&'static str, &[G1Affine])> {
        vec![
            ("a_query", &self.a_query),
            ("b_g1_query", &self.b_g1_query),
            ("h_query", &self.h_query),
            ("l_query", &self.l_query),
        ]
    }

    fn precompute(&self) -> Self::Precomputed {
        prepare_verifying_key(&self.vk)
    }
}

/// Why a proof could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The circuit or its assignment is invalid.
    #[error("the prover of ark-groth16 failed: {0}")]
    Synthesis(#[from] SynthesisError),
    /// The sizes of two parts of the input do not match.
    #[error(
        "the prover's input is inconsistent: {what} has {found} elements, but {expected} are required; pass the matrices, the \
         counts and the assignment of the key's circuit"
    )]
    Inconsistent {
        /// The part of the input that has the wrong size.
        what: &'static str,
        /// Its size.
        found: usize,
        /// The expected size, or the minimum size.
        expected: usize,
    },
    /// The proof is invalid, even when the CPU computes it.
    #[error(
        "the verifier rejects the proof even when the CPU computes it: the assignment does not satisfy the circuit, or the key \
         belongs to another circuit or reduction"
    )]
    Rejected,
}

impl OnCard<ProvingKey<CardBn254>> {
    /// Creates a proof, like `Groth16::prove`, with three differences: the MSMs A, B1 and L start before the scalars of H are
    /// computed, the G2 MSM runs while the card computes H, and the proof is verified
    /// ([`ContextOptions::verify_proofs`](crate::ContextOptions::verify_proofs)). If the proof is invalid, it is recomputed on
    /// the CPU.
    ///
    /// The stock call `Groth16::<CardBn254>::prove(&key, circuit, rng)` also uses the card, but does not verify its proof.
    ///
    /// # Errors
    ///
    /// Returns a [`ProveError`] if the circuit or its assignment is invalid, or if the verifier rejects the proof even when the
    /// CPU computes it. Failures of the card are not errors, because the CPU then computes the MSMs (except with
    /// [`OnError::Panic`](crate::OnError::Panic)).
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
        self.prove_with_matrices::<LibsnarkReduction>(blinding, &matrices, inputs.len(), count, &assignment)
    }

    /// Creates a proof like [`prove`](Self::prove), from the matrices of a circuit. This is the counterpart of
    /// [`Groth16::create_proof_with_reduction_and_matrices`]. Keys of circom require the reduction of `ark-circom`.
    ///
    /// `blinding` contains the random numbers r and s. `input_count` is the number of public inputs, including the constant one,
    /// at the start of `assignment`.
    ///
    /// # Errors
    ///
    /// Returns a [`ProveError`] under the same conditions as [`prove`](Self::prove).
    pub fn prove_with_matrices<QAP: R1CSToQAP + 'static>(
        &self,
        blinding: [Fr; 2],
        matrices: &[Matrix<Fr>],
        input_count: usize,
        constraints: usize,
        assignment: &[Fr],
    ) -> Result<Proof<CardBn254>, ProveError> {
        let has_c = TypeId::of::<QAP>() == TypeId::of::<LibsnarkReduction>();
        self.check_input(matrices, has_c, input_count, constraints, assignment)?;
        let public = assignment.get(1..input_count).ok_or(SynthesisError::AssignmentMissing)?;
        let create_proof = |on_cpu| {
            let _scope = ProofScope::enter(self.key.clone(), on_cpu);
            let [r, s] = blinding;
            Groth16::<CardBn254, OverlappedReduction<QAP>>::create_proof_with_reduction_and_matrices(
                self,
                r,
                s,
                matrices,
                input_count,
                constraints,
                assignment,
            )
        };
        let proof = create_proof(false)?;
        if !self.context().options().verify_proofs || self.is_valid(&proof, public)? {
            return Ok(proof);
        }
        let proof = create_proof(true)?;
        if !self.is_valid(&proof, public)? {
            return Err(ProveError::Rejected);
        }
        self.context().record_invalid_proof();
        Ok(proof)
    }

    /// Checks the sizes of all inputs that the stock prover indexes without a check. Keys of circom have no matrix C, and their
    /// reduction does not use one.
    fn check_input(
        &self,
        matrices: &[Matrix<Fr>],
        has_c: bool,
        input_count: usize,
        constraints: usize,
        assignment: &[Fr],
    ) -> Result<(), ProveError> {
        let at_least = |what, found, expected| match found >= expected {
            true => Ok(()),
            false => Err(ProveError::Inconsistent { what, found, expected }),
        };
        let exactly = |what, found, expected| match found == expected {
            true => Ok(()),
            false => Err(ProveError::Inconsistent { what, found, expected }),
        };
        let variables = assignment.len();
        exactly("the public input", input_count, self.vk.gamma_abc_g1.len())?;
        at_least("the public input", input_count, 1)?;
        at_least("the assignment", variables, input_count)?;
        exactly("the key's A query", self.a_query.len(), variables)?;
        exactly("the key's B query in G1", self.b_g1_query.len(), variables)?;
        exactly("the key's B query in G2", self.b_g2_query.len(), variables)?;
        exactly("the key's L query", self.l_query.len(), variables - input_count)?;
        let used = if has_c { 3 } else { 2 };
        at_least("the list of matrices", matrices.len(), used)?;
        for matrix in &matrices[..used] {
            at_least("a matrix", matrix.len(), constraints)?;
        }
        let columns = matrices[..used].iter().flatten().flatten().map(|(_, column)| *column + 1);
        at_least("the assignment", variables, columns.max().unwrap_or(0))
    }

    fn is_valid(&self, proof: &Proof<CardBn254>, public: &[Fr]) -> Result<bool, SynthesisError> {
        Groth16::<CardBn254>::verify_proof(self.precomputed(), proof, public)
    }
}
