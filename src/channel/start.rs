//! Where an engine starts to fetch descriptors.

/// Where an engine starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Device address of the list.
    pub list: u64,
    /// Device address of the first descriptor to run.
    pub first: u64,
    /// Number of adjacent descriptors after it.
    pub adjacent: u8,
}
