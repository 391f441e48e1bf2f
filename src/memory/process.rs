//! Which process memory belongs to.

/// The process that something was made in. A child that was forked has a copy of it, but neither its memory, which is not
/// inherited, nor its threads: it must leave the card to its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// This process.
    pub fn this() -> Self {
        Self(std::process::id())
    }

    /// Whether this process is another one, forked since.
    pub fn is_forked(self) -> bool {
        self != Self::this()
    }
}
