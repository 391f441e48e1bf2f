//! Registers the points of keys.

use crate::context::Context;
use crate::curve::G1Affine;
use crate::error::{RegisterError, RegisterKeyError};
use crate::registry::{self, DmaPoints, RegisteredSlice};
use crate::tags::Tags;
use ark_std::rand::rngs::OsRng;
use bytemuck::TransparentWrapper;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use xdma::msm::curve::arkworks::points_to_bytes;
use xdma::msm::{DataError, Points};

/// A key that contains points for MSMs: a proving key, a committer key, or a plain vector of points.
///
/// A key must not change while only shared references to it exist. This holds for every type without interior mutability. If a
/// key changes, MSMs over its points are wrong.
pub trait MsmKey: Send + Sync + 'static {
    /// Data that is computed once, when the key is registered.
    type Precomputed: Send + Sync;

    /// Returns the slices of points that MSMs use, with their names in reports and logs.
    fn bases(&self) -> Vec<(&'static str, &[G1Affine])>;

    /// Computes [`Self::Precomputed`].
    fn precompute(&self) -> Self::Precomputed;
}

impl MsmKey for Vec<G1Affine> {
    type Precomputed = ();

    fn bases(&self) -> Vec<(&'static str, &[G1Affine])> {
        vec![("points", self)]
    }

    fn precompute(&self) {}
}

/// A registered key: owns the key, and keeps a copy of its points in DMA memory. MSMs over these points, or over any contiguous
/// part of them, run on the card until the `OnCard` is dropped.
///
/// It dereferences to the key, so it can be passed wherever a reference to the key is expected. Copies of the key are not
/// registered.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ark_ec::{CurveGroup, PrimeGroup, ScalarMul, VariableBaseMSM};
/// use ark_bn254::Fr;
/// use xdma_arkworks::{Context, ContextOptions, OnCard, curve::G1Projective};
///
/// # let card = xdma_emulated_card::start_like(xdma_emulated_card::emulator::CardFile::f1(), Default::default())?;
/// let context = Context::open(&card, ContextOptions { crossover: Some(1), ..ContextOptions::default() })?;
/// let points = G1Projective::generator().batch_mul(&[1, 2, 3].map(Fr::from));
/// let points = OnCard::new(&context, points)?;
///
/// let result = G1Projective::msm(&points[1..], &[10, 100].map(Fr::from)).unwrap(); // 10 * 2 + 100 * 3
/// assert_eq!(result, G1Projective::generator() * Fr::from(320));
/// assert_eq!(context.stats().on_card, 1);
/// # Ok(())
/// # }
/// ```
pub struct OnCard<K: MsmKey> {
    pub(crate) key: Arc<K>,
    precomputed: K::Precomputed,
    context: Context,
    slices: Vec<Arc<RegisteredSlice>>,
}

impl<K: MsmKey> OnCard<K> {
    /// Copies the points of a key to DMA memory, 64 bytes each, and registers their addresses.
    ///
    /// # Errors
    ///
    /// Returns a [`RegisterKeyError`], which contains the key, if DMA memory cannot be allocated or written, if a point is not on
    /// the curve, or if the points are already registered.
    pub fn new(context: &Context, key: K) -> Result<Self, RegisterKeyError<K>> {
        let (precomputed, context) = (key.precompute(), context.clone());
        // Points stored in the key itself have their final address only inside the `Arc`.
        let mut this = Self { key: Arc::new(key), precomputed, context, slices: vec![] };
        match this.register() {
            Ok(()) => Ok(this),
            Err(source) => Err(RegisterKeyError { key: this.into_inner(), source }),
        }
    }

    /// Removes the registration and returns the key.
    pub fn into_inner(self) -> K {
        let key = Arc::clone(&self.key);
        drop(self);
        // Only proofs hold further references. They borrow `self`, so none is in progress.
        Arc::into_inner(key).expect("the key has one owner")
    }

    /// Returns the data that was [precomputed](MsmKey::precompute) from the key: for a proving key, the prepared verifying key.
    pub fn precomputed(&self) -> &K::Precomputed {
        &self.precomputed
    }

    /// Returns the context in which the key is registered.
    pub fn context(&self) -> &Context {
        &self.context
    }

    fn register(&mut self) -> Result<(), RegisterError> {
        let key = Arc::clone(&self.key);
        for (name, points) in key.bases().into_iter().filter(|(_, points)| !points.is_empty()) {
            let slice = Arc::new(self.copy_to_dma_memory(name, G1Affine::peel_slice(points))?);
            if !registry::insert(&slice) {
                return Err(RegisterError::Overlap(name));
            }
            self.slices.push(slice);
        }
        Ok(())
    }

    /// Copies points to DMA memory, and their tags if MSMs are checked.
    fn copy_to_dma_memory(
        &self,
        name: &'static str,
        points: &[ark_bn254::G1Affine],
    ) -> Result<RegisteredSlice, DataError> {
        let card = self.context.card();
        let mut dma_points = Points::allocate(card, points.len())?;
        dma_points.fill(|bytes| points_to_bytes(points, bytes))??;
        // With an invalid point, a correct card would return wrong results.
        dma_points.check()?;
        let tags = match self.context.options().check_msms {
            true => Some(Tags::new(card, points, &mut OsRng)?),
            false => None,
        };
        Ok(RegisteredSlice::new(name, points, self.context.clone(), DmaPoints::new(dma_points), tags))
    }
}

impl<K: MsmKey> Deref for OnCard<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.key
    }
}

impl<K: MsmKey> fmt::Debug for OnCard<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = self.slices.iter().map(|slice| (slice.name, slice.points.points.len()));
        f.debug_map().entries(points).finish()
    }
}

impl<K: MsmKey> Drop for OnCard<K> {
    fn drop(&mut self) {
        let slices = std::mem::take(&mut self.slices);
        if self.context.is_forked() {
            // The memory is the parent's.
            return std::mem::forget(slices);
        }
        for slice in &slices {
            registry::remove(slice);
            slice.release();
        }
        self.context.scalar_buffers().trim();
    }
}
