//! The argument of `--card`.

use crate::{StartError, start_like};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use xdma::card::{Card, CardName, CardOptions};
use xdma_emulator::{CardFile, card_file};

/// A card to open: the argument of `--card`, or the value of `XDMA_CARD`, in all examples and binaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CardChoice {
    /// A PCI function bound to `vfio-pci`, or a vfio-user socket.
    Named(CardName),
    /// An emulated card in this process.
    Emulated {
        /// How it was named: a [shipped description](xdma_emulator::card_file::SHIPPED) such as `f1`, or the path of a file that
        /// ends in `.toml`.
        like: String,
        /// Its description.
        card: Box<CardFile>,
    },
}

impl CardChoice {
    /// Opens the card. An emulated card is started with the design of its description, and stops when its last handle is dropped.
    ///
    /// # Errors
    ///
    /// As [`CardName::open`] and [`start_like`].
    pub fn open(&self, options: CardOptions) -> Result<Card, StartError> {
        match self {
            Self::Named(name) => Ok(name.open(options)?),
            Self::Emulated { card, .. } => start_like(CardFile::clone(card), options),
        }
    }

    /// Returns the description of an emulated card.
    pub fn emulated(&self) -> Option<&CardFile> {
        match self {
            Self::Named(_) => None,
            Self::Emulated { card, .. } => Some(card),
        }
    }
}

/// The error returned when a text does not name a card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseCardError {
    /// The text is empty.
    #[error("the name of the card is empty: unset XDMA_CARD, or set it to a card")]
    Empty,
    /// The text is neither the name of a card nor a path.
    #[error(
        "`{text}` is not a card: use an emulated card ({}), the path of a description that ends in .toml or, with --card only, a PCI \
         address (0000:00:1d.0) or unix:PATH of a vfio-user socket",
        shipped_names()
    )]
    Name {
        /// The text.
        text: String,
    },
    /// The file does not describe a card.
    #[error("{path}: {reason}")]
    File {
        /// The path of the file.
        path: String,
        /// The cause.
        reason: String,
    },
}

fn shipped_names() -> String {
    card_file::SHIPPED.map(|(name, _)| name).join(", ")
}

/// Returns the description named by `text`: that of a shipped card, or a file whose name ends in `.toml`.
///
/// # Errors
///
/// [`ParseCardError`].
pub fn find_description(text: &str) -> Result<CardFile, ParseCardError> {
    if let Some(card) = CardFile::shipped(text) {
        return Ok(card);
    }
    if text.is_empty() {
        return Err(ParseCardError::Empty);
    }
    if !text.ends_with(".toml") {
        return Err(ParseCardError::Name { text: text.into() });
    }
    CardFile::read(Path::new(text)).map_err(|error| {
        // The path is in front of the reason.
        let reason = match error {
            card_file::Error::Read { source, .. } => {
                format!(
                    "cannot read the file: {source}; name a file that you may read, or one of {}",
                    shipped_names()
                )
            }
            error => error.to_string(),
        };
        ParseCardError::File { path: text.into(), reason }
    })
}

impl FromStr for CardChoice {
    type Err = ParseCardError;

    fn from_str(text: &str) -> Result<Self, ParseCardError> {
        if let Ok(name) = text.parse() {
            return Ok(Self::Named(name));
        }
        Ok(Self::Emulated { like: text.into(), card: Box::new(find_description(text)?) })
    }
}

impl fmt::Display for CardChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::Emulated { like, .. } => f.write_str(like),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        for like in ["f1", "f2", "alveo", "7-series"] {
            let choice: CardChoice = like.parse().unwrap();
            assert_eq!(
                (choice.to_string(), choice.emulated()),
                (like.into(), CardFile::shipped(like).as_ref())
            );
        }
        for name in ["0000:00:1d.0", "unix:/run/card"] {
            assert_eq!(name.parse::<CardChoice>().unwrap(), CardChoice::Named(name.parse().unwrap()));
        }
        for bad in ["f3", "unix:", "00:1d"] {
            let error = bad.parse::<CardChoice>().unwrap_err().to_string();
            assert!(error.contains("PCI address") && error.contains("alveo"), "{bad}: {error}");
        }
    }

    #[test]
    fn files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("card.toml");
        let text = path.display().to_string();
        let missing = text.parse::<CardChoice>().unwrap_err().to_string();
        assert!(missing.contains("cannot read") && missing.contains("No such file"), "{missing}");
        let card = CardFile::shipped("msi").unwrap();
        std::fs::write(&path, card.to_toml()).unwrap();
        assert_eq!(text.parse::<CardChoice>().unwrap().emulated(), Some(&card));
        std::fs::write(&path, card.to_toml() + "colour = 1\n").unwrap();
        let unknown = text.parse::<CardChoice>().unwrap_err().to_string();
        assert!(unknown.contains("colour"), "{unknown}");
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
