//! What `--card` takes.

use super::{Card, CardError, CardOptions};
use crate::bus::PciAddress;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Which card: what every example and binary takes as `--card` or `XDMA_CARD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CardName {
    /// A PCI function bound to `vfio-pci`.
    Pci(PciAddress),
    /// `unix:PATH`: a vfio-user socket.
    Socket(PathBuf),
    /// An emulated card in this process, by the name of its profile: `f1`, `alveo`.
    Emulated(String),
}

impl CardName {
    /// Opens the card. An emulated one starts here, with the MSM design, and ends with the last handle to it.
    ///
    /// # Errors
    ///
    /// As [`Card::open`] and [`Card::connect`]; [`CardError::Unsupported`] for what this build cannot open.
    pub fn open(&self, options: CardOptions) -> Result<Card, CardError> {
        match self {
            Self::Socket(path) => Card::connect(path, options),
            #[cfg(feature = "emulator")]
            Self::Emulated(profile) => match profile.parse() {
                Ok(profile) => Card::emulated_with(profile, options),
                Err(_) => Err(CardError::BadName(profile.clone())),
            },
            #[cfg(not(feature = "emulator"))]
            Self::Emulated(profile) => {
                let reason = "this build has no emulated card; build with the feature `emulator`";
                Err(CardError::Unsupported { name: profile.clone(), reason })
            }
            Self::Pci(address) => Card::open(*address, options),
        }
    }
}

impl FromStr for CardName {
    type Err = CardError;

    fn from_str(text: &str) -> Result<Self, CardError> {
        match text.strip_prefix("unix:") {
            Some("") => Err(CardError::BadName(text.into())),
            Some(path) => Ok(Self::Socket(path.into())),
            None if matches!(text, "f1" | "alveo") => Ok(Self::Emulated(text.into())),
            None => text.parse().map(Self::Pci).map_err(|_| CardError::BadName(text.into())),
        }
    }
}

impl fmt::Display for CardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => address.fmt(f),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
            Self::Emulated(profile) => f.write_str(profile),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        let pci = |domain, bus, device, function| CardName::Pci(PciAddress { domain, bus, device, function });
        assert_eq!("0000:00:1d.0".parse::<CardName>().unwrap(), pci(0, 0, 0x1d, 0));
        assert_eq!("af:1f.7".parse::<CardName>().unwrap(), pci(0, 0xaf, 0x1f, 7));
        assert_eq!("unix:/run/card".parse::<CardName>().unwrap(), CardName::Socket("/run/card".into()));
        assert_eq!("f1".parse::<CardName>().unwrap().to_string(), "f1");
        for bad in ["", "f2", "unix:", "00:1d"] {
            let error = bad.parse::<CardName>().unwrap_err().to_string();
            assert!(error.contains("PCI address") && error.contains("alveo"), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,24}") {
            let _ = text.parse::<CardName>();
        }
    }
}
