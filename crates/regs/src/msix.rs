//! Location of the MSI-X table in the register BAR (PG195, "MSI-X Vector Table and PBA").

/// The offset of the table, with 16 bytes per entry.
pub const TABLE: u32 = 0x8000;
/// The offset of the pending bits.
pub const PENDING: u32 = 0x8fe0;
/// The number of vectors of a generic XDMA endpoint. AWS F1 advertises one more.
pub const VECTORS: usize = 32;
