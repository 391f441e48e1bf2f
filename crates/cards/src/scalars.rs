//! The scalars of sums, in the caller's memory.

use crate::error::ScalarsError;
use ark_bn254::Fr;
use ark_ff::{BigInt, PrimeField};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use xdma::msm::ScalarForm;
use xdma::regs::msm::SCALAR_BYTES;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Scalars for any number of sums. Each card copies only its parts, 32 bytes a scalar, and copies a part once even if several
/// sums use it. Clones refer to the same scalars.
///
/// The caller's vector is moved in and kept until the last clone and the last sum that uses it are dropped. Pass an `Arc<[_]>` to
/// keep using it.
///
/// ```
/// use ark_bn254::Fr;
/// use ark_ff::PrimeField;
/// use xdma_cards::Scalars;
///
/// let scalars = Scalars::from_fr(vec![Fr::from(1), Fr::from(2)]);
/// assert_eq!(scalars.len(), 2);
/// assert!(Scalars::from_canonical(vec![Fr::MODULUS]).is_err());
/// ```
#[derive(Clone)]
pub struct Scalars {
    /// Identifies the contents. Unlike an address, an ID is never reused.
    pub(crate) id: u64,
    source: Arc<Source>,
}

enum Source {
    Canonical(Box<dyn AsRef<[BigInt<4>]> + Send + Sync>),
    Montgomery(Box<dyn AsRef<[Fr]> + Send + Sync>),
}

impl Scalars {
    /// Uses field elements. They are sent in Montgomery form, in which arkworks stores them, and converted by the card.
    pub fn from_fr(scalars: impl AsRef<[Fr]> + Send + Sync + 'static) -> Self {
        Self::new(Source::Montgomery(Box::new(scalars)))
    }

    /// Uses numbers below the group order.
    ///
    /// # Errors
    ///
    /// Returns a [`ScalarsError`] with the first scalar that is not below the group order.
    pub fn from_canonical(
        scalars: impl AsRef<[BigInt<4>]> + Send + Sync + 'static,
    ) -> Result<Self, ScalarsError> {
        match scalars.as_ref().iter().position(|scalar| *scalar >= Fr::MODULUS) {
            Some(index) => Err(ScalarsError::NotCanonical { index }),
            None => Ok(Self::new(Source::Canonical(Box::new(scalars)))),
        }
    }

    fn new(source: Source) -> Self {
        Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), source: Arc::new(source) }
    }

    /// Returns the number of scalars.
    pub fn len(&self) -> usize {
        match &*self.source {
            Source::Canonical(scalars) => (**scalars).as_ref().len(),
            Source::Montgomery(scalars) => (**scalars).as_ref().len(),
        }
    }

    /// Returns whether there are no scalars.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn form(&self) -> ScalarForm {
        match &*self.source {
            Source::Canonical(_) => ScalarForm::Canonical,
            Source::Montgomery(_) => ScalarForm::Montgomery,
        }
    }

    /// Writes the scalars in `range` to the start of `bytes`, little-endian, in this [form](Self::form).
    pub(crate) fn write(&self, range: &Range<usize>, bytes: &mut [u8]) {
        match self.slice(range) {
            Slice::Canonical(scalars) => write(scalars.iter().map(|scalar| &scalar.0), bytes),
            Slice::Montgomery(scalars) => write(scalars.iter().map(|scalar| &scalar.0.0), bytes),
        }
    }

    /// Returns the scalars in `range`, which must not exceed their number.
    pub(crate) fn slice(&self, range: &Range<usize>) -> Slice<'_> {
        match &*self.source {
            Source::Canonical(scalars) => Slice::Canonical(&(**scalars).as_ref()[range.clone()]),
            Source::Montgomery(scalars) => Slice::Montgomery(&(**scalars).as_ref()[range.clone()]),
        }
    }
}

/// A range of scalars.
#[derive(Clone, Copy)]
pub(crate) enum Slice<'a> {
    Canonical(&'a [BigInt<4>]),
    Montgomery(&'a [Fr]),
}

fn write<'a>(scalars: impl Iterator<Item = &'a [u64; 4]>, bytes: &mut [u8]) {
    for (limbs, bytes) in scalars.zip(bytes.as_chunks_mut::<SCALAR_BYTES>().0) {
        for (limb, bytes) in limbs.iter().zip(bytes.as_chunks_mut::<8>().0) {
            *bytes = limb.to_le_bytes();
        }
    }
}

/// Does not show the scalars, which can be secret.
impl fmt::Debug for Scalars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scalars")
            .field("len", &self.len())
            .field("form", &self.form())
            .finish_non_exhaustive()
    }
}
