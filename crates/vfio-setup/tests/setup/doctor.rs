//! The checks of `doctor`, and the remedies that it suggests.

use crate::support::{CARD, Tree, address};
use vfio_setup::doctor::{self, Check, Diagnosis, DoctorOptions, Verdict};
use vfio_setup::{BindOptions, Plan};

fn examine(tree: &Tree, mode: Option<&str>) -> Diagnosis {
    let options = DoctorOptions { register_bar: None, memory: 4 << 20, mode: mode.map(str::parse) };
    doctor::examine(&tree.host(), address(CARD), &options).unwrap()
}

fn check(tree: &Tree, name: &str) -> Check {
    check_with(tree, None, name)
}

fn check_with(tree: &Tree, mode: Option<&str>, name: &str) -> Check {
    let diagnosis = examine(tree, mode);
    let found = diagnosis.checks.iter().find(|check| check.name == name);
    found.unwrap_or_else(|| panic!("no check {name}: {diagnosis:?}")).clone()
}

fn is_bad(check: &Check, found: &str, remedy: &str) {
    assert_eq!(check.verdict, Verdict::Bad, "{check:?}");
    assert!(check.found.contains(found), "{check:?}");
    assert!(check.remedy.as_ref().is_some_and(|text| text.contains(remedy)), "{check:?}");
}

/// Returns a host with a card that is bound for the group fpga.
fn bound() -> Tree {
    let tree = Tree::with_card();
    let options = BindOptions { group: Some("fpga".into()), ..BindOptions::default() };
    let host = tree.host();
    Plan::bind(&host, &[], &options).unwrap().apply(&host).unwrap();
    tree
}

fn bound_without_iommu() -> Tree {
    let tree = Tree::new();
    tree.function(CARD, "0x1d0f", "0xf001", "0x058000");
    let options = BindOptions { no_iommu: true, ..BindOptions::default() };
    let host = tree.host();
    Plan::bind(&host, &[], &options).unwrap().apply(&host).unwrap();
    tree
}

#[test]
fn a_prepared_host_has_no_problems() {
    let tree = bound();
    let diagnosis = examine(&tree, None);
    assert!(diagnosis.is_good(), "{diagnosis:?}");
    let last = diagnosis.checks.last().unwrap();
    assert_eq!((last.name, last.verdict), ("open", Verdict::Skipped));
    assert!(diagnosis.checks.iter().all(|c| c.name == "open" || c.verdict == Verdict::Good), "{diagnosis:?}");
}

#[test]
fn a_missing_function() {
    let diagnosis = examine(&Tree::new(), None);
    is_bad(&diagnosis.checks[0], CARD, "lspci -D");
    assert!(!diagnosis.is_good());
}

#[test]
fn an_unknown_function_and_a_card_without_an_image() {
    let tree = bound();
    tree.file(&format!("sys/bus/pci/devices/{CARD}/device"), "0x1042\n");
    is_bad(&check(&tree, "function"), "without an image", "fpga-load-local-image");
    tree.file(&format!("sys/bus/pci/devices/{CARD}/device"), "0xbeef\n");
    assert_eq!(check(&tree, "function").verdict, Verdict::Note);
    let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
    tree.file(&format!("sys/bus/pci/devices/{CARD}/resource"), none);
    is_bad(&check(&tree, "BARs"), "32 KiB", &format!("/sys/bus/pci/devices/{CARD}/remove"));
}

#[test]
fn a_card_with_the_wrong_driver() {
    let tree = Tree::with_card();
    is_bad(&check(&tree, "driver"), "bound to xdma", "sudo vfio-setup bind 0000:00:1d.0 --group fpga");
    std::fs::remove_file(tree.path(&format!("sys/bus/pci/devices/{CARD}/driver"))).unwrap();
    is_bad(&check(&tree, "driver"), "not bound", "vfio-setup bind");
    tree.file(&format!("sys/bus/pci/devices/{CARD}/device"), "0xbeef\n");
    is_bad(&check(&tree, "driver"), "not bound", "bind 0000:00:1d.0 --any");
}

#[test]
fn a_machine_without_an_iommu() {
    let tree = Tree::new();
    tree.function(CARD, "0x1d0f", "0xf001", "0x058000");
    is_bad(&check(&tree, "IOMMU"), "none is in use", "--no-iommu --group fpga");
    is_bad(&check(&tree, "driver"), "not bound", "see IOMMU");
}

#[test]
fn a_group_that_is_not_viable() {
    let tree = bound();
    tree.function("0000:00:1e.0", "0x1022", "0x1481", "0x088000");
    tree.group(7, &[CARD, "0000:00:1e.0"]);
    tree.driver("0000:00:1e.0", "ahci");
    is_bad(&check(&tree, "group"), "0000:00:1e.0 (driver ahci)", "another slot");
}

#[test]
fn a_user_outside_the_group() {
    let tree = bound();
    tree.process_of_ada("1000 990");
    assert_eq!(check(&tree, "permission").verdict, Verdict::Good);
    // /etc/group has her in the group, but this process was started earlier.
    tree.process_of_ada("1000");
    is_bad(&check(&tree, "permission"), "/dev/vfio/7 has user root, group fpga, mode 0660", "newgrp fpga");
    tree.file("etc/group", "fpga:x:990:\n");
    is_bad(&check(&tree, "permission"), "/dev/vfio/7", "sudo usermod -aG fpga ada");
    tree.set_owner("dev/vfio/7", 0, 0, 0o600);
    is_bad(
        &check(&tree, "permission"),
        "group 0, mode 0600",
        "sudo vfio-setup bind 0000:00:1d.0 --group fpga",
    );
    assert_eq!(check(&tree, "shared node").verdict, Verdict::Good);
    tree.set_owner("dev/vfio/vfio", 0, 0, 0o660);
    is_bad(&check(&tree, "shared node"), "/dev/vfio/vfio", "vfio-setup bind");
}

#[test]
fn a_low_memlock_limit() {
    let tree = bound();
    tree.process_of_ada("990");
    assert_eq!(check(&tree, "memlock").verdict, Verdict::Good);
    tree.file(
        "proc/self/limits",
        "Max locked memory         65536                65536                bytes\n",
    );
    is_bad(&check(&tree, "memlock"), "0 MiB can be locked, 4 MiB needed", "LimitMEMLOCK=infinity");
    tree.file(
        "proc/self/limits",
        "Max locked memory         unlimited            unlimited            bytes\n",
    );
    assert_eq!(check(&tree, "memlock").verdict, Verdict::Good);
    std::fs::remove_file(tree.path("proc/self/limits")).unwrap();
    assert_eq!(check(&tree, "memlock").verdict, Verdict::Skipped);
}

#[test]
fn hugepages_that_are_in_use() {
    let tree = bound();
    tree.file("sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "1\n");
    let check = check(&tree, "hugepages");
    assert_eq!(check.verdict, Verdict::Note, "{check:?}");
    // There are four pages, and three are in use. With five pages, the two needed ones are free.
    assert!(check.remedy.unwrap().contains("--hugepages 2M=5"));
}

#[test]
fn a_card_that_is_in_use() {
    let tree = bound();
    tree.device("/dev/vfio/7", (243, 7));
    tree.process(99, "prover", &["/dev/vfio/7"]);
    is_bad(&check(&tree, "users"), "process 99 (prover)", "one user at a time");
    // Any user can create a file with that name.
    tree.inode("/dev/vfio/7", (0, 22), 3);
    let check = check(&tree, "users");
    assert!(check.verdict == Verdict::Note && check.found.contains("process 99 (prover)"), "{check:?}");
}

#[test]
fn a_slow_link_is_noted() {
    let tree = bound();
    tree.file(&format!("sys/bus/pci/devices/{CARD}/current_link_width"), "4\n");
    let check = check(&tree, "link");
    assert_eq!(check.verdict, Verdict::Note);
    assert_eq!(check.found, "8.0 GT/s x4, the card supports 8.0 GT/s x16");
}

#[test]
fn the_requested_mode() {
    let tree = bound();
    assert_eq!(check(&tree, "VFIO mode").found, "type1");
    is_bad(
        &check_with(&tree, Some("cdev"), "VFIO mode"),
        "requests cdev; available: type1",
        "unset XDMA_VFIO",
    );
    is_bad(&check_with(&tree, Some("fast"), "VFIO mode"), "`fast`", "cdev, type1 or noiommu");
    tree.file(&format!("sys/bus/pci/devices/{CARD}/vfio-dev/vfio0/dev"), "243:0\n");
    tree.kernel().node("dev/vfio/devices/vfio0", 0o660);
    tree.kernel().node("dev/iommu", 0o660);
    assert_eq!(check(&tree, "VFIO mode").found, "cdev, then type1");
    assert!(check(&tree, "permission").found.contains("/dev/vfio/devices/vfio0"));
    assert!(check(&tree, "shared node").found.contains("/dev/iommu"));
    assert!(check_with(&tree, Some("type1"), "permission").found.contains("/dev/vfio/7"));
    for node in ["dev/vfio/devices/vfio0", "dev/vfio/7"] {
        std::fs::remove_file(tree.path(node)).unwrap();
    }
    is_bad(&check(&tree, "VFIO mode"), "no node", "vfio-setup bind");
}

#[test]
fn no_iommu_is_used_only_on_request() {
    let tree = bound_without_iommu();
    is_bad(&check(&tree, "VFIO mode"), "used only on request", "export XDMA_VFIO=noiommu");
    let diagnosis = examine(&tree, Some("noiommu"));
    assert!(diagnosis.is_good(), "{diagnosis:?}");
    tree.process_of_ada("1000 990");
    is_bad(&check_with(&tree, Some("noiommu"), "capabilities"), "CAP_SYS_RAWIO", "setcap");
    tree.file("sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "0\n");
    is_bad(&check_with(&tree, Some("noiommu"), "hugepages"), "0 pages of 2 MiB", "--no-iommu");
}
