//! Sums of a proof that begin before the prover asks for them.
//!
//! The prover of `ark-groth16` is serial: it makes the scalars of H, and asks for H, L, A, B1 and the sum in G2, in this order. But
//! it makes the scalars of H by a type parameter, [`R1CSToQAP`], which gets the whole assignment. [`Overlapped`] starts A, B1 and L
//! there, so that the card computes while the CPU transforms. When the prover asks for H, the card computes that, and the CPU the
//! sum in G2.
//!
//! The trait's methods have no parameter for a key, so the proof of a thread is thread-local. What begins early is given out only
//! for the same points and equal scalars, so a foreign sum that a thread of a pool runs in between gets what it asks for.

use crate::CardBn254;
use crate::curve::{G1Affine, G2Affine};
use crate::error::SumError;
use crate::registry::{self, Registration};
use crate::report::{Place, add};
use crate::sum;
use crate::worker::Pending;
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

#[cfg(feature = "parallel")]
use rayon::prelude::*;

thread_local! {
    /// The proof that this thread makes. Never borrowed while something is computed, since rayon can run another sum on this thread
    /// meanwhile.
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// The state of a proof.
struct Current {
    key: Arc<ProvingKey<CardBn254>>,
    on_cpu: bool,
    /// The assignment without the leading one, canonical.
    scalars: Arc<[BigInt<4>]>,
    early: Option<Early>,
    g2: Option<G2Projective>,
}

/// Sums that the card computes, with the assignment as scalars.
struct Early {
    pending: Pending,
    sums: Vec<EarlySum>,
}

struct EarlySum {
    registration: Arc<Registration>,
    /// The index of the first point in the registered slice.
    offset: usize,
    /// The index of the first scalar.
    first: usize,
    pairs: usize,
    /// The index of its product in the batch.
    product: usize,
}

/// Makes a proof the current one of this thread, until it is dropped.
pub(super) struct Scope {
    previous: Option<Current>,
}

impl Scope {
    pub fn enter(key: Arc<ProvingKey<CardBn254>>, on_cpu: bool) -> Self {
        let current = Current { key, on_cpu, scalars: Arc::default(), early: None, g2: None };
        Self { previous: CURRENT.replace(Some(current)) }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        drop(CURRENT.replace(self.previous.take()));
    }
}

/// A reduction that starts the sums A, B1 and L before it makes the scalars of H.
pub(super) struct Overlapped<QAP>(PhantomData<QAP>);

impl<QAP: R1CSToQAP> R1CSToQAP for Overlapped<QAP> {
    fn instance_map_with_evaluation<F: PrimeField, D: EvaluationDomain<F>>(
        cs: ConstraintSystemRef<F>,
        t: &F,
    ) -> Result<(Vec<F>, Vec<F>, Vec<F>, F, usize, usize), SynthesisError> {
        QAP::instance_map_with_evaluation::<F, D>(cs, t)
    }

    fn witness_map_from_matrices<F: PrimeField, D: EvaluationDomain<F>>(
        matrices: &[Matrix<F>],
        inputs: usize,
        constraints: usize,
        assignment: &[F],
    ) -> Result<Vec<F>, SynthesisError> {
        if F::MODULUS.as_ref() == Fr::MODULUS.as_ref() && !assignment.is_empty() {
            start(&assignment[1..], inputs);
        }
        QAP::witness_map_from_matrices::<F, D>(matrices, inputs, constraints, assignment)
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

/// Starts the sums over an assignment, which comes without its leading one.
fn start<F: PrimeField>(assignment: &[F], inputs: usize) {
    let key = CURRENT.with_borrow(|current| {
        let current = current.as_ref()?;
        (!current.on_cpu).then(|| Arc::clone(&current.key))
    });
    let Some(key) = key else { return };
    let scalars = canonical(assignment);
    let early = start_sums(&key, &scalars, inputs);
    CURRENT.with_borrow_mut(|current| {
        if let Some(current) = current {
            (current.scalars, current.early) = (scalars, early);
        }
    });
}

fn canonical<F: PrimeField>(assignment: &[F]) -> Arc<[BigInt<4>]> {
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

fn start_sums(key: &ProvingKey<CardBn254>, scalars: &[BigInt<4>], inputs: usize) -> Option<Early> {
    let private = inputs.checked_sub(1)?;
    // A and B1 leave out the point of the leading one, and L has no points of public inputs.
    let queries = [(key.a_query.get(1..)?, 0), (key.b_g1_query.get(1..)?, 0), (&key.l_query[..], private)];
    let (mut products, mut sums, mut context) = (vec![], vec![], None);
    for (points, first) in queries {
        let pairs = points.len().min(scalars.len().checked_sub(first)?);
        let points = G1Affine::peel_slice(&points[..pairs]);
        let Some((registration, offset)) = registry::find(points) else { continue };
        let fits = pairs > 0 && pairs <= registration.context.max_pairs();
        if !fits || !matches!(sum::place(&registration.context, pairs), Place::Card) {
            continue;
        }
        let product = products.len();
        products.extend(sum::products(&registration, offset, first..first + pairs));
        context = Some(registration.context.clone());
        sums.push(EarlySum { registration, offset, first, pairs, product });
    }
    // Errors appear again when the prover asks for the sums.
    let pending = sum::start(&context?, scalars, products).ok()?;
    Some(Early { pending, sums })
}

/// Returns whether the current proof is made without the card.
pub(crate) fn is_cpu_only() -> bool {
    CURRENT.with_borrow(|current| current.as_ref().is_some_and(|current| current.on_cpu))
}

/// Returns a sum that began early, as soon as the card has computed it.
pub(crate) fn take_g1(
    registration: &Registration,
    offset: usize,
    scalars: &[BigInt<4>],
) -> Option<Result<G1Projective, SumError>> {
    let (mut early, product) = CURRENT.with_borrow_mut(|current| {
        let current = current.as_mut()?;
        let is_wanted = |sum: &EarlySum| {
            sum.registration.points.id == registration.points.id
                && sum.offset == offset
                && sum.pairs == scalars.len()
                && current.scalars[sum.first..sum.first + sum.pairs] == *scalars
        };
        let at = current.early.as_ref()?.sums.iter().position(is_wanted)?;
        let mut early = current.early.take()?;
        let product = early.sums.swap_remove(at).product;
        Some((early, product))
    })?;
    add(&registration.context.counters().early, 1);
    let sum = sum::result(registration, &mut early.pending, product, offset, scalars);
    CURRENT.with_borrow_mut(|current| {
        if let Some(current) = current {
            current.early = Some(early);
        }
    });
    Some(sum)
}

/// If `bases` are those of the current proof's H: computes the sum in G2, for which the prover will ask next.
pub(crate) fn compute_g2_meanwhile(bases: &[ark_bn254::G1Affine]) {
    let wanted = CURRENT.with_borrow(|current| {
        let current = current.as_ref()?;
        let is_h = std::ptr::addr_eq(bases.as_ptr(), current.key.h_query.as_ptr());
        (is_h && !current.scalars.is_empty())
            .then(|| (Arc::clone(&current.key), Arc::clone(&current.scalars)))
    });
    let Some((key, scalars)) = wanted else { return };
    let Some(points) = key.b_g2_query.get(1..) else { return };
    let sum: G2Projective = VariableBaseMSM::msm_bigint(G2Affine::peel_slice(points), &scalars);
    CURRENT.with_borrow_mut(|current| {
        if let Some(current) = current {
            current.g2 = Some(sum);
        }
    });
}

/// Returns the sum in G2, if it was computed early.
pub(crate) fn take_g2(bases: &[ark_bn254::G2Affine], scalars: &[BigInt<4>]) -> Option<G2Projective> {
    CURRENT.with_borrow_mut(|current| {
        let current = current.as_mut()?;
        let points = G2Affine::peel_slice(current.key.b_g2_query.get(1..)?);
        let is_wanted = std::ptr::addr_eq(bases.as_ptr(), points.as_ptr())
            && bases.len() == points.len().min(current.scalars.len())
            && *current.scalars == *scalars;
        if is_wanted { current.g2.take() } else { None }
    })
}
