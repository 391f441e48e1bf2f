use std::fmt;
use std::str::FromStr;

/// The environment variable that names a [`Mode`].
pub const MODE_VARIABLE: &str = "XDMA_VFIO";

/// The VFIO interface through which a card is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The device's own node and `/dev/iommu` (Linux 6.6 and later, if built in).
    Cdev,
    /// The device's IOMMU group and a container.
    Type1,
    /// No IOMMU: the card can access all of the machine's memory. Never chosen automatically.
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

/// The text is not the name of a VFIO mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a VFIO mode: use cdev, type1 or noiommu")]
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
    /// Returns the mode named by the environment variable [`MODE_VARIABLE`], or `None` if it is unset or empty.
    ///
    /// # Errors
    ///
    /// [`UnknownMode`] if the variable names no mode.
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
    fn modes_are_parsed_from_their_names() {
        for mode in [Mode::Cdev, Mode::Type1, Mode::NoIommu] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        let error = "vfio".parse::<Mode>().unwrap_err();
        assert!(error.to_string().contains("cdev, type1 or noiommu"));
    }
}
