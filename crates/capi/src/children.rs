//! The handles that were opened from a card, which must be closed before the card.

use crate::error::Failure;
use crate::kind::Kind;
use crate::status::{XDMA_ERROR_IN_USE, XDMA_REMEDY_TRY_AGAIN};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of open handles of each kind.
#[derive(Default)]
pub struct Children {
    counts: [AtomicUsize; Kind::ALL.len()],
}

impl Children {
    /// Counts a handle until the result is dropped.
    pub fn add(self: &Arc<Self>, kind: Kind) -> Child {
        self.counts[kind as usize - 1].fetch_add(1, Ordering::AcqRel);
        Child { of: self.clone(), kind }
    }

    /// Fails while a handle is open.
    pub fn check_none(&self) -> Result<(), Failure> {
        let open = Kind::ALL.map(|kind| (kind, self.counts[kind as usize - 1].load(Ordering::Acquire)));
        let open: Vec<_> = open.into_iter().filter(|(_, count)| *count > 0).collect();
        if open.is_empty() {
            return Ok(());
        }
        let list: Vec<_> =
            open.iter().map(|(kind, count)| format!("{count} of type xdma_{}", kind.name())).collect();
        let text = format!(
            "handles that were opened from the card are still open: {}; close them first",
            list.join(", ")
        );
        Err(Failure::new(XDMA_ERROR_IN_USE, XDMA_REMEDY_TRY_AGAIN, text))
    }
}

/// A handle that counts as open.
pub struct Child {
    of: Arc<Children>,
    kind: Kind,
}

impl Child {
    /// Counts another handle of the same card.
    pub fn sibling(&self, kind: Kind) -> Child {
        self.of.add(kind)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.of.counts[self.kind as usize - 1].fetch_sub(1, Ordering::AcqRel);
    }
}

/// The users of an object that must be closed before it: clones are held by the users.
#[derive(Clone, Default)]
pub struct Uses(Arc<()>);

impl Uses {
    /// Returns a number that identifies the object.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Fails while another clone exists.
    pub fn check_none(&self, user: &str, object: &str) -> Result<(), Failure> {
        match Arc::strong_count(&self.0) - 1 {
            0 => Ok(()),
            count => {
                let text = format!(
                    "{count} handles of type xdma_{user} that use the {object} are still open; close them first"
                );
                Err(Failure::new(XDMA_ERROR_IN_USE, XDMA_REMEDY_TRY_AGAIN, text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_handles_are_listed_by_kind() {
        let children = Arc::new(Children::default());
        let (first, second, job) =
            (children.add(Kind::Buffer), children.add(Kind::Buffer), children.add(Kind::Job));
        let text = format!("{:?}", children.check_none().unwrap_err());
        assert!(text.contains("2 of type xdma_buffer, 1 of type xdma_job"), "{text}");
        drop((first, second, job));
        children.check_none().unwrap();
    }
}
