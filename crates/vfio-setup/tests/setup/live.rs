//! Operations on the running kernel, as far as the files of this machine allow tests.

use crate::support::{CARD, Tree, address};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use vfio_setup::Host;
use vfio_setup::kernel::{Kernel, Owner, RunningKernel};
use vfio_setup::mode::Mode;
use vfio_setup::usage::{self, Use};
use xdma::card::PciAddress;
use xdma::unstable::bus::sysfs::Sysfs;

/// Returns the processes that use a function, and the doubtful uses.
fn users(host: &Host, address: PciAddress) -> (Vec<u32>, Vec<String>) {
    let uses = usage::of(host, &host.sysfs().function(address).unwrap()).unwrap();
    let pid = |used: &Use| match used {
        Use::Open { pid, .. } => Some(*pid),
        _ => None,
    };
    (uses.certain.iter().filter_map(pid).collect(), uses.doubtful)
}

/// Returns a host with the processes of this machine, and a card whose registers are a file in this machine's sysfs that all users may
/// read.
fn with_real_processes() -> (Tree, Host) {
    let tree = Tree::with_card();
    fs::remove_dir_all(tree.path("proc")).unwrap();
    tree.link("proc", "/proc");
    tree.link(&format!("sys/bus/pci/devices/{CARD}/resource0"), REGISTERS);
    let host = Host::new(tree.path(""));
    (tree, host)
}

/// A file of sysfs.
const REGISTERS: &str = "/sys/kernel/uevent_seqnum";

/// Environment variable that makes a test run its part inside new namespaces.
const INSIDE: &str = "XDMA_TEST_INSIDE";

fn mount(kind: &str, at: &str) {
    let text = |text: &str| CString::new(text).unwrap();
    let (kind, at) = (text(kind), text(at));
    // SAFETY: the strings outlive the call, and the data pointer may be null.
    let mounted = unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    assert_eq!(mounted, 0, "{}", std::io::Error::last_os_error());
}

/// Holds a file open until the parent process ends this one.
fn hold(file: &Path) {
    let _open = File::open(file).unwrap();
    println!("held");
    let _ = std::io::stdin().read(&mut [0]);
}

/// A test that runs again inside new namespaces, which users may create, and holds a file open. It is killed on drop.
struct Inside(Child);

impl Inside {
    fn start(test: &str, namespaces: &[&str], file: &Path) -> Option<Self> {
        let child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount"])
            .args(namespaces)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(INSIDE, file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut inside = Self(child);
        // Later output is not read, which does no harm.
        let lines = BufReader::new(inside.0.stdout.take()?).lines().map_while(Result::ok);
        let mut lines = lines.skip_while(|line| !line.ends_with("held"));
        lines.next().map(|_| inside)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn inside() -> Option<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from)
}

const NOT_PERMITTED: &str = "skipped: `unshare --user --mount` is not permitted here";

#[test]
fn a_private_mount_namespace_cannot_fake_a_use_of_a_card() {
    if let Some(file) = inside() {
        mount("tmpfs", "/sys");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, [0; 4096]).unwrap();
        // SAFETY: the file is not changed, and the mapping is not read.
        let _mapped = unsafe { memmap2::Mmap::map(&File::open(&file).unwrap()) }.unwrap();
        return hold(&file);
    }
    let Some(function) = Sysfs::system().functions().ok().and_then(|all| all.into_iter().next()) else {
        return println!("skipped: this machine has no PCI function");
    };
    let registers = fs::canonicalize(function.directory()).unwrap().join("resource0");
    let test = "live::a_private_mount_namespace_cannot_fake_a_use_of_a_card";
    let Some(eve) = Inside::start(test, &[], &registers) else { return println!("{NOT_PERMITTED}") };
    let maps = fs::read_to_string(format!("/proc/{}/maps", eve.pid())).unwrap();
    assert!(
        maps.contains(registers.to_str().unwrap()),
        "the kernel lists it with the name of the card's registers: {maps}"
    );
    let (certain, doubtful) = users(&Host::new("/"), function.address());
    assert!(!certain.contains(&eve.pid()), "{certain:?}");
    let me = format!("process {} ", eve.pid());
    assert!(doubtful.iter().any(|doubt| doubt.starts_with(&me)), "{doubtful:?}");
}

#[test]
fn registers_open_in_a_container_are_in_use() {
    if let Some(file) = inside() {
        // Another instance of sysfs, with another device number.
        mount("sysfs", "/sys");
        return hold(&file);
    }
    let (_tree, host) = with_real_processes();
    let test = "live::registers_open_in_a_container_are_in_use";
    let Some(container) = Inside::start(test, &["--net"], Path::new(REGISTERS)) else {
        return println!("{NOT_PERMITTED}");
    };
    let inside = fs::metadata(format!("/proc/{}/root{REGISTERS}", container.pid())).unwrap();
    assert_ne!(inside.dev(), fs::metadata(REGISTERS).unwrap().dev(), "the test needs two instances of sysfs");
    let (certain, _) = users(&host, address(CARD));
    assert!(certain.contains(&container.pid()), "{certain:?}");
}

#[test]
fn open_registers_are_a_use_and_a_path_to_them_is_not() {
    let (_tree, host) = with_real_processes();
    let path = File::options().read(true).custom_flags(libc::O_PATH).open(REGISTERS).unwrap();
    let mut sleepers = [File::open(REGISTERS).unwrap(), path]
        .map(|file| Command::new("sleep").arg("60").stdin(file).spawn().unwrap());
    let (certain, doubtful) = users(&host, address(CARD));
    let [holder, other] = [sleepers[0].id(), sleepers[1].id()];
    for process in &mut sleepers {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert!(certain.contains(&holder) && !certain.contains(&other), "{certain:?} {holder} {other}");
    assert!(!doubtful.iter().any(|doubt| doubt.contains(&format!("process {other} "))), "{doubtful:?}");
}

#[test]
fn a_write_does_not_create_files_or_follow_links() {
    let root = tempfile::tempdir().unwrap();
    let (kernel, path) = (RunningKernel::new(root.path()), |name: &str| root.path().join(name));
    assert!(kernel.write(&path("missing"), "1").is_err());
    assert!(!path("missing").exists());
    std::fs::write(path("file"), "0\n").unwrap();
    kernel.write(&path("file"), "1").unwrap();
    assert_eq!(std::fs::read(path("file")).unwrap(), b"1\n");
    symlink(path("file"), path("link")).unwrap();
    assert!(kernel.write(&path("link"), "2").is_err());
    assert_eq!(std::fs::read(path("file")).unwrap(), b"1\n");
}

#[test]
fn an_owner_is_set_on_a_node_and_never_through_a_link() {
    let root = tempfile::tempdir().unwrap();
    let (kernel, node, link) =
        (RunningKernel::new(root.path()), root.path().join("node"), root.path().join("link"));
    std::fs::write(&node, "").unwrap();
    symlink(&node, &link).unwrap();
    let now = kernel.owner(&node).unwrap();
    let wanted = Owner { mode: 0o660, ..now };
    kernel.set_owner(&node, wanted).unwrap();
    assert_eq!(kernel.owner(&node).unwrap(), wanted);
    for error in [kernel.owner(&link).unwrap_err(), kernel.set_owner(&link, now).unwrap_err()] {
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }
    assert_eq!(kernel.owner(&node).unwrap(), wanted);
    assert!(kernel.owner(&root.path().join("missing")).is_err());
}

#[test]
fn a_file_is_not_a_disk_that_the_kernel_uses() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("sda");
    let kernel = RunningKernel::new(root.path());
    assert!(!kernel.is_held(&file) && !file.exists());
    std::fs::write(&file, "").unwrap();
    assert!(!kernel.is_held(&file));
}

#[test]
fn quiesce_needs_the_running_system_and_an_existing_card() {
    let nowhere = "ffff:ff:1f.7".parse().unwrap();
    let root = tempfile::tempdir().unwrap();
    let error = RunningKernel::new(root.path()).quiesce(nowhere, &[Mode::Type1]).unwrap_err();
    assert!(error.to_string().contains("--root"), "{error}");
    for modes in [&[Mode::Cdev, Mode::Type1][..], &[Mode::NoIommu]] {
        let error = RunningKernel::new("/").quiesce(nowhere, modes).unwrap_err();
        assert!(error.to_string().contains("no PCI function ffff:ff:1f.7"), "{error}");
        assert_ne!(error.kind(), std::io::ErrorKind::TimedOut);
    }
}

#[test]
fn modules_are_loaded_only_into_the_running_system() {
    let root = tempfile::tempdir().unwrap();
    let error = RunningKernel::new(root.path()).load_module("vfio-pci").unwrap_err().to_string();
    assert!(error.contains("--root"), "{error}");
}

/// A user could plant such links in a tree that root uses with `--root`.
#[test]
fn links_do_not_lead_out_of_the_root() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (precious, inside) = (outside.path().join("bind"), root.path().join("driver/bind"));
    std::fs::write(&precious, "0\n").unwrap();
    let kernel = RunningKernel::new(root.path());
    for target in [outside.path().to_path_buf(), "../../../../../..".into(), "/proc/self/root".into()] {
        symlink(&target, root.path().join("driver")).unwrap();
        let path = match target.starts_with(outside.path()) {
            true => inside.clone(),
            false => root.path().join("driver").join(precious.strip_prefix("/").unwrap()),
        };
        assert!(kernel.write(&path, "1").is_err(), "{}", target.display());
        assert_eq!(std::fs::read(&precious).unwrap(), b"0\n");
        std::fs::remove_file(root.path().join("driver")).unwrap();
    }
    // Links inside the root are followed, since sysfs consists of them.
    std::fs::create_dir(root.path().join("real")).unwrap();
    std::fs::write(root.path().join("real/bind"), "0\n").unwrap();
    symlink("real", root.path().join("driver")).unwrap();
    kernel.write(&inside, "1").unwrap();
    assert_eq!(std::fs::read(root.path().join("real/bind")).unwrap(), b"1\n");
}

#[test]
fn only_sysfs_and_device_owners_are_changed_in_the_running_system() {
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("nr_hugepages");
    std::fs::write(&file, "0\n").unwrap();
    let kernel = RunningKernel::new("/");
    let error = kernel.write(&file, "1").unwrap_err().to_string();
    assert!(error.contains("sysfs"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"0\n");
    let owner = Owner { uid: 0, gid: 0, mode: 0o666 };
    for error in [kernel.owner(&file).unwrap_err(), kernel.set_owner(&file, owner).unwrap_err()] {
        assert!(error.to_string().contains("character device"), "{error}");
    }
    assert!(kernel.owner(std::path::Path::new("/dev/null")).is_ok());
}

#[test]
fn set_owner_does_not_follow_a_node_swapped_for_a_link() {
    let root = tempfile::tempdir().unwrap();
    let (node, precious) = (root.path().join("node"), root.path().join("precious"));
    std::fs::write(&precious, "").unwrap();
    let kernel = RunningKernel::new(root.path());
    let before = kernel.owner(&precious).unwrap();
    let swapper = {
        let (node, precious, link) = (node.clone(), precious.clone(), root.path().join("link"));
        std::thread::spawn(move || {
            for round in 0..2000 {
                match round % 2 {
                    0 => symlink(&precious, &link).unwrap(),
                    _ => std::fs::write(&link, "").unwrap(),
                }
                std::fs::rename(&link, &node).unwrap();
            }
        })
    };
    while !swapper.is_finished() {
        let _ = kernel.set_owner(&node, Owner { mode: 0o600, ..before });
    }
    swapper.join().unwrap();
    assert_eq!(kernel.owner(&precious).unwrap(), before);
}
