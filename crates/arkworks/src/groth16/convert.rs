//! Converts keys and proofs from and to `Bn254`.

use crate::CardBn254;
use crate::curve::{G1Affine, G2Affine};
use ark_bn254::Bn254;
use ark_groth16::{Proof, ProvingKey, VerifyingKey};
use bytemuck::TransparentWrapperAlloc;

/// Converts a proving key, without copying its vectors of points.
///
/// A serialized key needs no conversion: deserialize it as `ProvingKey<CardBn254>`.
pub fn from_bn254_key(key: ProvingKey<Bn254>) -> ProvingKey<CardBn254> {
    ProvingKey {
        vk: VerifyingKey {
            alpha_g1: key.vk.alpha_g1.into(),
            beta_g2: key.vk.beta_g2.into(),
            gamma_g2: key.vk.gamma_g2.into(),
            delta_g2: key.vk.delta_g2.into(),
            gamma_abc_g1: G1Affine::wrap_vec(key.vk.gamma_abc_g1),
        },
        beta_g1: key.beta_g1.into(),
        delta_g1: key.delta_g1.into(),
        a_query: G1Affine::wrap_vec(key.a_query),
        b_g1_query: G1Affine::wrap_vec(key.b_g1_query),
        b_g2_query: G2Affine::wrap_vec(key.b_g2_query),
        h_query: G1Affine::wrap_vec(key.h_query),
        l_query: G1Affine::wrap_vec(key.l_query),
    }
}

/// Converts a proof, for verifiers that expect a proof over `Bn254`.
pub fn into_bn254_proof(proof: Proof<CardBn254>) -> Proof<Bn254> {
    Proof { a: proof.a.into(), b: proof.b.into(), c: proof.c.into() }
}
