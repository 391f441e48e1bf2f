//! Fuzz target: a host whose files have arbitrary content.

use crate::doctor::{self, DoctorOptions};
use crate::kernel::{FileId, Kernel, Owner};
use crate::mode::Mode;
use crate::status::Status;
use crate::{BindOptions, Host, Plan, accounts, persist, text};
use arbitrary::{Result, Unstructured};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use xdma::card::PciAddress;
use xdma::unstable::bus::Bar;

const FUNCTION: &str = "sys/bus/pci/devices/0000:00:1d.0";
/// The sysfs and procfs files of a function and of the host.
const FILES: [&str; 33] = [
    "sys/bus/pci/devices/0000:00:1d.0/vendor",
    "sys/bus/pci/devices/0000:00:1d.0/device",
    "sys/bus/pci/devices/0000:00:1d.0/class",
    "sys/bus/pci/devices/0000:00:1d.0/driver_override",
    "sys/bus/pci/devices/0000:00:1d.0/numa_node",
    "sys/bus/pci/devices/0000:00:1d.0/resource",
    "sys/bus/pci/devices/0000:00:1d.0/reset_method",
    "sys/bus/pci/devices/0000:00:1d.0/current_link_speed",
    "sys/bus/pci/devices/0000:00:1d.0/current_link_width",
    "sys/bus/pci/devices/0000:00:1d.0/max_link_speed",
    "sys/bus/pci/devices/0000:00:1d.0/max_link_width",
    "run/udev/data/+pci:0000:00:1d.0",
    "proc/uptime",
    "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
    "sys/kernel/iommu_groups/7/name",
    "sys/kernel/iommu_groups/7/type",
    "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
    "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
    "proc/self/status",
    "proc/self/limits",
    "proc/self/mountinfo",
    "proc/meminfo",
    "proc/swaps",
    "proc/cpuinfo",
    "proc/cmdline",
    "etc/passwd",
    "etc/group",
    "etc/udev/rules.d/60-xdma.rules",
    "etc/udev/rules.d/61-xdma-bind.rules",
    "etc/driverctl.d/pci-0000:00:1d.0",
    "etc/modprobe.d/vfio.conf",
    "sys/bus/pci/devices/0000:00:1d.0/config",
    "sys/bus/pci/devices/0000:00:1d.0/secondary_bus_number",
];

/// A kernel that refuses every operation.
struct RefusingKernel;

impl Kernel for RefusingKernel {
    fn write(&self, _: &Path, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn load_module(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn is_held(&self, _: &Path) -> bool {
        false
    }

    fn identify(&self, _: &Path) -> io::Result<FileId> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn quiesce(&self, _: PciAddress, _: &[Mode]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sleep(&self, _: Duration) {}

    fn map_bar(&self, _: &Path) -> io::Result<Arc<dyn Bar>> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn settle(&self) {}

    fn owner(&self, _: &Path) -> io::Result<Owner> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn set_owner(&self, _: &Path, _: Owner) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Runs all commands of `vfio-setup` on a host whose files contain arbitrary bytes.
pub fn sysfs(bytes: &[u8]) {
    let tree = tempfile::tempdir().expect("temporary directories can be created");
    let _ = fill(tree.path(), &mut Unstructured::new(bytes));
    let host = Host::with_kernel(tree.path(), Box::new(RefusingKernel));
    if let Ok(status) = Status::read(&host, true) {
        text::status(&status);
    }
    for options in
        [BindOptions::default(), BindOptions { any: true, no_iommu: true, ..BindOptions::default() }]
    {
        if let Ok(plan) = Plan::bind(&host, &[], &options) {
            text::plan(&host, &plan, false);
            let _ = plan.apply(&host);
        }
        let _ = persist::persist(&host, &[], &options).map(|changes| text::changes(&changes));
    }
    let _ = Plan::unbind(&host, &[]);
    let _ = persist::undo(&host);
    let _ = accounts::Identity::read(&host).map(|identity| identity.joined_later(&host, 7));
    let address = "0000:00:1d.0".parse().expect("an address");
    let options = DoctorOptions { memory: 1 << 20, register_bar: None, mode: None };
    let _ = doctor::examine(&host, address, &options).map(|diagnosis| text::diagnosis(&diagnosis));
    let _ = doctor::examine_host(&host, &options, true);
}

fn fill(root: &Path, u: &mut Unstructured<'_>) -> Result<()> {
    let group = root.join("sys/kernel/iommu_groups/7");
    for directory in [root.join(FUNCTION), group.join("devices"), root.join("sys/class/iommu/dmar0")] {
        fs::create_dir_all(directory).expect("the directory can be created");
    }
    if u.arbitrary()? {
        symlink(&group, root.join(FUNCTION).join("iommu_group")).expect("the link is new");
        symlink(root.join(FUNCTION), group.join("devices/0000:00:1d.0")).expect("the link is new");
    }
    if u.arbitrary()? {
        symlink("../../../../bus/pci/drivers/vfio-pci", root.join(FUNCTION).join("driver"))
            .expect("the link is new");
    }
    let is_card: bool = u.arbitrary()?;
    for (name, text) in [("vendor", "0x10ee"), ("device", "0x903f"), ("class", "0x070001")] {
        if is_card {
            fs::write(root.join(FUNCTION).join(name), text).expect("the file can be written");
        }
    }
    while !u.is_empty() {
        let path = root.join(FILES[u.int_in_range(0..=FILES.len() - 1)?]);
        let len = u.int_in_range(0..=200)?;
        fs::create_dir_all(path.parent().expect("the file is below the root"))
            .expect("the directory can be created");
        fs::write(path, u.bytes(len.min(u.len()))?).expect("the file can be written");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn sysfs() {
        xdma_testkit::corpus::replay("sysfs", super::sysfs);
    }
}
