//! Who is told what becomes of the memory that a card may use.
//!
//! Memory in a pool stays mapped when it is released, so no bus and no IOMMU can tell that a card uses it afterwards. An emulated
//! card can: it is its own witness, and takes an access to released memory for a broken rule.

/// Learns which device addresses a card may use.
pub trait Witness: Send + Sync {
    /// From now on these addresses belong to somebody.
    fn taken(&self, address: u64, len: u64);

    /// From now on they belong to nobody: the card must be done with them.
    fn released(&self, address: u64, len: u64);
}
