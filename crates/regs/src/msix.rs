//! Where the MSI-X table lies in the register BAR (PG195, "MSI-X Vector Table and PBA").

/// Offset of the table, 16 bytes an entry.
pub const TABLE: u32 = 0x8000;
/// Offset of the pending bits.
pub const PENDING: u32 = 0x8fe0;
/// Vectors of a generic XDMA endpoint; AWS F1 advertises one more.
pub const VECTORS: usize = 32;
