//! MSMs of a proof that start before the prover requests them.
//!
//! The prover of `ark-groth16` is serial: it computes the scalars of H, then requests H, L, A, B1 and the G2 MSM, in this order.
//! The scalars of H are computed by a type parameter, [`R1CSToQAP`], which receives the whole assignment. [`OverlappedReduction`]
//! starts A, B1 and L there, so the card computes them while the CPU computes the scalars of H. When the prover requests H, the
//! CPU computes the G2 MSM while the card computes H.
//!
//! The state of a proof is thread-local because the trait's methods take no key. An early result is returned only for the same
//! points and equal scalars, so an unrelated MSM that rayon runs on this thread in the meantime still gets its own result.

use crate::CardBn254;
use crate::curve::{G1Affine, G2Affine};
use crate::error::MsmError;
use crate::msm;
use crate::registry::{self, RegisteredSlice};
use crate::stats::{ComputedOn, increment};
use ark_bn254::{Fr, G1Projective, G2Projective};
use ark_ec::VariableBaseMSM;
use ark_ff::{BigInt, PrimeField};
use ark_groth16::ProvingKey;
use ark_groth16::r1cs_to_qap::R1CSToQAP;
use ark_poly::EvaluationDomain;
use ark_relations::gr1cs::{ConstraintSystemRef, Matrix, SynthesisError};
use bytemuck::TransparentWrapper;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use xdma_cards::{PendingSum, Scalars};

#[cfg(feature = "parallel")]
use rayon::prelude::*;

thread_local! {
    /// The proof that this thread creates. It is not borrowed during a computation, because rayon can run another MSM on this
    /// thread in the meantime.
    static CURRENT_PROOF: RefCell<Option<ProofState>> = const { RefCell::new(None) };
}

/// The state of a proof.
struct ProofState {
    key: Arc<ProvingKey<CardBn254>>,
    on_cpu: bool,
    /// The canonical assignment without the constant one at its start.
    scalars: Arc<[BigInt<4>]>,
    early: Vec<EarlyMsm>,
    g2: Option<G2Projective>,
}

/// An MSM that was started early, with the assignment as scalars.
struct EarlyMsm {
    slice: Arc<RegisteredSlice>,
    /// The index of the first point in the registered slice.
    offset: usize,
    /// The index of the first scalar.
    first: usize,
    pending: PendingSum,
}

/// Makes a proof the current one of this thread until the scope is dropped.
pub(super) struct ProofScope {
    previous: Option<ProofState>,
}

impl ProofScope {
    pub fn enter(key: Arc<ProvingKey<CardBn254>>, on_cpu: bool) -> Self {
        let state = ProofState { key, on_cpu, scalars: Arc::default(), early: vec![], g2: None };
        Self { previous: CURRENT_PROOF.replace(Some(state)) }
    }
}

impl Drop for ProofScope {
    fn drop(&mut self) {
        drop(CURRENT_PROOF.replace(self.previous.take()));
    }
}

/// A reduction that starts the MSMs A, B1 and L before it computes the scalars of H.
pub(super) struct OverlappedReduction<QAP>(PhantomData<QAP>);

impl<QAP: R1CSToQAP> R1CSToQAP for OverlappedReduction<QAP> {
    fn instance_map_with_evaluation<F: PrimeField, D: EvaluationDomain<F>>(
        cs: ConstraintSystemRef<F>,
        t: &F,
    ) -> Result<(Vec<F>, Vec<F>, Vec<F>, F, usize, usize), SynthesisError> {
        QAP::instance_map_with_evaluation::<F, D>(cs, t)
    }

    fn witness_map_from_matrices<F: PrimeField, D: EvaluationDomain<F>>(
        matrices: &[Matrix<F>],
        input_count: usize,
        constraints: usize,
        assignment: &[F],
    ) -> Result<Vec<F>, SynthesisError> {
        if F::MODULUS.as_ref() == Fr::MODULUS.as_ref() && !assignment.is_empty() {
            start_early_msms(&assignment[1..], input_count);
        }
        QAP::witness_map_from_matrices::<F, D>(matrices, input_count, constraints, assignment)
    }

    fn h_query_scalars<F: PrimeField, D: EvaluationDomain<F>>(
        max_power: usize,
        t: F,
        zt: F,
        delta_inverse: F,
    ) -> Result<Vec<F>, SynthesisError> {
        QAP::h_query_scalars::<F, D>(max_power, t, zt, delta_inverse)
    }
}

/// Starts the MSMs over an assignment, which is passed without its constant one.
fn start_early_msms<F: PrimeField>(assignment: &[F], input_count: usize) {
    let key = CURRENT_PROOF.with_borrow(|proof| {
        let proof = proof.as_ref()?;
        (!proof.on_cpu).then(|| Arc::clone(&proof.key))
    });
    let Some(key) = key else { return };
    let scalars = to_canonical(assignment);
    let early = submit_early_msms(&key, &scalars, input_count).unwrap_or_default();
    CURRENT_PROOF.with_borrow_mut(|proof| {
        if let Some(proof) = proof {
            (proof.scalars, proof.early) = (scalars, early);
        }
    });
}

fn to_canonical<F: PrimeField>(assignment: &[F]) -> Arc<[BigInt<4>]> {
    let convert = |value: &F| {
        let mut limbs = [0; 4];
        for (limb, from) in limbs.iter_mut().zip(value.into_bigint().as_ref()) {
            *limb = *from;
        }
        BigInt(limbs)
    };
    #[cfg(feature = "parallel")]
    return assignment.par_iter().map(convert).collect();
    #[cfg(not(feature = "parallel"))]
    return assignment.iter().map(convert).collect();
}

fn submit_early_msms(
    key: &ProvingKey<CardBn254>,
    scalars: &Arc<[BigInt<4>]>,
    input_count: usize,
) -> Option<Vec<EarlyMsm>> {
    let private = input_count.checked_sub(1)?;
    // The first points of A and B1 belong to the constant one, which the prover adds itself. L has no points for public inputs.
    let queries = [(key.a_query.get(1..)?, 0), (key.b_g1_query.get(1..)?, 0), (&key.l_query[..], private)];
    let (mut early, shared) = (vec![], Scalars::from_canonical(Arc::clone(scalars)).ok()?);
    for (points, first) in queries {
        let pairs = points.len().min(scalars.len().checked_sub(first)?);
        let points = G1Affine::peel_slice(&points[..pairs]);
        let Some((slice, offset)) = registry::find(points) else { continue };
        if pairs == 0 || !matches!(msm::choose_device(&slice.context, pairs), ComputedOn::Card) {
            continue;
        }
        // An error is not lost: it occurs again when the prover requests the MSM.
        let Ok(pending) = msm::start_range(&slice, offset, &shared, first..first + pairs) else { continue };
        early.push(EarlyMsm { slice, offset, first, pending });
    }
    Some(early)
}

/// Returns whether an MSM over these points belongs to the current proof, and that proof is recomputed on the CPU.
pub(crate) fn is_recomputed(slice: &RegisteredSlice) -> bool {
    CURRENT_PROOF.with_borrow(|proof| {
        proof.as_ref().is_some_and(|proof| {
            let key = &proof.key;
            let queries = [&key.a_query, &key.b_g1_query, &key.h_query, &key.l_query];
            proof.on_cpu && queries.into_iter().any(|points| slice.is(G1Affine::peel_slice(points)))
        })
    })
}

/// If this MSM was started early, waits for its result.
pub(crate) fn wait_early_g1(
    slice: &RegisteredSlice,
    offset: usize,
    scalars: &[BigInt<4>],
) -> Option<Result<G1Projective, MsmError>> {
    let mut early = CURRENT_PROOF.with_borrow_mut(|proof| {
        let proof = proof.as_mut()?;
        let is_requested = |msm: &EarlyMsm| {
            std::ptr::eq(&*msm.slice, slice)
                && msm.offset == offset
                && msm.pending.pairs() == scalars.len()
                && proof.scalars[msm.first..msm.first + scalars.len()] == *scalars
        };
        let at = proof.early.iter().position(is_requested)?;
        Some(proof.early.swap_remove(at))
    })?;
    let result = msm::finish(&mut early.pending);
    increment(&slice.context.atomic_stats().started_early, 1);
    Some(result)
}

/// If `bases` are the points of the current proof's H, computes the G2 MSM, which the prover requests last.
pub(crate) fn compute_g2_during_h(bases: &[ark_bn254::G1Affine]) {
    let inputs = CURRENT_PROOF.with_borrow(|proof| {
        let proof = proof.as_ref()?;
        let is_h = std::ptr::addr_eq(bases.as_ptr(), proof.key.h_query.as_ptr());
        (is_h && !proof.scalars.is_empty()).then(|| (Arc::clone(&proof.key), Arc::clone(&proof.scalars)))
    });
    let Some((key, scalars)) = inputs else { return };
    let Some(points) = key.b_g2_query.get(1..) else { return };
    let result: G2Projective = VariableBaseMSM::msm_bigint(G2Affine::peel_slice(points), &scalars);
    CURRENT_PROOF.with_borrow_mut(|proof| {
        if let Some(proof) = proof {
            proof.g2 = Some(result);
        }
    });
}

/// Returns the result of the G2 MSM if it was computed early.
pub(crate) fn take_early_g2(bases: &[ark_bn254::G2Affine], scalars: &[BigInt<4>]) -> Option<G2Projective> {
    CURRENT_PROOF.with_borrow_mut(|proof| {
        let proof = proof.as_mut()?;
        let points = G2Affine::peel_slice(proof.key.b_g2_query.get(1..)?);
        let is_requested = std::ptr::addr_eq(bases.as_ptr(), points.as_ptr())
            && bases.len() == points.len().min(proof.scalars.len())
            && *proof.scalars == *scalars;
        if is_requested { proof.g2.take() } else { None }
    })
}
