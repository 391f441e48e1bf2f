//! What is done to the running kernel, as far as files of this machine can show it.

use std::os::unix::fs::symlink;
use xdma::setup::kernel::{Kernel, Live, Owner};

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
fn modules_go_into_the_running_system_only() {
    let root = tempfile::tempdir().unwrap();
    let error = Live::new(root.path()).load_module("vfio-pci").unwrap_err().to_string();
    assert!(error.contains("--root"), "{error}");
}
