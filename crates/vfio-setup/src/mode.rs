//! Ways of VFIO to a function, and the nodes that each takes.

use super::select::VFIO;
use super::{Host, SetupError};
use serde::Serializer;
use xdma::bus::sysfs::Function;
pub use xdma::bus::vfio::{Mode, UnknownMode};

/// The node that all functions share.
pub(crate) fn shared_node(mode: Mode) -> &'static str {
    match mode {
        Mode::Cdev => "dev/iommu",
        Mode::Type1 | Mode::NoIommu => "dev/vfio/vfio",
    }
}

/// The node of a function, whether it is there or not, without a leading slash.
///
/// # Errors
///
/// Sysfs cannot be read.
pub(crate) fn node(mode: Mode, function: &Function) -> Result<Option<String>, SetupError> {
    Ok(match mode {
        Mode::Cdev => function.vfio_device()?.map(|device| format!("dev/vfio/devices/{device}")),
        Mode::Type1 | Mode::NoIommu => {
            let group = function.iommu_group()?.filter(|group| group.no_iommu == (mode == Mode::NoIommu));
            group.map(|group| format!("dev/vfio/{}", group.node()))
        }
    })
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
        let there = |node: &str| host.path(node).exists();
        if node(mode, function)?.is_some_and(|node| there(&node)) && there(shared_node(mode)) {
            modes.push(mode);
        }
    }
    Ok(modes)
}

/// Modes by their names, for serde.
pub(crate) fn names<S: Serializer>(modes: &[Mode], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(modes.iter().map(Mode::to_string))
}
