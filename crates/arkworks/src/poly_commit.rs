//! Committer keys of `ark-poly-commit`.

use crate::CardBn254;
use crate::curve::G1Affine;
use crate::key::Key;
use ark_poly_commit::hyrax::HyraxCommitterKey;
use ark_poly_commit::ipa_pc;
use ark_poly_commit::kzg10::Powers;
use ark_poly_commit::{marlin_pc, sonic_pc};

/// Implements [`Key`] for a type from its fields.
macro_rules! key {
    ($($type:ty: |$key:ident| $bases:expr;)*) => {$(
        impl Key for $type {
            type Prepared = ();

            fn bases(&self) -> Vec<(&'static str, &[G1Affine])> {
                let $key = self;
                $bases
            }

            fn prepare(&self) {}
        }
    )*};
}

key! {
    // KZG10's own calls take these.
    Powers<'static, CardBn254>: |key| vec![
        ("powers_of_g", &key.powers_of_g),
        ("powers_of_gamma_g", &key.powers_of_gamma_g),
    ];
    marlin_pc::CommitterKey<CardBn254>: |key| vec![
        ("powers", &key.powers),
        ("shifted_powers", key.shifted_powers.as_deref().unwrap_or_default()),
        ("powers_of_gamma_g", &key.powers_of_gamma_g),
    ];
    // The hiding powers of bounded degree are copied by each commitment, so that they could not be found.
    sonic_pc::CommitterKey<CardBn254>: |key| vec![
        ("powers_of_g", &key.powers_of_g),
        ("powers_of_gamma_g", &key.powers_of_gamma_g),
        ("shifted_powers_of_g", key.shifted_powers_of_g.as_deref().unwrap_or_default()),
    ];
    HyraxCommitterKey<G1Affine>: |key| vec![("com_key", &key.com_key)];
    ipa_pc::CommitterKey<G1Affine>: |key| vec![("comm_key", &key.comm_key)];
}
