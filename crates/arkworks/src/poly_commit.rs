//! Implements `MsmKey` for the committer keys of `ark-poly-commit`.

use crate::CardBn254;
use crate::curve::G1Affine;
use crate::key::MsmKey;
use ark_poly_commit::hyrax::HyraxCommitterKey;
use ark_poly_commit::ipa_pc;
use ark_poly_commit::kzg10::Powers;
use ark_poly_commit::{marlin_pc, sonic_pc};

/// Implements [`MsmKey`] for a type, from its fields.
macro_rules! impl_key {
    ($($type:ty: |$key:ident| $bases:expr;)*) => {$(
        impl MsmKey for $type {
            type Precomputed = ();

            fn bases(&self) -> Vec<(&'static str, &[G1Affine])> {
                let $key = self;
                $bases
            }

            fn precompute(&self) {}
        }
    )*};
}

impl_key! {
    // The methods of `KZG10` take this type.
    Powers<'static, CardBn254>: |key| vec![
        ("powers_of_g", &key.powers_of_g),
        ("powers_of_gamma_g", &key.powers_of_gamma_g),
    ];
    marlin_pc::CommitterKey<CardBn254>: |key| vec![
        ("powers", &key.powers),
        ("shifted_powers", key.shifted_powers.as_deref().unwrap_or_default()),
        ("powers_of_gamma_g", &key.powers_of_gamma_g),
    ];
    // Each commitment copies the hiding powers of bounded degree, so registering them would have no effect.
    sonic_pc::CommitterKey<CardBn254>: |key| vec![
        ("powers_of_g", &key.powers_of_g),
        ("powers_of_gamma_g", &key.powers_of_gamma_g),
        ("shifted_powers_of_g", key.shifted_powers_of_g.as_deref().unwrap_or_default()),
    ];
    HyraxCommitterKey<G1Affine>: |key| vec![("com_key", &key.com_key)];
    ipa_pc::CommitterKey<G1Affine>: |key| vec![("comm_key", &key.comm_key)];
}
