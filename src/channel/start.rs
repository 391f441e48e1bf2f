//! Where an engine begins.

/// Where the engine is to begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Device address of the list.
    pub list: u64,
    /// Device address of the first descriptor to run.
    pub first: u64,
    /// Descriptors adjacent after it.
    pub adjacent: u8,
}
