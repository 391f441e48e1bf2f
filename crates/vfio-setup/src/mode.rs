//! VFIO modes in which a function can be opened, and the nodes that each mode needs.

use super::select::VFIO;
use super::{Host, SetupError};
use serde::Serializer;
pub use xdma::card::{Mode, UnknownMode};
use xdma::unstable::bus::sysfs::Function;

/// Returns the node that all functions share.
pub(crate) fn shared_node(mode: Mode) -> &'static str {
    match mode {
        Mode::Cdev => "dev/iommu",
        Mode::Type1 | Mode::NoIommu => "dev/vfio/vfio",
    }
}

/// Returns the path of the node of a function without a leading slash, whether or not the node exists.
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

/// Returns the modes in which a function can be opened now, according to its nodes, in the order in which the library tries them.
///
/// # Errors
///
/// Sysfs cannot be read.
pub fn modes(host: &Host, function: &Function) -> Result<Vec<Mode>, SetupError> {
    let mut modes = Vec::new();
    // The node of the group can exist because of another member.
    if function.driver()?.as_deref() != Some(VFIO) {
        return Ok(modes);
    }
    for mode in [Mode::Cdev, Mode::Type1, Mode::NoIommu] {
        let exists = |node: &str| host.path(node).exists();
        if node(mode, function)?.is_some_and(|node| exists(&node)) && exists(shared_node(mode)) {
            modes.push(mode);
        }
    }
    Ok(modes)
}

/// Serializes modes by their names.
pub(crate) fn names<S: Serializer>(modes: &[Mode], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(modes.iter().map(Mode::to_string))
}
