//! Observing which memory a card may use.
//!
//! Memory in a pool stays mapped after it is released, so neither a bus nor an IOMMU can detect that a card still accesses it. An
//! emulated card observes the releases itself, and reports an access to released memory as a violation.

/// Observes which device addresses a card may use.
pub trait ReleaseObserver: Send + Sync {
    /// These addresses were allocated.
    fn allocated(&self, address: u64, len: u64);

    /// These addresses were released. From now on the card must not access them.
    fn released(&self, address: u64, len: u64);
}
