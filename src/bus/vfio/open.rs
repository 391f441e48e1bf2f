//! Opening a function through its own node, through its IOMMU group, or through its group without an IOMMU.

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

/// An opened function.
pub(super) struct Opened {
    pub mode: Mode,
    pub device: Device,
    pub translation: Translation,
    pub function: Function,
    /// Why cdev could not be used, if the default fell back to type 1.
    pub fell_back: Option<String>,
}

const CONTAINER: &str = "/dev/vfio/vfio";
const IOMMUFD: &str = "/dev/iommu";
/// The capabilities that no-IOMMU mode needs, with their bits in `/proc/self/status` (include/uapi/linux/capability.h).
const CAPABILITIES: [(&str, u32); 2] = [("CAP_SYS_RAWIO", 17), ("CAP_SYS_ADMIN", 21)];

/// Opens a function in the requested mode. By default cdev is tried first, then type 1, and never no-IOMMU mode.
///
/// A node that another process has open fails immediately (EBUSY). Opening the device resets the function, for which the kernel
/// waits at most a minute.
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
            reason: "the card is behind an IOMMU, which the kernel does not allow to be bypassed; use type1 or cdev".into(),
        }),
        Some(Mode::NoIommu) => Ok(opened(Mode::NoIommu, open_no_iommu(address, &group)?, None)),
        _ if group.no_iommu => Err(no_iommu(address)),
        Some(Mode::Cdev) => Ok(opened(Mode::Cdev, open_cdev(&function)?, None)),
        Some(Mode::Type1) => Ok(opened(Mode::Type1, open_group(sysfs, &function, &group)?, None)),
        None => match open_cdev(&function) {
            Ok(device) => Ok(opened(Mode::Cdev, device, None)),
            // The group's node may be usable even if the device's own node is missing or not accessible to this user.
            Err(first @ (BusError::NoMode { .. } | BusError::NotFound { .. } | BusError::Permission { .. })) => {
                let device = open_group(sysfs, &function, &group)?;
                Ok(opened(Mode::Type1, device, Some(first.to_string())))
            }
            Err(error) => Err(error),
        },
    }
}

fn no_iommu(address: PciAddress) -> BusError {
    if address.is_behind_vmd() {
        let reason = "the card is behind Intel VMD, which handles its interrupts and DMA, so it cannot be used from user space; \
                      disable VMD for this slot in the firmware"
            .into();
        return BusError::NoMode { address, mode: Mode::Type1, reason };
    }
    let reason = format!(
        "the card is not behind an IOMMU. Enable the IOMMU in the firmware and with intel_iommu=on or amd_iommu=on. If the machine \
         has no IOMMU, as in EC2 guests, and the card may be trusted with all memory: run `echo Y | sudo tee \
         /sys/module/vfio/parameters/enable_unsafe_noiommu_mode`, bind the card again, and set {}=noiommu",
        super::MODE_VARIABLE
    );
    BusError::NoMode { address, mode: Mode::Type1, reason }
}

fn open_cdev(function: &Function) -> Result<(Device, Translation), BusError> {
    let address = function.address();
    let Some(name) = function.vfio_device()? else {
        let reason = "this kernel provides no node in /dev/vfio/devices for the function; use type1".into();
        return Err(BusError::NoMode { address, mode: Mode::Cdev, reason });
    };
    let node = PathBuf::from("/dev/vfio/devices").join(name);
    let fail = |error: VfioError| vfio_error(address, Mode::Cdev, &node, error);
    let iommufd = IommuFd::new().map_err(|error| match error {
        IommufdError::OpenIommufd(source) => open_error(address, Path::new(IOMMUFD), source),
        error => BusError::NoMode { address, mode: Mode::Cdev, reason: error.to_string() },
    })?;
    let ops = Arc::new(VfioIommufd::new(Arc::new(iommufd), None, None).map_err(fail)?);
    let device = VfioDevice::new(&canonical_directory(function)?, ops.clone() as Arc<dyn VfioOps>, true)
        .map_err(fail)?;
    Ok((Device::from_vfio_device(device)?, Translation::Iommufd(ops)))
}

fn open_group(sysfs: &Sysfs, function: &Function, group: &Group) -> Result<(Device, Translation), BusError> {
    let address = function.address();
    let node = Path::new("/dev/vfio").join(group.node());
    let fail = |error: VfioError| match error {
        VfioError::GroupViable => foreign_group(sysfs, address, group),
        error => vfio_error(address, Mode::Type1, &node, error),
    };
    let ops = Arc::new(VfioContainer::new(None).map_err(fail)?);
    let device = VfioDevice::new(&canonical_directory(function)?, ops.clone() as Arc<dyn VfioOps>, false)
        .map_err(fail)?;
    Ok((Device::from_vfio_device(device)?, Translation::Type1(ops)))
}

/// Resolves the function's directory in sysfs. On removal, the link in `bus/pci/devices` disappears before the driver is unbound.
fn canonical_directory(function: &Function) -> Result<PathBuf, BusError> {
    fs::canonicalize(function.directory())
        .map_err(|error| open_error(function.address(), function.directory(), error))
}

fn open_no_iommu(address: PciAddress, group: &Group) -> Result<(Device, Translation), BusError> {
    let mode = Mode::NoIommu;
    let missing = missing_capabilities();
    if !missing.is_empty() {
        let reason = format!(
            "this process lacks {}; run it as root, or give its program both with `sudo setcap cap_sys_rawio,cap_sys_admin+ep PROGRAM`, but \
             no interpreter such as python3, whose every script would have them",
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
        .and_then(move_to_high_descriptor)
        .map_err(|source| open_error(address, &node, source))?;
    let pagemap =
        Pagemap::open().map_err(|source| open_error(address, Path::new("/proc/self/pagemap"), source))?;
    tracing::warn!(
        %address,
        "no-IOMMU mode: the card can read and write all of this machine's memory"
    );
    Ok((Device::no_iommu(device, group_file, container), Translation::None(pagemap)))
}

/// Moves a file to a descriptor above those of all other files.
///
/// When a process is killed, Linux closes its files in descending order of their descriptors (since 4.3, `task_work_run`). The
/// device must be closed before the memory files: closing it disables the card's bus mastering, and without an IOMMU nothing else
/// keeps the card from accessing memory that has been freed.
fn move_to_high_descriptor(file: File) -> io::Result<File> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes the structure and nothing else.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    let lowest = limit.rlim_cur.saturating_sub(16).min(1 << 16) as i32;
    // SAFETY: the descriptor is open; nothing else owns the new one.
    let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Returns the capabilities that no-IOMMU mode needs and this process lacks.
fn missing_capabilities() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    missing_in(&status)
}

fn missing_in(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    CAPABILITIES.iter().filter(|(_, bit)| effective & 1 << bit == 0).map(|(name, _)| *name).collect()
}

/// Returns the error that names the group members bound to other drivers. The kernel allows bridges and unbound functions in a
/// group.
fn foreign_group(sysfs: &Sysfs, address: PciAddress, group: &Group) -> BusError {
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
            let reason = "the IOMMU does not remap interrupts, which the kernel considers unsafe; enable interrupt remapping in the \
                          firmware, or accept the risk with allow_unsafe_interrupts=1 of the module vfio_iommu_type1 or iommufd"
                .into();
            BusError::NoMode { address, mode, reason }
        }
        // The kernel's error if another process has bound the device's own node.
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
            let remedy = "this user needs permission to read and write it".into();
            BusError::Permission { path, cause: source, remedy }
        }
        Some(libc::EBUSY) => BusError::Taken { path, reason: source.to_string() },
        Some(libc::EAGAIN) => {
            BusError::Refused { what: "resetting the card while opening it (try again)", cause: source }
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

    /// Creates a sysfs tree with one function, bound to `driver` and in group 7 together with `others`.
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
    fn assert_contains(text: &str, parts: &[&str]) {
        parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
    }

    #[test]
    fn each_error_names_its_remedy() {
        let empty = tempfile::tempdir().unwrap();
        assert_contains(&error(&empty, None), &["0000:00:04.0"]);
        assert_contains(
            &error(&tree(None, None), None),
            &["0000:00:04.0 is bound to no driver", "bind it to vfio-pci"],
        );
        assert_contains(&error(&tree(Some("xdma"), None), None), &["bound to xdma", "bind it to vfio-pci"]);
        let bare = tree(Some("vfio-pci"), None);
        assert_contains(
            &error(&bare, None),
            &["not behind an IOMMU", "intel_iommu=on", "enable_unsafe_noiommu_mode", "XDMA_VFIO=noiommu"],
        );
        let unsafe_group = tree(Some("vfio-pci"), Some(("vfio-noiommu", &[])));
        for mode in [None, Some(Mode::Type1), Some(Mode::Cdev)] {
            assert_contains(&error(&unsafe_group, mode), &["the card is not behind an IOMMU"]);
        }
        let safe = tree(Some("vfio-pci"), Some(("", &[])));
        assert_contains(
            &error(&safe, Some(Mode::NoIommu)),
            &["the card is behind an IOMMU", "type1 or cdev"],
        );
        assert_contains(&error(&safe, Some(Mode::Cdev)), &["no node in /dev/vfio/devices", "use type1"]);
    }

    #[test]
    fn group_members_of_other_drivers_are_named() {
        let others = [("0000:00:04.1", "nvme"), ("0000:00:1c.0", "pcieport"), ("0000:00:04.2", "vfio-pci")];
        let dir = tree(Some("vfio-pci"), Some(("", &others)));
        let sysfs = Sysfs::new(dir.path());
        let group = sysfs.function(ADDRESS).unwrap().iommu_group().unwrap().unwrap();
        let text = foreign_group(&sysfs, ADDRESS, &group).to_string();
        assert_contains(&text, &["group 7", "0000:00:04.1 (nvme)", "another slot"]);
        assert!(!text.contains("1c.0") && !text.contains("04.2"), "{text}");
    }

    #[test]
    fn kernel_errors_are_distinguished() {
        let error = |number| {
            open_error(ADDRESS, Path::new("/dev/vfio/7"), io::Error::from_raw_os_error(number)).to_string()
        };
        assert_contains(&error(libc::EACCES), &["no permission for /dev/vfio/7", "read and write"]);
        assert_contains(&error(libc::EBUSY), &["/dev/vfio/7 is taken"]);
        assert_contains(&error(libc::ENOENT), &["no card at /dev/vfio/7", "bound to vfio-pci"]);
        let eperm = VfioError::ContainerSetIOMMU(vmm_sys_util::errno::Error::new(libc::EPERM));
        let text = vfio_error(ADDRESS, Mode::Type1, Path::new("/dev/vfio/7"), eperm).to_string();
        assert_contains(&text, &["type1", "remap interrupts", "allow_unsafe_interrupts"]);
    }

    #[test]
    fn capabilities_are_read_from_the_status() {
        assert_eq!(missing_in("CapPrm:\t0\nCapEff:\t000001ffffffffff\n"), [""; 0]);
        assert_eq!(missing_in("CapEff:\t0000000000020000\n"), ["CAP_SYS_ADMIN"]);
        assert_eq!(missing_in(""), ["CAP_SYS_RAWIO", "CAP_SYS_ADMIN"]);
    }

    #[test]
    fn a_file_is_moved_above_all_others() {
        let file = move_to_high_descriptor(File::open("/dev/null").unwrap()).unwrap();
        let next = File::open("/dev/null").unwrap();
        assert!(file.as_raw_fd() > next.as_raw_fd());
    }
}
