//! What is done to the running kernel, as far as files of this machine can show it.

use crate::support::{CARD, Tree, address};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use vfio_setup::Host;
use vfio_setup::kernel::{Kernel, Live, Owner};
use vfio_setup::mode::Mode;
use vfio_setup::usage::{self, Use};
use xdma::bus::PciAddress;
use xdma::bus::sysfs::Sysfs;

/// Processes that use a function, and what is doubtful.
fn users(host: &Host, address: PciAddress) -> (Vec<u32>, Vec<String>) {
    let uses = usage::of(host, &host.sysfs().function(address).unwrap()).unwrap();
    let pid = |used: &Use| match used {
        Use::Open { pid, .. } => Some(*pid),
        _ => None,
    };
    (uses.certain.iter().filter_map(pid).collect(), uses.doubtful)
}

/// A host with a card whose registers are a file of this machine's sysfs that everybody may read, and this machine's processes.
fn with_real_processes() -> (Tree, Host) {
    let tree = Tree::with_card();
    fs::remove_dir_all(tree.path("proc")).unwrap();
    tree.link("proc", "/proc");
    tree.link(&format!("sys/bus/pci/devices/{CARD}/resource0"), REGISTERS);
    let host = Host::new(tree.path(""));
    (tree, host)
}

/// Any file of sysfs.
const REGISTERS: &str = "/sys/kernel/uevent_seqnum";

/// What a test does in namespaces of its own.
const INSIDE: &str = "XDMA_TEST_INSIDE";

fn mount(kind: &str, at: &str) {
    let text = |text: &str| CString::new(text).unwrap();
    let (kind, at) = (text(kind), text(at));
    // SAFETY: the texts outlive the call, and there is no data.
    let mounted = unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    assert_eq!(mounted, 0, "{}", std::io::Error::last_os_error());
}

/// Holds a file open until its parent has looked.
fn hold(file: &Path) {
    let _open = File::open(file).unwrap();
    println!("held");
    let _ = std::io::stdin().read(&mut [0]);
}

/// Runs a test again inside namespaces of its own, which a user may make, until it holds a file. Kills it when dropped.
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
        let said = BufReader::new(inside.0.stdout.take()?).lines().map_while(Result::ok);
        // What it says next has nobody to read it, which is as well.
        let mut said = said.skip_while(|line| !line.ends_with("held"));
        said.next().map(|_| inside)
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
fn a_private_mount_namespace_makes_up_no_use_of_a_card() {
    if let Some(file) = inside() {
        mount("tmpfs", "/sys");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, [0; 4096]).unwrap();
        // SAFETY: nobody changes the file, and nothing is read.
        let _mapped = unsafe { memmap2::Mmap::map(&File::open(&file).unwrap()) }.unwrap();
        return hold(&file);
    }
    let Some(function) = Sysfs::system().functions().ok().and_then(|all| all.into_iter().next()) else {
        return println!("skipped: no PCI function is here");
    };
    let registers = fs::canonicalize(function.directory()).unwrap().join("resource0");
    let test = "live::a_private_mount_namespace_makes_up_no_use_of_a_card";
    let Some(eve) = Inside::start(test, &[], &registers) else { return println!("{NOT_PERMITTED}") };
    let maps = fs::read_to_string(format!("/proc/{}/maps", eve.pid())).unwrap();
    assert!(maps.contains(registers.to_str().unwrap()), "the kernel calls it as the card's: {maps}");
    let (certain, doubtful) = users(&Host::new("/"), function.address());
    assert!(!certain.contains(&eve.pid()), "{certain:?}");
    let me = format!("process {} ", eve.pid());
    assert!(doubtful.iter().any(|doubt| doubt.starts_with(&me)), "{doubtful:?}");
}

#[test]
fn registers_open_in_a_container_are_in_use() {
    if let Some(file) = inside() {
        // Another instance of sysfs, with a device number of its own.
        mount("sysfs", "/sys");
        return hold(&file);
    }
    let (_tree, host) = with_real_processes();
    let test = "live::registers_open_in_a_container_are_in_use";
    let Some(container) = Inside::start(test, &["--net"], Path::new(REGISTERS)) else {
        return println!("{NOT_PERMITTED}");
    };
    let inside = fs::metadata(format!("/proc/{}/root{REGISTERS}", container.pid())).unwrap();
    assert_ne!(inside.dev(), fs::metadata(REGISTERS).unwrap().dev(), "otherwise this shows nothing");
    let (certain, _) = users(&host, address(CARD));
    assert!(certain.contains(&container.pid()), "{certain:?}");
}

#[test]
fn a_process_with_registers_open_is_found_and_one_with_a_path_to_them_is_not() {
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
fn a_write_creates_nothing_and_follows_no_link() {
    let root = tempfile::tempdir().unwrap();
    let (live, path) = (Live::new(root.path()), |name: &str| root.path().join(name));
    assert!(live.write(&path("missing"), "1").is_err());
    assert!(!path("missing").exists());
    std::fs::write(path("file"), "0\n").unwrap();
    live.write(&path("file"), "1").unwrap();
    assert_eq!(std::fs::read(path("file")).unwrap(), b"1\n");
    symlink(path("file"), path("link")).unwrap();
    assert!(live.write(&path("link"), "2").is_err());
    assert_eq!(std::fs::read(path("file")).unwrap(), b"1\n");
}

#[test]
fn an_owner_is_set_on_a_node_and_never_through_a_link() {
    let root = tempfile::tempdir().unwrap();
    let (live, node, link) = (Live::new(root.path()), root.path().join("node"), root.path().join("link"));
    std::fs::write(&node, "").unwrap();
    symlink(&node, &link).unwrap();
    let now = live.owner(&node).unwrap();
    let wanted = Owner { mode: 0o660, ..now };
    live.set_owner(&node, wanted).unwrap();
    assert_eq!(live.owner(&node).unwrap(), wanted);
    for error in [live.owner(&link).unwrap_err(), live.set_owner(&link, now).unwrap_err()] {
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }
    assert_eq!(live.owner(&node).unwrap(), wanted);
    assert!(live.owner(&root.path().join("missing")).is_err());
}

#[test]
fn a_file_is_no_disk_that_the_kernel_holds() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("sda");
    let live = Live::new(root.path());
    assert!(!live.is_held(&file) && !file.exists());
    std::fs::write(&file, "").unwrap();
    assert!(!live.is_held(&file));
}

#[test]
fn a_card_is_opened_in_the_running_system_only_and_one_that_is_not_there_is_an_error() {
    let nowhere = "ffff:ff:1f.7".parse().unwrap();
    let root = tempfile::tempdir().unwrap();
    let error = Live::new(root.path()).quiesce(nowhere, &[Mode::Type1]).unwrap_err();
    assert!(error.to_string().contains("--root"), "{error}");
    for modes in [&[Mode::Cdev, Mode::Type1][..], &[Mode::NoIommu]] {
        let error = Live::new("/").quiesce(nowhere, modes).unwrap_err();
        assert!(error.to_string().contains("no PCI function ffff:ff:1f.7"), "{error}");
        assert_ne!(error.kind(), std::io::ErrorKind::TimedOut);
    }
}

#[test]
fn modules_go_into_the_running_system_only() {
    let root = tempfile::tempdir().unwrap();
    let error = Live::new(root.path()).load_module("vfio-pci").unwrap_err().to_string();
    assert!(error.contains("--root"), "{error}");
}

/// What a user could plant in a tree that root is pointed at.
#[test]
fn links_on_the_way_do_not_lead_out_of_the_root() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (precious, inside) = (outside.path().join("bind"), root.path().join("driver/bind"));
    std::fs::write(&precious, "0\n").unwrap();
    let live = Live::new(root.path());
    for way in [outside.path().to_path_buf(), "../../../../../..".into(), "/proc/self/root".into()] {
        symlink(&way, root.path().join("driver")).unwrap();
        let path = match way.starts_with(outside.path()) {
            true => inside.clone(),
            false => root.path().join("driver").join(precious.strip_prefix("/").unwrap()),
        };
        assert!(live.write(&path, "1").is_err(), "{}", way.display());
        assert_eq!(std::fs::read(&precious).unwrap(), b"0\n");
        std::fs::remove_file(root.path().join("driver")).unwrap();
    }
    // Those that stay inside are followed: sysfs is made of them.
    std::fs::create_dir(root.path().join("real")).unwrap();
    std::fs::write(root.path().join("real/bind"), "0\n").unwrap();
    symlink("real", root.path().join("driver")).unwrap();
    live.write(&inside, "1").unwrap();
    assert_eq!(std::fs::read(root.path().join("real/bind")).unwrap(), b"1\n");
}

#[test]
fn in_the_running_system_only_sysfs_is_written_to_and_only_devices_change_hands() {
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("nr_hugepages");
    std::fs::write(&file, "0\n").unwrap();
    let live = Live::new("/");
    let error = live.write(&file, "1").unwrap_err().to_string();
    assert!(error.contains("sysfs"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"0\n");
    let owner = Owner { uid: 0, gid: 0, mode: 0o666 };
    for error in [live.owner(&file).unwrap_err(), live.set_owner(&file, owner).unwrap_err()] {
        assert!(error.to_string().contains("character device"), "{error}");
    }
    assert!(live.owner(std::path::Path::new("/dev/null")).is_ok());
}

#[test]
fn a_node_that_is_swapped_for_a_link_does_not_take_the_owner_there() {
    let root = tempfile::tempdir().unwrap();
    let (node, precious) = (root.path().join("node"), root.path().join("precious"));
    std::fs::write(&precious, "").unwrap();
    let live = Live::new(root.path());
    let before = live.owner(&precious).unwrap();
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
        let _ = live.set_owner(&node, Owner { mode: 0o600, ..before });
    }
    swapper.join().unwrap();
    assert_eq!(live.owner(&precious).unwrap(), before);
}
