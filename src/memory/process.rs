//! Detection of forked processes.

/// The process that created a value. A forked child has a copy of the value, but it does not inherit its DMA memory or its
/// threads, and must leave the card to its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// Returns the current process.
    pub fn this() -> Self {
        Self(std::process::id())
    }

    /// Returns whether the current process was forked after the value was created.
    pub fn is_forked(self) -> bool {
        self != Self::this()
    }
}
