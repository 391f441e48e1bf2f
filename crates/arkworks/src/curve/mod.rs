//! BN254 with an MSM that can run on the card.
//!
//! The types wrap those of `ark_bn254` (`repr(transparent)`) and delegate all arithmetic to them. Slices and vectors convert
//! without a copy. Only `msm_bigint` differs. A custom curve configuration would not be enough: `ark-groth16` and
//! `ark-poly-commit` call only `msm_bigint`, from which `ark_ec` never calls the configuration's `msm`.

mod group;
mod operators;

use crate::msm;
use ark_bn254::{Bn254, Fq, Fq2, Fq12, Fr};
use ark_ec::bn;
use ark_ec::pairing::{MillerLoopOutput, Pairing, PairingOutput};
use group::impl_group;

impl_group! {
    /// A point of G1 in affine form: an [`ark_bn254::G1Affine`].
    G1Affine: ark_bn254::G1Affine,
    /// A point of G1 in projective form: an [`ark_bn254::G1Projective`] whose MSMs over registered points run on the card.
    G1Projective: ark_bn254::G1Projective,
    ark_bn254::g1::Config, Fq, bn::G1Prepared<ark_bn254::Config>, msm::msm_g1
}

impl_group! {
    /// A point of G2 in affine form: an [`ark_bn254::G2Affine`].
    G2Affine: ark_bn254::G2Affine,
    /// A point of G2 in projective form: an [`ark_bn254::G2Projective`]. Its MSMs run on the CPU. In
    /// [`OnCard::prove`](crate::OnCard::prove), the G2 MSM runs while the card computes H.
    G2Projective: ark_bn254::G2Projective,
    ark_bn254::g2::Config, Fq2, bn::G2Prepared<ark_bn254::Config>, msm::msm_g2
}

/// BN254 with G1 MSMs on the card: a drop-in replacement for [`ark_bn254::Bn254`] in provers that are generic over the curve.
/// Proofs, keys and commitments serialize to the same bytes.
///
/// ```
/// use ark_bn254::Bn254;
/// use ark_ec::{AffineRepr, pairing::Pairing};
/// use xdma_arkworks::CardBn254;
/// use xdma_arkworks::curve::{G1Affine, G2Affine};
///
/// let ours = CardBn254::pairing(G1Affine::generator(), G2Affine::generator());
/// let stock = Bn254::pairing(ark_bn254::G1Affine::generator(), ark_bn254::G2Affine::generator());
/// assert_eq!(ours.0, stock.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardBn254;

impl Pairing for CardBn254 {
    type BaseField = Fq;
    type ScalarField = Fr;
    type G1 = G1Projective;
    type G1Affine = G1Affine;
    type G1Prepared = bn::G1Prepared<ark_bn254::Config>;
    type G2 = G2Projective;
    type G2Affine = G2Affine;
    type G2Prepared = bn::G2Prepared<ark_bn254::Config>;
    type TargetField = Fq12;

    fn multi_miller_loop(
        a: impl IntoIterator<Item = impl Into<Self::G1Prepared>>,
        b: impl IntoIterator<Item = impl Into<Self::G2Prepared>>,
    ) -> MillerLoopOutput<Self> {
        MillerLoopOutput(Bn254::multi_miller_loop(a, b).0)
    }

    fn final_exponentiation(loops: MillerLoopOutput<Self>) -> Option<PairingOutput<Self>> {
        Bn254::final_exponentiation(MillerLoopOutput(loops.0)).map(|output| PairingOutput(output.0))
    }
}
