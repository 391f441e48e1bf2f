//! Tagged points, which expose wrong MSM results.
//!
//! Each point P_i has a tag T_i = r P_i + rho_i G, with secret random r and rho_i. The card computes A = Σ s_i P_i and B = Σ s_i
//! T_i. The results match if B = r A + (Σ s_i rho_i) G. Whatever the card does, a wrong A is accepted with a probability of at
//! most 2^-128, because the tags hide r (2G2T, arXiv 2602.23464). The inner product Σ s_i rho_i is nearly all that the host
//! computes.

use crate::registry::DmaPoints;
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::scalar_mul::BatchMulPreprocessing;
use ark_ec::{AffineRepr, CurveGroup, PrimeGroup};
use ark_ff::{BigInt, UniformRand};
use ark_std::rand::{CryptoRng, Rng};
use std::sync::Arc;
use xdma::card::Card;
use xdma::msm::curve::arkworks::points_to_bytes;
use xdma::msm::{DataError, Points};
use zeroize::Zeroize;

#[cfg(feature = "parallel")]
use rayon::prelude::*;

pub(crate) struct Tags {
    pub points: Arc<DmaPoints>,
    r: [u64; 2],
    rho: Vec<Fr>,
}

impl Tags {
    /// Computes the tags of points and writes them to DMA memory.
    pub fn new(
        card: &Card,
        points: &[G1Affine],
        rng: &mut (impl Rng + CryptoRng),
    ) -> Result<Self, DataError> {
        let r: [u64; 2] = rng.r#gen();
        let rho: Vec<Fr> = (0..points.len()).map(|_| Fr::rand(rng)).collect();
        let table = BatchMulPreprocessing::new(G1Projective::generator(), points.len());
        let masks = table.batch_mul(&rho);
        #[cfg(feature = "parallel")]
        let pairs = points.par_iter().zip(&masks);
        #[cfg(not(feature = "parallel"))]
        let pairs = points.iter().zip(&masks);
        let tags: Vec<_> = pairs.map(|(point, mask)| point.mul_bigint(r) + mask).collect();
        let tags = G1Projective::normalize_batch(&tags);
        let mut dma_points = Points::allocate(card, tags.len())?;
        dma_points.fill(|bytes| points_to_bytes(&tags, bytes))??;
        Ok(Self { points: DmaPoints::new(dma_points), r, rho })
    }

    /// Returns whether the result of an MSM with these scalars matches `tag`, the result of the MSM over the tags. `first` is the
    /// index of the first point.
    pub fn verify(
        &self,
        result: &G1Projective,
        tag: &G1Projective,
        first: usize,
        scalars: &[BigInt<4>],
    ) -> bool {
        let rho = &self.rho[first..first + scalars.len()];
        *tag == result.mul_bigint(self.r) + G1Projective::generator() * inner_product(rho, scalars)
    }
}

/// Returns Σ rho_i s_i for canonical scalars s_i.
fn inner_product(rho: &[Fr], scalars: &[BigInt<4>]) -> Fr {
    // A canonical scalar s that is interpreted as Montgomery form has the value s / 2^256. One multiplication corrects the
    // whole sum.
    let product = |(rho, scalar): (&Fr, &BigInt<4>)| *rho * Fr::new_unchecked(*scalar);
    #[cfg(feature = "parallel")]
    let sum: Fr = rho.par_iter().zip(scalars).map(product).sum();
    #[cfg(not(feature = "parallel"))]
    let sum: Fr = rho.iter().zip(scalars).map(product).sum();
    sum * Fr::new_unchecked(Fr::R2)
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
        f.debug_struct("Tags").field("points", &self.points).finish_non_exhaustive()
    }
}
