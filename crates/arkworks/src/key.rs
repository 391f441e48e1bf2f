//! Registers the points of keys.

use crate::context::Context;
use crate::curve::G1Affine;
use crate::error::{RegisterError, RegisterKeyError};
use crate::registry::{self, RegisteredSlice};
use bytemuck::TransparentWrapper;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use xdma_cards::PointSource;

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

/// A registered key: owns the key, and keeps a copy of its points in the DMA memory of each card. MSMs over these points, or over any
/// contiguous part of them, run on the cards until the `OnCard` is dropped.
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
    /// Copies the points of a key to the DMA memory of each card, 64 bytes each, and registers their addresses.
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
        let mut key = Arc::clone(&self.key);
        drop(self);
        loop {
            match Arc::try_unwrap(key) {
                Ok(key) => return key,
                // Proofs borrow `self`, so none is in progress. A card that is opened again at this moment still copies the points.
                Err(shared) => key = shared,
            }
            std::thread::yield_now();
        }
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
        for (index, (name, points)) in key.bases().into_iter().enumerate() {
            if points.is_empty() {
                continue;
            }
            let source = KeyPoints { key: Arc::downgrade(&key), index };
            let bases = self.context.cards().register(source)?;
            let slice = RegisteredSlice::new(name, G1Affine::peel_slice(points), self.context.clone(), bases);
            let slice = Arc::new(slice);
            if !registry::insert(&slice) {
                return Err(RegisterError::Overlap(name));
            }
            self.slices.push(slice);
        }
        Ok(())
    }
}

/// A slice of a key's points. It does not own the key, which [`OnCard::into_inner`] returns.
struct KeyPoints<K> {
    key: Weak<K>,
    index: usize,
}

impl<K: MsmKey> PointSource for KeyPoints<K> {
    fn read(&self, read: &mut dyn FnMut(&[ark_bn254::G1Affine])) {
        let Some(key) = self.key.upgrade() else { return };
        if let Some((_, points)) = key.bases().get(self.index) {
            read(G1Affine::peel_slice(points));
        }
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
        let points = self.slices.iter().map(|slice| (slice.name, slice.bases.len()));
        f.debug_map().entries(points).finish()
    }
}

impl<K: MsmKey> Drop for OnCard<K> {
    fn drop(&mut self) {
        // The cards free their copies when no MSM uses them any more.
        self.slices.drain(..).for_each(|slice| registry::remove(&slice));
    }
}
