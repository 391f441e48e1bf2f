//! Ways to open a function: its own node, its group, or its group without an IOMMU.

use super::dma::Translation;
use super::pagemap::Pagemap;
use super::{Device, Mode, ioctl};
use crate::bus::sysfs::{Function, Group, Sysfs};
use crate::bus::{BusError, PciAddress};
use iommufd_ioctls::{IommuFd, IommufdError};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfio_ioctls::{VfioContainer, VfioDevice, VfioError, VfioIommufd, VfioOps};

/// What was opened.
pub(super) struct Opened {
    pub mode: Mode,
    pub device: Device,
    pub translation: Translation,
    pub function: Function,
    /// Why it is not the first choice, if it is not.
    pub fell_back: Option<String>,
}

const CONTAINER: &str = "/dev/vfio/vfio";
const IOMMUFD: &str = "/dev/iommu";
/// Numbers of capabilities in `/proc/self/status` (include/uapi/linux/capability.h).
const CAPABILITIES: [(&str, u32); 2] = [("CAP_SYS_RAWIO", 17), ("CAP_SYS_ADMIN", 21)];

/// Opens a function in the mode asked for; by default in the safest that works, and never without an IOMMU.
///
/// Nodes that another process has are refused at once (EBUSY). Handing out the device resets the function, for which the kernel
/// waits a minute at most.
pub(super) fn open(sysfs: &Sysfs, address: PciAddress, mode: Option<Mode>) -> Result<Opened, BusError> {
    let function = sysfs.function(address)?;
    let driver = function.driver()?;
    if driver.as_deref() != Some("vfio-pci") {
        return Err(BusError::NotBound { address, driver });
    }
    let group = function.iommu_group()?.ok_or_else(|| no_iommu(address))?;
    let opened = |mode, (device, translation), fell_back| Opened {
        mode,
        device,
        translation,
        function: function.clone(),
        fell_back,
    };
    match mode {
        Some(Mode::NoIommu) if !group.no_iommu => Err(BusError::NoMode {
            address,
            mode: Mode::NoIommu,
            reason: "an IOMMU stands before the card, and the kernel does not let it be left out; use type1 or cdev".into(),
        }),
        Some(Mode::NoIommu) => {
            let way = without_iommu(address, &group)?;
            Ok(opened(Mode::NoIommu, way, None))
        }
        _ if group.no_iommu => Err(no_iommu(address)),
        Some(Mode::Cdev) => Ok(opened(Mode::Cdev, by_cdev(&function)?, None)),
        Some(Mode::Type1) => Ok(opened(Mode::Type1, by_group(sysfs, &function, &group)?, None)),
        None => match by_cdev(&function) {
            Ok(way) => Ok(opened(Mode::Cdev, way, None)),
            // A node that is missing or closed to this user says nothing of the group's.
            Err(first @ (BusError::NoMode { .. } | BusError::NotFound { .. } | BusError::Permission { .. })) => {
                let way = by_group(sysfs, &function, &group)?;
                Ok(opened(Mode::Type1, way, Some(first.to_string())))
            }
            Err(error) => Err(error),
        },
    }
}

fn no_iommu(address: PciAddress) -> BusError {
    let reason = format!(
        "no IOMMU stands before the card. Turn it on in the firmware and with intel_iommu=on or amd_iommu=on. Where there is \
         none, as in EC2 guests, and if the card may be trusted with all memory: run `echo Y > \
         /sys/module/vfio/parameters/enable_unsafe_noiommu_mode` as root, bind the card again, and set {}=noiommu",
        super::MODE_VARIABLE
    );
    BusError::NoMode { address, mode: Mode::Type1, reason }
}

fn by_cdev(function: &Function) -> Result<(Device, Translation), BusError> {
    let address = function.address();
    let Some(name) = function.vfio_device()? else {
        let reason = "this kernel gives the function no node in /dev/vfio/devices; use type1".into();
        return Err(BusError::NoMode { address, mode: Mode::Cdev, reason });
    };
    let node = PathBuf::from("/dev/vfio/devices").join(name);
    let fail = |error: VfioError| vfio_error(address, Mode::Cdev, &node, error);
    let iommufd = IommuFd::new().map_err(|error| match error {
        IommufdError::OpenIommufd(source) => open_error(address, Path::new(IOMMUFD), source),
        error => BusError::NoMode { address, mode: Mode::Cdev, reason: error.to_string() },
    })?;
    let ops = Arc::new(VfioIommufd::new(Arc::new(iommufd), None, None).map_err(fail)?);
    let device = VfioDevice::new(&real(function)?, ops.clone() as Arc<dyn VfioOps>, true).map_err(fail)?;
    Ok((Device::of_crate(device)?, Translation::Iommufd(ops)))
}

fn by_group(sysfs: &Sysfs, function: &Function, group: &Group) -> Result<(Device, Translation), BusError> {
    let address = function.address();
    let node = Path::new("/dev/vfio").join(group.node());
    let fail = |error: VfioError| match error {
        VfioError::GroupViable => foreign(sysfs, address, group),
        error => vfio_error(address, Mode::Type1, &node, error),
    };
    let ops = Arc::new(VfioContainer::new(None).map_err(fail)?);
    let device = VfioDevice::new(&real(function)?, ops.clone() as Arc<dyn VfioOps>, false).map_err(fail)?;
    Ok((Device::of_crate(device)?, Translation::Type1(ops)))
}

/// Where sysfs really has the function: the link by which it is found goes away before its driver lets go of it.
fn real(function: &Function) -> Result<PathBuf, BusError> {
    fs::canonicalize(function.directory())
        .map_err(|error| open_error(function.address(), function.directory(), error))
}

fn without_iommu(address: PciAddress, group: &Group) -> Result<(Device, Translation), BusError> {
    let mode = Mode::NoIommu;
    let missing = missing_capabilities();
    if !missing.is_empty() {
        let reason = format!(
            "this process lacks {}; run it as root, or `setcap cap_sys_rawio,cap_sys_admin+ep` its file",
            missing.join(" and ")
        );
        return Err(BusError::NoMode { address, mode, reason });
    }
    let node = Path::new("/dev/vfio").join(group.node());
    let open = |path: &Path| {
        let file = File::options().read(true).write(true).open(path);
        file.map_err(|source| open_error(address, path, source))
    };
    let (container, group_file) = (open(Path::new(CONTAINER))?, open(&node)?);
    let name = CString::new(address.to_string()).unwrap_or_default();
    let device = ioctl::no_iommu_device(&container, &group_file, &name)
        .and_then(last_of_all)
        .map_err(|source| open_error(address, &node, source))?;
    let pagemap =
        Pagemap::open().map_err(|source| open_error(address, Path::new("/proc/self/pagemap"), source))?;
    tracing::warn!(
        %address,
        "no-IOMMU mode: nothing keeps the card from reading and writing all memory of this machine"
    );
    Ok((Device::without_iommu(device, group_file, container), Translation::None(pagemap)))
}

/// Gives a file a number above all others.
///
/// When a process is killed, Linux closes its files with the highest number first (since 4.3, `task_work_run`). Closing the
/// device takes the card off the bus; only then may memory files be freed, which without an IOMMU nothing else keeps.
fn last_of_all(file: File) -> io::Result<File> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes the structure and nothing else.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    let lowest = limit.rlim_cur.saturating_sub(16).min(1 << 16) as i32;
    // SAFETY: the number is an open file's; the new one is ours alone.
    let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Which capabilities this process lacks of those that no-IOMMU mode needs.
fn missing_capabilities() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    missing_in(&status)
}

fn missing_in(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    CAPABILITIES.iter().filter(|(_, bit)| effective & 1 << bit == 0).map(|(name, _)| *name).collect()
}

/// The members of a group that other drivers have. The kernel lets bridges and unbound functions be.
fn foreign(sysfs: &Sysfs, address: PciAddress, group: &Group) -> BusError {
    let driver_of = |member: &PciAddress| sysfs.function(*member).ok()?.driver().ok()?;
    let named = |member: &PciAddress| match driver_of(member).as_deref() {
        None | Some("vfio-pci" | "pcieport" | "pci-stub") => None,
        Some(driver) => Some(format!("{member} ({driver})")),
    };
    let members = group.members.iter().filter_map(named).chain(group.others.iter().cloned()).collect();
    BusError::ForeignGroup { address, group: group.number, members }
}

fn vfio_error(address: PciAddress, mode: Mode, node: &Path, error: VfioError) -> BusError {
    let number = |errno: vmm_sys_util::errno::Error| io::Error::from_raw_os_error(errno.errno());
    match error {
        VfioError::OpenContainer(source) => open_error(address, Path::new(CONTAINER), source),
        VfioError::OpenGroup(source, _) | VfioError::OpenDeviceCdev(source) => {
            open_error(address, node, source)
        }
        VfioError::ContainerSetIOMMU(errno) | VfioError::VfioDeviceAttachIommufdPt(errno)
            if errno.errno() == libc::EPERM =>
        {
            let reason = "the IOMMU does not remap interrupts, and the kernel calls that unsafe; turn it on in the firmware, or \
                          accept it with allow_unsafe_interrupts=1 of the module vfio_iommu_type1 or iommufd"
                .into();
            BusError::NoMode { address, mode, reason }
        }
        // The kernel's word for a second opener of the device's own node.
        VfioError::VfioDeviceBindIommufd(errno) if matches!(errno.errno(), libc::EINVAL | libc::EBUSY) => {
            BusError::Taken { path: node.into(), reason: number(errno).to_string() }
        }
        VfioError::GroupGetDeviceFD(errno) => open_error(address, node, number(errno)),
        error => BusError::NoMode { address, mode, reason: error.to_string() },
    }
}

fn open_error(address: PciAddress, path: &Path, source: io::Error) -> BusError {
    let path = path.to_path_buf();
    match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            let remedy = "this user must be able to read and write it".into();
            BusError::Permission { path, cause: source, remedy }
        }
        Some(libc::EBUSY) => BusError::Taken { path, reason: source.to_string() },
        Some(libc::EAGAIN) => {
            let reason = "the kernel could not reset the function just now; try again".into();
            BusError::Taken { path, reason }
        }
        _ => {
            let remedy = format!("load the module vfio-pci, and check that {address} is bound to vfio-pci");
            BusError::NotFound { path, cause: source, remedy }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const ADDRESS: PciAddress = PciAddress { domain: 0, bus: 0, device: 4, function: 0 };

    /// A sysfs with one function, bound to `driver`, in group 7 together with `others`.
    fn tree(driver: Option<&str>, group: Option<(&str, &[(&str, &str)])>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let devices = dir.path().join("sys/bus/pci/devices");
        let function = |name: &str, driver: Option<&str>| {
            let at = devices.join(name);
            fs::create_dir_all(&at).unwrap();
            if let Some(driver) = driver {
                symlink(format!("../../drivers/{driver}"), at.join("driver")).unwrap();
            }
            at
        };
        let card = function("0000:00:04.0", driver);
        if let Some((name, others)) = group {
            let group = dir.path().join("sys/kernel/iommu_groups/7");
            fs::create_dir_all(group.join("devices/0000:00:04.0")).unwrap();
            fs::write(group.join("name"), name).unwrap();
            symlink("../../kernel/iommu_groups/7", card.join("iommu_group")).unwrap();
            for (other, driver) in others {
                function(other, Some(driver));
                fs::create_dir_all(group.join("devices").join(other)).unwrap();
            }
        }
        dir
    }

    fn error(dir: &tempfile::TempDir, mode: Option<Mode>) -> String {
        match open(&Sysfs::new(dir.path()), ADDRESS, mode) {
            Ok(_) => panic!("there is no such device here"),
            Err(error) => error.to_string(),
        }
    }

    #[track_caller]
    fn says(text: &str, parts: &[&str]) {
        parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
    }

    #[test]
    fn each_obstacle_has_its_remedy() {
        let empty = tempfile::tempdir().unwrap();
        says(&error(&empty, None), &["0000:00:04.0"]);
        says(&error(&tree(None, None), None), &["0000:00:04.0 is bound to no driver", "bind it to vfio-pci"]);
        says(&error(&tree(Some("xdma"), None), None), &["bound to xdma", "bind it to vfio-pci"]);
        let bare = tree(Some("vfio-pci"), None);
        says(
            &error(&bare, None),
            &["no IOMMU", "intel_iommu=on", "enable_unsafe_noiommu_mode", "XDMA_VFIO=noiommu"],
        );
        let unsafe_group = tree(Some("vfio-pci"), Some(("vfio-noiommu", &[])));
        for mode in [None, Some(Mode::Type1), Some(Mode::Cdev)] {
            says(&error(&unsafe_group, mode), &["no IOMMU stands before the card"]);
        }
        let safe = tree(Some("vfio-pci"), Some(("", &[])));
        says(&error(&safe, Some(Mode::NoIommu)), &["an IOMMU stands before the card", "type1 or cdev"]);
        says(&error(&safe, Some(Mode::Cdev)), &["no node in /dev/vfio/devices", "use type1"]);
    }

    #[test]
    fn foreign_members_are_named_with_their_drivers() {
        let others = [("0000:00:04.1", "nvme"), ("0000:00:1c.0", "pcieport"), ("0000:00:04.2", "vfio-pci")];
        let dir = tree(Some("vfio-pci"), Some(("", &others)));
        let sysfs = Sysfs::new(dir.path());
        let group = sysfs.function(ADDRESS).unwrap().iommu_group().unwrap().unwrap();
        let text = foreign(&sysfs, ADDRESS, &group).to_string();
        says(&text, &["group 7", "0000:00:04.1 (nvme)", "another slot"]);
        assert!(!text.contains("1c.0") && !text.contains("04.2"), "{text}");
    }

    #[test]
    fn what_the_kernel_says_is_told_apart() {
        let error = |number| {
            open_error(ADDRESS, Path::new("/dev/vfio/7"), io::Error::from_raw_os_error(number)).to_string()
        };
        says(&error(libc::EACCES), &["no permission for /dev/vfio/7", "read and write"]);
        says(&error(libc::EBUSY), &["/dev/vfio/7 is taken"]);
        says(&error(libc::ENOENT), &["no card at /dev/vfio/7", "bound to vfio-pci"]);
        let eperm = VfioError::ContainerSetIOMMU(vmm_sys_util::errno::Error::new(libc::EPERM));
        let text = vfio_error(ADDRESS, Mode::Type1, Path::new("/dev/vfio/7"), eperm).to_string();
        says(&text, &["type1", "remap interrupts", "allow_unsafe_interrupts"]);
    }

    #[test]
    fn capabilities_are_read_from_the_status() {
        assert_eq!(missing_in("CapPrm:\t0\nCapEff:\t000001ffffffffff\n"), [""; 0]);
        assert_eq!(missing_in("CapEff:\t0000000000020000\n"), ["CAP_SYS_ADMIN"]);
        assert_eq!(missing_in(""), ["CAP_SYS_RAWIO", "CAP_SYS_ADMIN"]);
    }

    #[test]
    fn a_file_is_moved_behind_all_others() {
        let file = last_of_all(File::open("/dev/null").unwrap()).unwrap();
        let next = File::open("/dev/null").unwrap();
        assert!(file.as_raw_fd() > next.as_raw_fd());
    }
}
