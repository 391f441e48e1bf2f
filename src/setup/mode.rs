//! Ways of VFIO to a function, and the nodes that each takes.

use super::select::VFIO;
use super::{Host, SetupError};
use crate::bus::sysfs::Function;
use serde::Serialize;

/// A way of VFIO to a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A node of its own and `/dev/iommu`.
    Cdev,
    /// The node of its group and `/dev/vfio/vfio`.
    Type1,
    /// As type1, with nothing between the card and memory.
    NoIommu,
}

impl Mode {
    /// Its name, as in `XDMA_VFIO`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cdev => "cdev",
            Self::Type1 => "type1",
            Self::NoIommu => "noiommu",
        }
    }

    /// The node that all functions share.
    pub(super) fn shared_node(self) -> &'static str {
        match self {
            Self::Cdev => "dev/iommu",
            Self::Type1 | Self::NoIommu => "dev/vfio/vfio",
        }
    }

    /// The node of a function, whether it is there or not, without a leading slash.
    ///
    /// # Errors
    ///
    /// Sysfs cannot be read.
    pub(super) fn node(self, function: &Function) -> Result<Option<String>, SetupError> {
        Ok(match self {
            Self::Cdev => function.vfio_device()?.map(|device| format!("dev/vfio/devices/{device}")),
            Self::Type1 | Self::NoIommu => {
                let group = function.iommu_group()?.filter(|group| group.no_iommu == (self == Self::NoIommu));
                group.map(|group| format!("dev/vfio/{}", group.node()))
            }
        })
    }
}

impl From<Mode> for crate::bus::vfio::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Cdev => Self::Cdev,
            Mode::Type1 => Self::Type1,
            Mode::NoIommu => Self::NoIommu,
        }
    }
}

/// The ways that the nodes of a function allow now, in the order in which a card is opened.
///
/// # Errors
///
/// Sysfs cannot be read.
pub fn modes(host: &Host, function: &Function) -> Result<Vec<Mode>, SetupError> {
    let mut modes = Vec::new();
    // The node of a group may be there for another member.
    if function.driver()?.as_deref() != Some(VFIO) {
        return Ok(modes);
    }
    for mode in [Mode::Cdev, Mode::Type1, Mode::NoIommu] {
        let node = mode.node(function)?;
        let there = |node: &str| host.path(node).exists();
        if node.is_some_and(|node| there(&node)) && there(mode.shared_node()) {
            modes.push(mode);
        }
    }
    Ok(modes)
}
