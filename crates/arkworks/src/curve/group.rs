//! The wrapper types of a group, with the traits that arkworks requires.

/// Defines the wrapper types of a group and implements their traits.
macro_rules! impl_group {
    (
        $(#[$affine_doc:meta])* $affine:ident: $ark_affine:ty,
        $(#[$group_doc:meta])* $group:ident: $ark_group:ty,
        $config:ty, $field:ty, $prepared:ty, $msm:path
    ) => {
        $(#[$affine_doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, Hash, Default,
            ark_serialize::CanonicalSerialize, ark_serialize::CanonicalDeserialize, bytemuck::TransparentWrapper,
        )]
        #[repr(transparent)]
        pub struct $affine(pub $ark_affine);

        $(#[$group_doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, Hash, Default,
            ark_serialize::CanonicalSerialize, ark_serialize::CanonicalDeserialize, bytemuck::TransparentWrapper,
        )]
        #[repr(transparent)]
        pub struct $group(pub $ark_group);

        const _: () = {
            use ark_bn254::Fr;
            use ark_ec::short_weierstrass::Bucket;
            use ark_ec::{AffineRepr, CurveGroup, PrimeGroup, ScalarMul, VariableBaseMSM};
            use ark_ff::{AdditiveGroup, BigInt};
            use bytemuck::{TransparentWrapper, TransparentWrapperAlloc};

            impl VariableBaseMSM for $group {
                type Bucket = Bucket<$config>;
                const ZERO_BUCKET: Self::Bucket = Bucket::ZERO;

                /// All MSMs of provers end in this method.
                fn msm_bigint(bases: &[$affine], scalars: &[BigInt<4>]) -> Self {
                    let count = bases.len().min(scalars.len());
                    Self($msm($affine::peel_slice(&bases[..count]), &scalars[..count]))
                }
            }

            impl PrimeGroup for $group {
                type ScalarField = Fr;

                fn generator() -> Self {
                    Self(PrimeGroup::generator())
                }

                /// Delegates, so that the curve's endomorphism is used.
                fn mul_bigint(&self, by: impl AsRef<[u64]>) -> Self {
                    Self(self.0.mul_bigint(by))
                }
            }

            impl AdditiveGroup for $group {
                type Scalar = Fr;
                const ZERO: Self = Self(<$ark_group>::ZERO);

                fn double_in_place(&mut self) -> &mut Self {
                    self.0.double_in_place();
                    self
                }
            }

            impl ScalarMul for $group {
                type MulBase = $affine;
                const NEGATION_IS_CHEAP: bool = <$ark_group>::NEGATION_IS_CHEAP;

                fn batch_convert_to_mul_base(bases: &[Self]) -> Vec<$affine> {
                    Self::normalize_batch(bases)
                }
            }

            impl CurveGroup for $group {
                type Config = $config;
                type BaseField = $field;
                type Affine = $affine;
                type FullGroup = $affine;

                fn normalize_batch(points: &[Self]) -> Vec<$affine> {
                    $affine::wrap_vec(<$ark_group>::normalize_batch(Self::peel_slice(points)))
                }
            }

            impl AffineRepr for $affine {
                type Config = $config;
                type BaseField = $field;
                type ScalarField = Fr;
                type Group = $group;
                const GENERATOR: Self = Self(<$ark_affine>::GENERATOR);
                const ZERO: Self = Self(<$ark_affine>::ZERO);

                fn xy(&self) -> Option<($field, $field)> {
                    self.0.xy()
                }

                fn zero() -> Self {
                    Self::ZERO
                }

                fn is_zero(&self) -> bool {
                    self.0.is_zero()
                }

                fn generator() -> Self {
                    Self::GENERATOR
                }

                fn from_random_bytes(bytes: &[u8]) -> Option<Self> {
                    <$ark_affine>::from_random_bytes(bytes).map(Self)
                }

                fn mul_bigint(&self, by: impl AsRef<[u64]>) -> $group {
                    $group(self.0.mul_bigint(by))
                }

                fn clear_cofactor(&self) -> Self {
                    Self(self.0.clear_cofactor())
                }

                fn mul_by_cofactor_to_group(&self) -> $group {
                    $group(self.0.mul_by_cofactor_to_group())
                }
            }

            impl From<$affine> for $prepared {
                fn from(point: $affine) -> Self {
                    point.0.into()
                }
            }

            impl From<$group> for $prepared {
                fn from(point: $group) -> Self {
                    point.0.into()
                }
            }

            crate::curve::operators::impl_operators! { $affine: $ark_affine, $group: $ark_group, $config }
        };
    };
}

pub(super) use impl_group;
