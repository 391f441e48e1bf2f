//! Names of cards, as `--card` accepts them.

use super::{BadCardName, Card, CardError, CardOptions};
use crate::bus::vfio::{Mode, Vfio};
use crate::bus::vfio_user::VfioUser;
use crate::bus::{Bus, BusError, PciAddress};
use crate::memory::ReleaseObserver;
use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a card: a PCI address, or the socket of a vfio-user server.
///
/// ```
/// use xdma::card::CardName;
///
/// let name: CardName = "0000:3b:00.0".parse()?;
/// assert_eq!(name.to_string(), "0000:3b:00.0");
/// assert_eq!("unix:/run/card.sock".parse(), Ok(CardName::Socket("/run/card.sock".into())));
/// # Ok::<(), xdma::card::BadCardName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CardName {
    /// A PCI function bound to `vfio-pci`.
    Pci(PciAddress),
    /// The path of a vfio-user socket, written `unix:PATH`.
    Socket(PathBuf),
}

/// The parts of an emulated card that are attached to an open card.
#[derive(Default)]
pub struct Companions {
    /// Observes which memory the card may use.
    pub observer: Option<Arc<dyn ReleaseObserver>>,
    /// The device model, if it is dropped with the card.
    pub model: Option<Box<dyn Any + Send + Sync>>,
}

impl CardName {
    /// Opens the card.
    ///
    /// # Errors
    ///
    /// As [`Card::open`] and [`Card::connect`].
    pub fn open(&self, options: CardOptions) -> Result<Card, CardError> {
        self.open_with(options, Companions::default())
    }

    pub(crate) fn open_with(&self, options: CardOptions, companions: Companions) -> Result<Card, CardError> {
        Card::over(self.bus(options.mode)?, options, companions)
    }

    fn bus(&self, mode: Option<Mode>) -> Result<Arc<dyn Bus>, CardError> {
        Ok(match self {
            Self::Socket(path) => Arc::new(VfioUser::connect(path)?),
            Self::Pci(address) => {
                let mode = match mode {
                    Some(mode) => Some(mode),
                    None => Mode::from_environment().map_err(BusError::from)?,
                };
                Arc::new(Vfio::open(*address, mode)?)
            }
        })
    }
}

impl FromStr for CardName {
    type Err = BadCardName;

    fn from_str(text: &str) -> Result<Self, BadCardName> {
        match text.strip_prefix("unix:") {
            Some("") => Err(BadCardName(text.into())),
            Some(path) => Ok(Self::Socket(path.into())),
            None => text.parse().map(Self::Pci).map_err(|_| BadCardName(text.into())),
        }
    }
}

impl fmt::Display for CardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => address.fmt(f),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn valid_names_are_parsed_and_others_refused() {
        let pci = |domain, bus, device, function| CardName::Pci(PciAddress { domain, bus, device, function });
        assert_eq!("0000:00:1d.0".parse::<CardName>().unwrap(), pci(0, 0, 0x1d, 0));
        assert_eq!("af:1f.7".parse::<CardName>().unwrap(), pci(0, 0xaf, 0x1f, 7));
        assert_eq!("unix:/run/card".parse::<CardName>().unwrap(), CardName::Socket("/run/card".into()));
        for bad in ["", "f1", "unix:", "00:1d"] {
            let error = bad.parse::<CardName>().unwrap_err().to_string();
            assert!(error.contains("PCI address") && error.contains("unix:PATH"), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,24}") {
            let _ = text.parse::<CardName>();
        }
    }
}
