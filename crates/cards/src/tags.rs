//! Tagged points, which expose wrong results.
//!
//! Each point P_i has a tag T_i = r P_i + rho_i G, with secret random r and rho_i. The card computes A = Σ s_i P_i and B = Σ s_i
//! T_i. The results match if B = r A + (Σ s_i rho_i) G. Whatever the card does, a wrong A is accepted with a probability of at
//! most 2^-128, because the tags hide r (2G2T, arXiv 2602.23464). The host computes little more than the inner product Σ s_i rho_i.

use crate::scalars::Slice;
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::scalar_mul::BatchMulPreprocessing;
use ark_ec::{AffineRepr, CurveGroup, PrimeGroup};
use ark_ff::{BigInt, UniformRand};
use ark_std::rand::{CryptoRng, Rng};
use std::ops::Range;
use zeroize::Zeroize;

#[cfg(feature = "parallel")]
use rayon::prelude::*;

pub(crate) struct Tags {
    /// The tags of the points, which are not secret.
    pub points: Vec<G1Affine>,
    r: [u64; 2],
    rho: Vec<Fr>,
}

impl Tags {
    /// Computes the tags of points.
    pub fn new(points: &[G1Affine], rng: &mut (impl Rng + CryptoRng)) -> Self {
        let r: [u64; 2] = rng.r#gen();
        let rho: Vec<Fr> = (0..points.len()).map(|_| Fr::rand(rng)).collect();
        let table = BatchMulPreprocessing::new(G1Projective::generator(), points.len());
        let masks = table.batch_mul(&rho);
        #[cfg(feature = "parallel")]
        let pairs = points.par_iter().zip(&masks);
        #[cfg(not(feature = "parallel"))]
        let pairs = points.iter().zip(&masks);
        let tags: Vec<_> = pairs.map(|(point, mask)| point.mul_bigint(r) + mask).collect();
        Self { points: G1Projective::normalize_batch(&tags), r, rho }
    }

    /// Returns whether the result of an MSM matches `tag`, the result of the MSM with the same scalars over the tags.
    pub fn verify(
        &self,
        result: &G1Projective,
        tag: &G1Projective,
        points: Range<usize>,
        scalars: Slice<'_>,
    ) -> bool {
        let rho = &self.rho[points];
        let masks = match scalars {
            // A canonical scalar s, interpreted as Montgomery form, has the value s / 2^256. One multiplication corrects the whole sum.
            Slice::Canonical(scalars) => {
                let montgomery = |scalar: &BigInt<4>| Fr::new_unchecked(*scalar);
                inner_product(rho, scalars, montgomery) * Fr::new_unchecked(Fr::R2)
            }
            Slice::Montgomery(scalars) => inner_product(rho, scalars, |scalar| *scalar),
        };
        *tag == result.mul_bigint(self.r) + G1Projective::generator() * masks
    }
}

fn inner_product<T: Sync>(rho: &[Fr], scalars: &[T], montgomery: impl Fn(&T) -> Fr + Sync + Send) -> Fr {
    let product = |(rho, scalar): (&Fr, &T)| *rho * montgomery(scalar);
    #[cfg(feature = "parallel")]
    return rho.par_iter().zip(scalars).map(product).sum();
    #[cfg(not(feature = "parallel"))]
    return rho.iter().zip(scalars).map(product).sum();
}

impl Drop for Tags {
    fn drop(&mut self) {
        self.r.zeroize();
        self.rho.zeroize();
    }
}

/// Does not show the secrets.
impl std::fmt::Debug for Tags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tags").field("points", &self.points.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scalars;
    use ark_ff::PrimeField;
    use ark_std::rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn only_the_right_sum_matches_in_both_forms() {
        let mut rng = StdRng::seed_from_u64(1);
        let points: Vec<G1Affine> = (0..20).map(|_| G1Affine::rand(&mut rng)).collect();
        let scalars: Vec<Fr> = (0..10).map(|_| Fr::rand(&mut rng)).collect();
        let tags = Tags::new(&points, &mut rng);
        // Not `VariableBaseMSM`, whose generic code would be compiled for this test alone.
        let sum = |points: &[G1Affine]| {
            points.iter().zip(&scalars).map(|(&point, scalar)| point * scalar).sum::<G1Projective>()
        };
        let (right, tag) = (sum(&points[5..15]), sum(&tags.points[5..15]));
        let canonical: Vec<_> = scalars.iter().map(|scalar| scalar.into_bigint()).collect();
        for scalars in [Scalars::from_fr(scalars.clone()), Scalars::from_canonical(canonical).unwrap()] {
            let verify = |result: &G1Projective, tag: &G1Projective, first: usize| {
                tags.verify(result, tag, first..first + 10, scalars.slice(&(0..10)))
            };
            assert!(verify(&right, &tag, 5));
            assert!(!verify(&sum(&points[4..14]), &tag, 5));
            assert!(!verify(&(right + points[0]), &tag, 5));
            assert!(!verify(&right, &tag, 6));
            // Both sums over one wrong scalar: without the masks, these would match.
            let error = Fr::from(3);
            assert!(!verify(&(right + points[7] * error), &(tag + tags.points[7] * error), 5));
        }
    }
}
