//! The argument of `--card`.

use crate::{StartError, start_msm};
use std::fmt;
use std::str::FromStr;
use xdma::card::{Card, CardName, CardOptions};
use xdma_emulator::Profile;

/// A card to open: the argument of `--card`, or the value of `XDMA_CARD`, in all examples and binaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CardChoice {
    /// A PCI function bound to `vfio-pci`, or a vfio-user socket.
    Named(CardName),
    /// An emulated card in this process, named by its profile: `f1` or `alveo`.
    Emulated(Profile),
}

impl CardChoice {
    /// Opens the card. An emulated card is started with the MSM design, and stops when its last handle is dropped.
    ///
    /// # Errors
    ///
    /// As [`CardName::open`] and [`start_msm`].
    pub fn open(&self, options: CardOptions) -> Result<Card, StartError> {
        match self {
            Self::Named(name) => Ok(name.open(options)?),
            Self::Emulated(profile) => start_msm(*profile, options),
        }
    }
}

/// The error returned when a text does not name a card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a card: use a PCI address (0000:00:1d.0), unix:PATH of a vfio-user socket, or an emulated card (f1, alveo)"
)]
pub struct ParseCardError(pub String);

impl FromStr for CardChoice {
    type Err = ParseCardError;

    fn from_str(text: &str) -> Result<Self, ParseCardError> {
        if let Ok(profile) = text.parse() {
            return Ok(Self::Emulated(profile));
        }
        text.parse().map(Self::Named).map_err(|_| ParseCardError(text.into()))
    }
}

impl fmt::Display for CardChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::Emulated(profile) => profile.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        assert_eq!("f1".parse(), Ok(CardChoice::Emulated(Profile::F1)));
        assert_eq!(CardChoice::Emulated(Profile::Alveo).to_string(), "alveo");
        for name in ["0000:00:1d.0", "unix:/run/card"] {
            assert_eq!(name.parse::<CardChoice>().unwrap(), CardChoice::Named(name.parse().unwrap()));
        }
        for bad in ["", "f2", "unix:", "00:1d"] {
            let error = bad.parse::<CardChoice>().unwrap_err().to_string();
            assert!(error.contains("PCI address") && error.contains("alveo"), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn names_round_trip(text in ".{0,24}") {
            if let Ok(choice) = text.parse::<CardChoice>() {
                prop_assert_eq!(choice.to_string().parse(), Ok(choice));
            }
        }
    }
}
