//! A directory tree that imitates a host, and a fake kernel that reacts to writes.

use clap::Parser;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use vfio_setup::Host;
use vfio_setup::cli::{self, Cli};
use vfio_setup::kernel::{FileId, FileKind, Kernel, Owner};
use vfio_setup::mode::Mode;
use xdma::card::PciAddress;
use xdma::unstable::bus::{Bar, Resource};

pub const CARD: &str = "0000:00:1d.0";
pub const OTHER: &str = "0000:00:1e.0";

pub fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// A directory tree that imitates a host.
pub struct Tree {
    root: TempDir,
    kernel: Rc<State>,
}

/// State of the fake kernel: its log, and its injected errors.
#[derive(Default)]
pub struct State {
    root: RefCell<PathBuf>,
    log: RefCell<Vec<String>>,
    owners: RefCell<BTreeMap<PathBuf, Owner>>,
    /// Suffix of the paths to which writes fail.
    pub fails: RefCell<Option<&'static str>>,
    /// Suffix of the paths to which writes succeed without effect.
    pub ignores: RefCell<Option<&'static str>>,
    /// Identities of files, by their paths in the host.
    files: RefCell<BTreeMap<String, FileId>>,
    /// Maximum number of hugepages.
    pub pages: RefCell<Option<u64>>,
    /// Error of quiescing a card.
    pub quiesce_error: RefCell<Option<io::ErrorKind>>,
    /// Suffix of the path of a disk that the kernel uses.
    pub held: RefCell<Option<&'static str>>,
    /// Whether the kernel has iommufd.
    pub has_iommufd: RefCell<bool>,
    /// Whether the kernel was built without no-IOMMU mode.
    pub lacks_no_iommu: RefCell<bool>,
    /// IDs that drivers were given, each as driver and `vendor device`.
    pub ids: RefCell<Vec<(&'static str, String)>>,
}

impl Tree {
    /// Creates a host without PCI functions, with an IOMMU, and without vfio-pci.
    pub fn new() -> Self {
        let tree = Self { root: tempfile::tempdir().unwrap(), kernel: Rc::default() };
        *tree.kernel.root.borrow_mut() = tree.path("");
        for directory in
            ["sys/bus/pci/devices", "sys/class/iommu/dmar0", "sys/kernel/iommu_groups", "proc", "etc"]
        {
            tree.directory(directory);
        }
        tree.file("sys/bus/pci/drivers_probe", "");
        for (directory, free) in [("sys/kernel/mm", 3), ("sys/devices/system/node/node1", 2)] {
            for size in ["2048", "1048576"] {
                tree.file(&format!("{directory}/hugepages/hugepages-{size}kB/nr_hugepages"), "4\n");
                tree.file(
                    &format!("{directory}/hugepages/hugepages-{size}kB/free_hugepages"),
                    &format!("{free}\n"),
                );
            }
        }
        tree.file("etc/group", "root:x:0:\nkvm:x:44:\nfpga:x:990:ada\n");
        tree.file("etc/passwd", "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n");
        tree.process_of_root();
        tree
    }

    /// Creates a host with an F1-like card in group 7 on NUMA node 1, bound to the driver `xdma`.
    pub fn with_card() -> Self {
        let tree = Self::new();
        tree.function(CARD, "0x1d0f", "0xf001", "0x058000");
        tree.group(7, &[CARD]);
        tree.driver(CARD, "xdma");
        tree
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn kernel(&self) -> &State {
        &self.kernel
    }

    pub fn host(&self) -> Host {
        Host::with_kernel(self.root.path(), Box::new(FakeKernel(self.kernel.clone())))
    }

    pub fn directory(&self, path: &str) {
        // The directory must not be writable by others, whatever the umask is; otherwise `persist` refuses it.
        fs::DirBuilder::new().recursive(true).mode(0o755).create(self.path(path)).unwrap();
    }

    pub fn file(&self, path: &str, text: &str) {
        self.directory(Path::new(path).parent().unwrap().to_str().unwrap());
        fs::write(self.path(path), text).unwrap();
    }

    pub fn link(&self, path: &str, target: &str) {
        self.directory(Path::new(path).parent().unwrap().to_str().unwrap());
        let _ = fs::remove_file(self.path(path));
        symlink(target, self.path(path)).unwrap();
    }

    pub fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Adds a PCI function without driver and group.
    pub fn function(&self, address: &str, vendor: &str, device: &str, class: &str) {
        let directory = format!("sys/bus/pci/devices/{address}");
        let resource = "0x0000000080000000 0x0000000081ffffff 0x0000000000040200\n";
        for (name, text) in [
            ("vendor", vendor),
            ("device", device),
            ("class", class),
            ("driver_override", "(null)"),
            ("numa_node", "1"),
            ("current_link_speed", "8.0 GT/s PCIe"),
            ("current_link_width", "16"),
            ("max_link_speed", "8.0 GT/s PCIe"),
            ("max_link_width", "16"),
            ("reset_method", "bus"),
            ("resource", resource),
        ] {
            self.file(&format!("{directory}/{name}"), &format!("{text}\n"));
        }
    }

    pub fn group(&self, number: u32, members: &[&str]) {
        for member in members {
            self.directory(&format!("sys/kernel/iommu_groups/{number}/devices/{member}"));
            let target = format!("../../../../kernel/iommu_groups/{number}");
            self.link(&format!("sys/bus/pci/devices/{member}/iommu_group"), &target);
        }
    }

    pub fn driver(&self, address: &str, driver: &str) {
        self.kernel.load(driver);
        self.kernel.attach(address, driver);
    }

    /// Binds the function to vfio-pci, whichever driver it is bound to.
    pub fn driver_is_vfio(&self, address: &str) {
        let _ = fs::remove_file(self.kernel.device(address).join("driver"));
        self.driver(address, "vfio-pci");
    }

    /// Returns the driver to which a function is bound.
    pub fn driver_of(&self, address: &str) -> Option<String> {
        self.kernel.driver(address)
    }

    /// Adds a process that has files open.
    pub fn process(&self, pid: u32, command: &str, files: &[&str]) {
        self.file(&format!("proc/{pid}/comm"), &format!("{command}\n"));
        for (number, file) in files.iter().enumerate() {
            self.link(&format!("proc/{pid}/fd/{number}"), file);
            self.file(&format!("proc/{pid}/fdinfo/{number}"), "pos:\t0\nflags:\t02100002\nmnt_id:\t9\n");
        }
    }

    /// Makes a path identify a character device with this number.
    pub fn device(&self, name: &str, number: (u32, u32)) {
        let id = FileId { kind: FileKind::Character, device: (0, 5), inode: 700, number };
        self.kernel.files.borrow_mut().insert(name.into(), id);
    }

    /// Makes a path identify a file with this inode, in a file system with this device number.
    pub fn inode(&self, name: &str, device: (u32, u32), inode: u64) {
        let id = FileId { kind: FileKind::Other, device, inode, number: (0, 0) };
        self.kernel.files.borrow_mut().insert(name.into(), id);
    }

    fn process_of_root(&self) {
        self.file(
            "proc/self/status",
            "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t0 \nCapEff:\t000001ffffffffff\n",
        );
        self.file(
            "proc/self/limits",
            "Max locked memory         unlimited            unlimited            bytes\n",
        );
    }

    /// Makes this a process of the user ada, in these groups, without capabilities, and with a memlock limit of 8 MiB.
    pub fn process_of_ada(&self, groups: &str) {
        let status = format!(
            "Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t{groups}\nCapEff:\t0000000000000000\n"
        );
        self.file("proc/self/status", &status);
        self.file(
            "proc/self/limits",
            "Max locked memory         8388608              8388608              bytes\n",
        );
    }

    pub fn set_owner(&self, node: &str, uid: u32, gid: u32, mode: u32) {
        self.kernel.owners.borrow_mut().insert(self.path(node), Owner { uid, gid, mode });
    }

    pub fn owner(&self, node: &str) -> (u32, u32, u32) {
        let owner = FakeKernel(self.kernel.clone()).owner(&self.path(node)).unwrap();
        (owner.uid, owner.gid, owner.mode)
    }

    /// Gives a function a configuration space with these words at the beginning; the rest is zero, except for the address of BAR 0.
    pub fn config(&self, address: &str, vendor: u16, device: u16, bar: u32) {
        let mut header = [0u8; 64];
        header[..2].copy_from_slice(&vendor.to_le_bytes());
        header[2..4].copy_from_slice(&device.to_le_bytes());
        header[16..20].copy_from_slice(&bar.to_le_bytes());
        fs::write(self.kernel.device(address).join("config"), header).unwrap();
    }

    /// Makes a function read all ones, as after its image is lost.
    pub fn lose(&self, address: &str) {
        fs::write(self.kernel.device(address).join("config"), [0xff; 64]).unwrap();
        let _ = fs::remove_file(self.path("removed-from"));
        symlink(self.kernel.device(address), self.path("removed-from")).unwrap();
    }

    /// Does what a user does who pastes advice into a shell: runs its commands up to a comment, and fails with the first that fails.
    pub fn paste(&self, advice: &str) -> Result<(), String> {
        let commands = advice.split("   #").next().unwrap();
        commands
            .split("; ")
            .flat_map(|part| part.split(" && "))
            .try_for_each(|command| self.type_command(command))
    }

    fn type_command(&self, command: &str) -> Result<(), String> {
        let words: Vec<_> = command.split_whitespace().collect();
        match words.as_slice() {
            ["sudo", "groupadd", "--system", name] => {
                let text = self.text("etc/group");
                self.file("etc/group", &format!("{text}{name}:x:991:\n"));
                Ok(())
            }
            ["sudo", "driverctl", "unset-override", address] => {
                fs::remove_file(self.path(&format!("etc/driverctl.d/pci-{address}")))
                    .map_err(|e| e.to_string())
            }
            // These change the shell, accounts and files of the user, or the card, which this host does not imitate.
            ["newgrp" | "ulimit" | "export" | "unset", ..]
            | ["sudo", "usermod" | "setcap" | "fpga-load-local-image" | "fpga-describe-local-image", ..] => {
                Ok(())
            }
            ["sudo", "vfio-setup", ..] => {
                let cli = Cli::try_parse_from(&words[1..]).map_err(|error| format!("{command}: {error}"))?;
                let outcome = cli::run(&self.host(), &cli.command).map_err(|error| error.to_string())?;
                assert_eq!(outcome.code, 0, "{command}");
                Ok(())
            }
            ["echo", ..] => {
                let (echo, tee) =
                    command.split_once(" | sudo tee ").ok_or_else(|| format!("no tee: {command}"))?;
                let text = echo["echo".len()..].trim().trim_matches('"');
                let text = if text.is_empty() { "\n" } else { text };
                let kernel = FakeKernel(self.kernel.clone());
                tee.split_whitespace().try_for_each(|file| {
                    kernel.write(&self.path(&file[1..]), text).map_err(|error| format!("{command}: {error}"))
                })
            }
            _ => Err(format!("not a command: {command}")),
        }
    }

    /// Returns the operations on the kernel, in order.
    pub fn log(&self) -> Vec<String> {
        self.kernel.log.borrow().clone()
    }
}

impl State {
    fn path(&self, path: &str) -> PathBuf {
        self.root.borrow().join(path)
    }

    fn device(&self, address: &str) -> PathBuf {
        self.path("sys/bus/pci/devices").join(address)
    }

    fn driver(&self, address: &str) -> Option<String> {
        let link = fs::read_link(self.device(address).join("driver")).ok()?;
        Some(link.file_name()?.to_str()?.to_string())
    }

    fn group(&self, address: &str) -> Option<String> {
        let link = fs::read_link(self.device(address).join("iommu_group")).ok()?;
        Some(link.file_name()?.to_str()?.to_string())
    }

    fn only_driver(&self, address: &str) -> Option<String> {
        let text = fs::read_to_string(self.device(address).join("driver_override")).unwrap();
        Some(text.trim().to_string()).filter(|text| text != "(null)")
    }

    fn load(&self, driver: &str) {
        let directory = self.path("sys/bus/pci/drivers").join(driver);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("bind"), "").unwrap();
        fs::write(directory.join("unbind"), "").unwrap();
        if driver == "vfio-pci" {
            let parameters = self.path("sys/module/vfio/parameters");
            fs::create_dir_all(&parameters).unwrap();
            if !*self.lacks_no_iommu.borrow() {
                fs::write(parameters.join("enable_unsafe_noiommu_mode"), "N\n").unwrap();
            }
            self.node("dev/vfio/vfio", 0o666);
            if *self.has_iommufd.borrow() {
                self.node("dev/iommu", 0o660);
            }
        }
    }

    pub fn node(&self, node: &str, mode: u32) {
        let path = self.path(node);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        self.owners.borrow_mut().insert(path, Owner { uid: 0, gid: 0, mode });
    }

    fn attach(&self, address: &str, driver: &str) {
        symlink(format!("../../../../bus/pci/drivers/{driver}"), self.device(address).join("driver"))
            .unwrap();
        if driver != "vfio-pci" {
            return;
        }
        match self.group(address) {
            Some(group) => self.group_node(&group),
            None => self.attach_without_iommu(address),
        }
    }

    fn group_node(&self, group: &str) {
        self.node(&format!("dev/vfio/{group}"), 0o600);
        let class = self.path("sys/class/vfio").join(group);
        fs::create_dir_all(&class).unwrap();
        fs::write(class.join("dev"), format!("243:{group}\n")).unwrap();
    }

    fn attach_without_iommu(&self, address: &str) {
        let group = self.path("sys/kernel/iommu_groups/0");
        fs::create_dir_all(group.join("devices").join(address)).unwrap();
        fs::write(group.join("name"), "vfio-noiommu\n").unwrap();
        // As in Linux, the device has a name, but no device number and no node.
        fs::create_dir_all(self.device(address).join("vfio-dev/vfio0")).unwrap();
        symlink("../../../../kernel/iommu_groups/0", self.device(address).join("iommu_group")).unwrap();
        self.node("dev/vfio/noiommu-0", 0o600);
    }

    fn detach(&self, address: &str, driver: &str) -> io::Result<()> {
        if self.driver(address).as_deref() != Some(driver) {
            return Err(io::Error::from_raw_os_error(19)); // ENODEV
        }
        fs::remove_file(self.device(address).join("driver"))?;
        if driver == "vfio-pci"
            && let Some(group) = self.group(address)
        {
            let _ = fs::remove_file(self.path(&format!("dev/vfio/{group}")));
        }
        Ok(())
    }

    /// Returns whether the probe of vfio-pci succeeds: there is a group, or no-IOMMU mode is enabled.
    fn viable(&self, address: &str) -> bool {
        let switch = fs::read_to_string(self.path("sys/module/vfio/parameters/enable_unsafe_noiommu_mode"));
        self.group(address).is_some() || switch.is_ok_and(|text| text == "Y\n")
    }

    /// Returns a driver that was given the IDs of a function.
    fn driver_by_ids(&self, address: &str) -> Option<String> {
        let id = |name: &str| {
            let text = fs::read_to_string(self.device(address).join(name)).unwrap();
            u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap()
        };
        let ids = format!("{:x} {:x}", id("vendor"), id("device"));
        self.ids.borrow().iter().find(|(_, known)| *known == ids).map(|(driver, _)| driver.to_string())
    }

    fn remove_ids(&self, driver: &str, ids: &str) -> io::Result<()> {
        let mut known = self.ids.borrow_mut();
        // As in the kernel, one entry at a time.
        let entry = known.iter().position(|(of, known)| *of == driver && known == ids);
        known.remove(entry.ok_or_else(|| io::Error::from_raw_os_error(19))?);
        Ok(())
    }

    fn probe(&self, address: &str) {
        let by_ids = || self.driver_by_ids(address);
        let driver = self.only_driver(address).or_else(by_ids).unwrap_or_else(|| "xdma".into());
        let loaded = self.path("sys/bus/pci/drivers").join(&driver).is_dir();
        if loaded && self.driver(address).is_none() && (driver != "vfio-pci" || self.viable(address)) {
            self.attach(address, &driver);
        }
    }

    /// Finds a function again that was removed. It answers with its IDs now.
    fn rescan(&self) -> io::Result<()> {
        let found = fs::read_link(self.path("removed-from"))?;
        fs::rename(self.path("removed"), &found)?;
        fs::remove_file(found.join("config"))
    }

    fn react(&self, path: &Path, text: &str) -> io::Result<()> {
        let shown = path.display().to_string();
        let name = path.file_name().unwrap().to_str().unwrap();
        let parent = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        match name {
            "driver_override" if text == "\n" => fs::write(path, "(null)\n"),
            "unbind" => self.detach(text, parent),
            "remove_id" => self.remove_ids(parent, text),
            "remove" => fs::rename(path.parent().unwrap(), self.path("removed")),
            "rescan" => self.rescan(),
            "bind" if self.only_driver(text).is_some_and(|only| only != parent) => {
                Err(io::Error::from_raw_os_error(19))
            }
            "bind" => {
                self.attach(text, parent);
                Ok(())
            }
            "drivers_probe" => {
                self.probe(text);
                Ok(())
            }
            "nr_hugepages" => {
                let given = text.parse::<u64>().unwrap().min(self.pages.borrow().unwrap_or(u64::MAX));
                let free = path.with_file_name("free_hugepages");
                let number = |path: &Path| fs::read_to_string(path).unwrap().trim().parse::<u64>().unwrap();
                fs::write(&free, format!("{}\n", (number(&free) + given).saturating_sub(number(path))))?;
                fs::write(path, format!("{given}\n"))
            }
            _ if !path.exists() => Err(io::Error::from_raw_os_error(2)),
            "driver_override" | "enable_unsafe_noiommu_mode" => fs::write(path, format!("{text}\n")),
            _ => panic!("unexpected write to {shown}"),
        }
    }
}

struct FakeKernel(Rc<State>);

impl Kernel for FakeKernel {
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let inside = path.strip_prefix(&*self.0.root.borrow()).unwrap().display().to_string();
        self.0.log.borrow_mut().push(format!("{} > /{inside}", text.trim_end()));
        let named = |ends: &RefCell<Option<&str>>| ends.borrow().is_some_and(|end| inside.ends_with(end));
        if named(&self.0.fails) {
            return Err(io::Error::from_raw_os_error(5)); // EIO
        }
        if named(&self.0.ignores) { Ok(()) } else { self.0.react(path, text) }
    }

    fn load_module(&self, name: &str) -> io::Result<()> {
        self.0.log.borrow_mut().push(format!("modprobe {name}"));
        if *self.0.fails.borrow() == Some("modprobe") {
            return Err(io::Error::other("modprobe: FATAL: Module vfio-pci not found"));
        }
        if *self.0.ignores.borrow() != Some("modprobe") {
            self.0.load(name);
        }
        Ok(())
    }

    fn is_held(&self, disk: &Path) -> bool {
        self.0.held.borrow().is_some_and(|held| disk.ends_with(held))
    }

    fn identify(&self, path: &Path) -> io::Result<FileId> {
        let target = fs::read_link(path)
            .unwrap_or_else(|_| Path::new("/").join(path.strip_prefix(&*self.0.root.borrow()).unwrap()));
        let known = self.0.files.borrow().get(target.to_str().unwrap()).copied();
        known.ok_or_else(|| io::Error::from_raw_os_error(2))
    }

    fn quiesce(&self, address: PciAddress, modes: &[Mode]) -> io::Result<()> {
        let names: Vec<_> = modes.iter().map(Mode::to_string).collect();
        self.0.log.borrow_mut().push(format!("quiesce {address} by {}", names.join(", ")));
        self.0.quiesce_error.borrow().map_or(Ok(()), |kind| Err(io::Error::new(kind, "the reason")))
    }

    fn sleep(&self, time: Duration) {
        self.0.log.borrow_mut().push(format!("sleep {}", time.as_secs()));
    }

    fn map_bar(&self, path: &Path) -> io::Result<Arc<dyn Bar>> {
        let file = fs::File::options().read(true).write(true).open(path)?;
        Ok(Arc::new(Resource::map(&file)?))
    }

    fn settle(&self) {
        self.0.log.borrow_mut().push("settle".into());
    }

    fn owner(&self, node: &Path) -> io::Result<Owner> {
        fs::symlink_metadata(node)?;
        Ok(self.0.owners.borrow().get(node).copied().unwrap_or(Owner { uid: 0, gid: 0, mode: 0o600 }))
    }

    fn set_owner(&self, node: &Path, owner: Owner) -> io::Result<()> {
        let inside = node.strip_prefix(&*self.0.root.borrow()).unwrap().display().to_string();
        self.0.log.borrow_mut().push(format!("own /{inside} {owner}"));
        if self.0.fails.borrow().is_some_and(|end| inside.ends_with(end)) {
            return Err(io::Error::from_raw_os_error(1)); // EPERM
        }
        self.0.owners.borrow_mut().insert(node.into(), owner);
        Ok(())
    }
}
