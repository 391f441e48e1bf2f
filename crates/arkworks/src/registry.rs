//! Finds registered points by their address.
//!
//! An address identifies points only while their owner keeps them unchanged. [`OnCard`](crate::OnCard) guarantees this: it owns
//! the key, gives out only shared references, and removes its slices from the registry when it is dropped. Without an owner,
//! address and length would not identify points, because the allocator reuses the memory of a dropped key.

use crate::context::Context;
use ark_bn254::G1Affine;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};
use xdma_cards::Bases;

/// The registered slices, by the address of their first point. They do not overlap.
static REGISTERED: RwLock<BTreeMap<usize, Arc<RegisteredSlice>>> = RwLock::new(BTreeMap::new());
/// A registered slice of points.
#[derive(Debug)]
pub(crate) struct RegisteredSlice {
    /// The slice's name in its key, such as `a_query`.
    pub name: &'static str,
    pub context: Context,
    pub bases: Bases,
    /// The addresses of the slice.
    addresses: Range<usize>,
}

impl RegisteredSlice {
    pub fn new(name: &'static str, slice: &[G1Affine], context: Context, bases: Bases) -> Self {
        Self { name, context, bases, addresses: addresses(slice) }
    }

    /// Returns whether it is this slice.
    pub fn is(&self, slice: &[G1Affine]) -> bool {
        self.addresses == addresses(slice)
    }
}

fn addresses(slice: &[G1Affine]) -> Range<usize> {
    let range = slice.as_ptr_range();
    range.start.addr()..range.end.addr()
}

/// Adds a slice, and returns whether it was added. A slice that overlaps a registered one is not.
pub(crate) fn insert(slice: &Arc<RegisteredSlice>) -> bool {
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    let Range { start, end } = slice.addresses;
    let previous = registered.range(..end).next_back();
    if previous.is_some_and(|(_, other)| other.addresses.end > start) {
        return false;
    }
    registered.insert(start, Arc::clone(slice));
    true
}

/// Removes a slice that was added.
pub(crate) fn remove(slice: &Arc<RegisteredSlice>) {
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    registered.remove(&slice.addresses.start);
}

/// Returns the registered slice that contains all of `bases`, and the index of their first point in it.
pub(crate) fn find(bases: &[G1Affine]) -> Option<(Arc<RegisteredSlice>, usize)> {
    let Range { start, end } = addresses(bases);
    let registered = REGISTERED.read().unwrap_or_else(PoisonError::into_inner);
    let (_, found) = registered.range(..=start).next_back()?;
    // If `bases` is a part of the slice, it begins a whole number of points after the start of the slice.
    let offset = (start - found.addresses.start) / size_of::<G1Affine>();
    (end <= found.addresses.end).then(|| (found.clone(), offset))
}
