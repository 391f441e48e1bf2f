//! Where a card comes from, and how it is opened again.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use xdma::card::{Card, CardName, CardOptions};

pub(crate) type BoxedError = Box<dyn Error + Send + Sync>;
type Open = Box<dyn FnMut() -> Result<Card, BoxedError> + Send>;

/// A card for [`Cards`](crate::Cards): its name in reports, and how to open it.
///
/// ```no_run
/// use xdma_cards::CardSource;
///
/// let named = CardSource::named("0000:3b:00.0".parse()?, Default::default()); // opened, and reopened, by its name
/// # Ok::<(), xdma::card::BadCardName>(())
/// ```
pub struct CardSource {
    pub(crate) name: Arc<str>,
    opened: Option<Card>,
    open: Option<Open>,
}

impl CardSource {
    /// A card that is opened by its name: a PCI address, or a vfio-user socket. After a failure, it can be opened again.
    pub fn named(name: CardName, options: CardOptions) -> Self {
        Self::with(name.to_string(), move || name.open(options))
    }

    /// A card that is already open. After a failure, it can be readmitted only if it recovers without being opened again.
    pub fn opened(name: impl Into<String>, card: Card) -> Self {
        Self { name: name.into().into(), opened: Some(card), open: None }
    }

    /// A card that is opened by calling `open`. Before `open` is called again, all handles to the card from the previous call
    /// have been dropped.
    pub fn with<E: Error + Send + Sync + 'static>(
        name: impl Into<String>,
        mut open: impl FnMut() -> Result<Card, E> + Send + 'static,
    ) -> Self {
        let open: Open = Box::new(move || open().map_err(Into::into));
        Self { name: name.into().into(), opened: None, open: Some(open) }
    }

    /// Returns whether the card can be opened now.
    pub(crate) fn is_openable(&self) -> bool {
        self.opened.is_some() || self.open.is_some()
    }

    pub(crate) fn open(&mut self) -> Result<Card, BoxedError> {
        match (self.opened.take(), &mut self.open) {
            (Some(card), _) => Ok(card),
            (None, Some(open)) => open(),
            (None, None) => Err("the card was passed already open, so it cannot be opened again".into()),
        }
    }
}

impl fmt::Debug for CardSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardSource").field("name", &self.name).finish_non_exhaustive()
    }
}
