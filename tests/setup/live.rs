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
