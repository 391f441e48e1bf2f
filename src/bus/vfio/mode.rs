use std::fmt;
use std::str::FromStr;

/// The environment variable that names a [`Mode`].
pub const MODE_VARIABLE: &str = "XDMA_VFIO";

/// How this process asks the kernel's `vfio-pci` for a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The device's own node and `/dev/iommu` (Linux 6.6 and later, where built in).
    Cdev,
    /// The device's IOMMU group and a container.
    Type1,
    /// No IOMMU: the card is trusted with all memory. Never chosen unless asked for.
    NoIommu,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cdev => "cdev",
            Self::Type1 => "type1",
            Self::NoIommu => "noiommu",
        })
    }
}

/// What names no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no VFIO mode: use cdev, type1 or noiommu")]
pub struct UnknownMode(pub String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let known =
            [Self::Cdev, Self::Type1, Self::NoIommu].into_iter().find(|mode| mode.to_string() == text);
        known.ok_or_else(|| UnknownMode(text.into()))
    }
}

impl Mode {
    /// What the environment asks for ([`MODE_VARIABLE`]), if anything.
    ///
    /// # Errors
    ///
    /// [`UnknownMode`].
    pub fn from_environment() -> Result<Option<Self>, UnknownMode> {
        match std::env::var_os(MODE_VARIABLE) {
            Some(value) if !value.is_empty() => value.to_string_lossy().parse().map(Some),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_names() {
        for mode in [Mode::Cdev, Mode::Type1, Mode::NoIommu] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        let error = "vfio".parse::<Mode>().unwrap_err();
        assert!(error.to_string().contains("cdev, type1 or noiommu"));
    }
}
