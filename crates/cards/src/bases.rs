//! Registered points.

use crate::queues::Control;
use crate::shared::Shared;
use crate::tags::Tags;
use ark_bn254::G1Affine;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Points in host memory. The cards' copies are made from them when the points are registered, and when a card is opened again.
///
/// Vectors, slices and arrays that can be sent to other threads implement this trait. Implement it for points with another owner.
pub trait PointSource: Send + Sync + 'static {
    /// Calls `read` with the points, which must always be the same. Does nothing if they no longer exist.
    fn read(&self, read: &mut dyn FnMut(&[G1Affine]));
}

impl<T: AsRef<[G1Affine]> + Send + Sync + 'static> PointSource for T {
    fn read(&self, read: &mut dyn FnMut(&[G1Affine])) {
        read(self.as_ref());
    }
}

/// Registered points, of which every card in service has a copy. Clones refer to the same points. The cards free their copies
/// when the last clone and the last [`PendingSum`](crate::PendingSum) over these points are dropped.
#[derive(Clone)]
pub struct Bases(Arc<Owner>);

impl Bases {
    pub(crate) fn new(
        source: Box<dyn PointSource>,
        len: usize,
        tags: Option<Tags>,
        shared: Arc<Shared>,
    ) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Owner { data: Arc::new(BasesData { id, len, source, tags }), shared }))
    }

    /// Returns the number of points.
    pub fn len(&self) -> usize {
        self.data().len
    }

    /// Returns whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn data(&self) -> &Arc<BasesData> {
        &self.0.data
    }

    pub(crate) fn belong_to(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.0.shared, shared)
    }
}

impl fmt::Debug for Bases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.data().fmt(f)
    }
}

/// Frees the cards' copies of the points when it is dropped. Parts of sums do not refer to it, so it is never dropped with a
/// lock held.
struct Owner {
    data: Arc<BasesData>,
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.control_all(|_| Control::Unload(self.data.id));
    }
}

/// Registered points, shared by the parts of sums and the threads of cards.
pub(crate) struct BasesData {
    pub id: u64,
    len: usize,
    source: Box<dyn PointSource>,
    /// `None` unless sums are checked.
    pub tags: Option<Tags>,
}

impl BasesData {
    /// Returns what `read` returns for the points, or `None` if they no longer exist.
    pub fn read<R>(&self, mut read: impl FnMut(&[G1Affine]) -> R) -> Option<R> {
        let mut result = None;
        self.source.read(&mut |points| result = Some(read(points)));
        result
    }
}

impl fmt::Debug for BasesData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bases").field("len", &self.len).field("tags", &self.tags).finish()
    }
}
