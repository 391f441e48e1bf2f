//! Registered points.

use crate::queues::Control;
use crate::shared::Shared;
use crate::tags::Tags;
use ark_bn254::G1Affine;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Registered points, of which every card in service has a copy. Clones refer to the same points. The cards free their copies when
/// the last clone and the last [`PendingSum`](crate::PendingSum) over these points are dropped.
#[derive(Clone)]
pub struct Bases(Arc<Owner>);

impl Bases {
    pub(crate) fn new(
        points: Box<dyn AsRef<[G1Affine]> + Send + Sync>,
        tags: Option<Tags>,
        shared: Arc<Shared>,
    ) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Owner { data: Arc::new(BasesData { id, points, tags }), shared }))
    }

    /// Returns the number of points.
    pub fn len(&self) -> usize {
        self.data().points().len()
    }

    /// Returns whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the points.
    pub fn points(&self) -> &[G1Affine] {
        self.data().points()
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

/// Frees the points of the cards when it is dropped. Parts of sums do not hold it, so it is never dropped with a lock held.
struct Owner {
    data: Arc<BasesData>,
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.control_all(|_| Control::Unload(self.data.id));
    }
}

/// Points in host memory, from which the cards' copies are made.
pub(crate) struct BasesData {
    pub id: u64,
    points: Box<dyn AsRef<[G1Affine]> + Send + Sync>,
    /// `None` unless sums are checked.
    pub tags: Option<Tags>,
}

impl BasesData {
    pub fn points(&self) -> &[G1Affine] {
        (*self.points).as_ref()
    }
}

impl fmt::Debug for BasesData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bases").field("len", &self.points().len()).field("tags", &self.tags).finish()
    }
}
