//! Keys whose points are on a card.

use crate::context::Context;
use crate::curve::G1Affine;
use crate::error::{OnCardError, RegisterError};
use crate::registry::{self, CardPoints, Registration};
use crate::tags::Tags;
use ark_std::rand::rngs::OsRng;
use bytemuck::TransparentWrapper;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use xdma::msm::curve::arkworks::points_to_bytes;
use xdma::msm::{DataError, Points};

/// A key with points for sums: a proving key, a committer key, or a plain vector of points.
///
/// A key must not change as long as only shared references to it exist; this is so for all types without interior mutability. If
/// it does change, sums over its points are wrong.
pub trait Key: Send + Sync + 'static {
    /// Data that is computed once when the key is put on a card.
    type Prepared: Send + Sync;

    /// Returns the slices of points that sums use, with names for logs.
    fn bases(&self) -> Vec<(&'static str, &[G1Affine])>;

    /// Computes [`Self::Prepared`].
    fn prepare(&self) -> Self::Prepared;
}

impl Key for Vec<G1Affine> {
    type Prepared = ();

    fn bases(&self) -> Vec<(&'static str, &[G1Affine])> {
        vec![("points", self)]
    }

    fn prepare(&self) {}
}

/// Owns a key, and keeps a copy of its points in memory that the card reads. Sums over its points, or over any part of them, run
/// on the card, until it is dropped.
///
/// It dereferences to the key, so that it can be passed wherever a reference to the key is expected. Copies of the key are not
/// on the card.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ark_ec::{CurveGroup, PrimeGroup, ScalarMul, VariableBaseMSM};
/// use ark_bn254::Fr;
/// use xdma_arkworks::{Context, OnCard, Options, curve::G1Projective};
///
/// # let card = xdma_emulated_card::start_like(xdma_emulated_card::emulator::CardFile::f1(), Default::default())?;
/// let context = Context::open(&card, Options { crossover: Some(1), ..Options::default() })?;
/// let points = G1Projective::generator().batch_mul(&[1, 2, 3].map(Fr::from));
/// let points = OnCard::new(&context, points)?;
///
/// let sum = G1Projective::msm(&points[1..], &[10, 100].map(Fr::from)).unwrap(); // 10 * 2 + 100 * 3
/// assert_eq!(sum, G1Projective::generator() * Fr::from(320));
/// assert_eq!(context.stats().on_card, 1);
/// # Ok(())
/// # }
/// ```
pub struct OnCard<K: Key> {
    pub(crate) key: Arc<K>,
    prepared: K::Prepared,
    context: Context,
    registrations: Vec<Arc<Registration>>,
}

impl<K: Key> OnCard<K> {
    /// Copies the points of a key to memory that the card reads, 64 bytes each, and registers their addresses.
    ///
    /// # Errors
    ///
    /// [`OnCardError`], which returns the key.
    pub fn new(context: &Context, key: K) -> Result<Self, OnCardError<K>> {
        let (prepared, context) = (key.prepare(), context.clone());
        // Points inside the key itself get their final address here.
        let mut this = Self { key: Arc::new(key), prepared, context, registrations: vec![] };
        match this.register() {
            Ok(()) => Ok(this),
            Err(source) => Err(OnCardError { key: this.into_inner(), source }),
        }
    }

    /// Takes the key off the card.
    pub fn into_inner(self) -> K {
        let key = Arc::clone(&self.key);
        drop(self);
        // Proofs have their own reference, and borrow `self`, so none is in progress.
        Arc::into_inner(key).expect("the key has one owner")
    }

    /// Returns what was [prepared](Key::prepare) with the key: the prepared verifying key of a proving key.
    pub fn prepared(&self) -> &K::Prepared {
        &self.prepared
    }

    /// Returns the context of the card.
    pub fn context(&self) -> &Context {
        &self.context
    }

    fn register(&mut self) -> Result<(), RegisterError> {
        let key = Arc::clone(&self.key);
        for (name, slice) in key.bases().into_iter().filter(|(_, slice)| !slice.is_empty()) {
            let registration = Arc::new(self.copy(name, G1Affine::peel_slice(slice))?);
            if !registry::insert(&registration) {
                return Err(RegisterError::Overlap(name));
            }
            self.registrations.push(registration);
        }
        Ok(())
    }

    /// Copies a slice of points to memory that the card reads.
    fn copy(&self, name: &'static str, slice: &[ark_bn254::G1Affine]) -> Result<Registration, DataError> {
        let card = self.context.card();
        let mut points = Points::allocate(card, slice.len())?;
        points.fill(|bytes| points_to_bytes(slice, bytes))??;
        let tags = match self.context.options().check_sums {
            true => Some(Tags::new(card, slice, &mut OsRng)?),
            false => None,
        };
        Ok(Registration::new(name, slice, self.context.clone(), CardPoints::new(points), tags))
    }
}

impl<K: Key> Deref for OnCard<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.key
    }
}

impl<K: Key> fmt::Debug for OnCard<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = self.registrations.iter().map(|slice| (slice.name, slice.points.points.len()));
        f.debug_map().entries(points).finish()
    }
}

impl<K: Key> Drop for OnCard<K> {
    fn drop(&mut self) {
        for registration in self.registrations.drain(..) {
            registry::remove(&registration);
            registration.release();
        }
        self.context.slots().trim();
    }
}
