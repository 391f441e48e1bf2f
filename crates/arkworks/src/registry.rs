//! Finds registered points by their address.
//!
//! An address identifies points only as long as their owner keeps them, unchanged: [`OnCard`](crate::OnCard) owns a key, gives
//! out shared references only, and removes its entries when it is dropped. Address and length alone would not do: the memory of
//! a dropped key is used again for other points.

use crate::context::Context;
use crate::tags::Tags;
use ark_bn254::G1Affine;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use xdma::msm::Points;

/// The registered slices by the address of their first point. They do not overlap.
static REGISTERED: RwLock<BTreeMap<usize, Arc<Registration>>> = RwLock::new(BTreeMap::new());
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Points in memory that the card reads.
#[derive(Debug)]
pub(crate) struct CardPoints {
    pub id: u64,
    pub points: Points,
    /// Cleared when the owner is dropped. Prepared jobs with these points are then dropped too.
    in_use: AtomicBool,
}

impl CardPoints {
    pub fn new(points: Points) -> Arc<Self> {
        Arc::new(Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), points, in_use: AtomicBool::new(true) })
    }

    pub fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed)
    }

    pub fn release(&self) {
        self.in_use.store(false, Ordering::Relaxed);
    }
}

/// A slice of points that is on a card.
#[derive(Debug)]
pub(crate) struct Registration {
    /// The slice's name in its key, such as `a_query`.
    pub name: &'static str,
    pub context: Context,
    pub points: Arc<CardPoints>,
    /// For checked sums.
    pub tags: Option<Tags>,
    /// The addresses of the slice.
    addresses: Range<usize>,
}

impl Registration {
    pub fn new(
        name: &'static str,
        slice: &[G1Affine],
        context: Context,
        points: Arc<CardPoints>,
        tags: Option<Tags>,
    ) -> Self {
        Self { name, context, points, tags, addresses: addresses(slice) }
    }

    /// Lets go of the memory, as soon as no sum uses it.
    pub fn release(&self) {
        self.points.release();
        if let Some(tags) = &self.tags {
            tags.points.release();
        }
    }
}

fn addresses(slice: &[G1Affine]) -> Range<usize> {
    let range = slice.as_ptr_range();
    range.start.addr()..range.end.addr()
}

/// Adds a slice, unless it overlaps a registered one.
pub(crate) fn insert(registration: &Arc<Registration>) -> bool {
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    let Range { start, end } = registration.addresses;
    let before = registered.range(..end).next_back();
    if before.is_some_and(|(_, other)| other.addresses.end > start) {
        return false;
    }
    registered.insert(start, Arc::clone(registration));
    true
}

/// Removes a slice that was added.
pub(crate) fn remove(registration: &Arc<Registration>) {
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    registered.remove(&registration.addresses.start);
}

/// Returns the registered slice that contains `bases`, and the index of the first of them in it.
pub(crate) fn find(bases: &[G1Affine]) -> Option<(Arc<Registration>, usize)> {
    let Range { start, end } = addresses(bases);
    let registered = REGISTERED.read().unwrap_or_else(PoisonError::into_inner);
    let (_, found) = registered.range(..=start).next_back()?;
    // A part of a slice begins a whole number of points into it.
    let offset = (start - found.addresses.start) / size_of::<G1Affine>();
    (end <= found.addresses.end).then(|| (found.clone(), offset))
}
