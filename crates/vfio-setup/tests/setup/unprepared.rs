//! `doctor` and `persist` before there is a card, and the group that udev accepts.

use crate::support::{CARD, OTHER, Tree, address};
use vfio_setup::doctor::{self, Check, DoctorOptions, Verdict};
use vfio_setup::persist::{self, ChangeKind};
use vfio_setup::{BindOptions, SetupError, udev};

const BINDING: &str = "etc/udev/rules.d/61-xdma-bind.rules";

fn options() -> DoctorOptions {
    DoctorOptions { register_bar: None, memory: 4 << 20, mode: None }
}

fn host_checks(tree: &Tree, needs_card: bool) -> Vec<Check> {
    doctor::examine_host(&tree.host(), &options(), needs_card).unwrap().checks
}

fn host_check(tree: &Tree, name: &str) -> Check {
    host_checks(tree, false).into_iter().find(|check| check.name == name).unwrap()
}

fn persisted(tree: &Tree, group: &str) -> Result<Vec<String>, SetupError> {
    let options = BindOptions { group: Some(group.into()), ..BindOptions::default() };
    let changes = persist::persist(&tree.host(), &[], &options)?;
    changes.apply(&tree.host())?;
    Ok(changes.notes)
}

#[test]
fn a_host_without_a_card_is_prepared_step_by_step() {
    let tree = Tree::new();
    assert_eq!(doctor::cards(&tree.host()).unwrap(), []);
    let with_card = host_checks(&tree, true);
    assert_eq!((with_card[0].name, with_card[0].verdict), ("cards", Verdict::Bad));
    tree.file("etc/group", "root:x:0:\n");
    tree.file("proc/sys/kernel/osrelease", "6.12.1\n");
    tree.file("lib/modules/6.12.1/modules.dep", "kernel/drivers/vfio/vfio.ko:\n");
    assert_eq!(host_check(&tree, "driver").verdict, Verdict::Bad);
    tree.file(
        "lib/modules/6.12.1/modules.dep",
        "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz\n",
    );
    assert_eq!(host_check(&tree, "driver").verdict, Verdict::Good);
    tree.file("lib/modules/6.12.1/modules.dep", "my-vfio-pci.ko: vfio.ko\n");
    assert_eq!(host_check(&tree, "driver").verdict, Verdict::Bad);
    // As depmod writes it for a module without a directory.
    tree.file("lib/modules/6.12.1/modules.dep", "vfio-pci.ko: vfio.ko\n");
    for name in ["group", "udev rules"] {
        let check = host_check(&tree, name);
        assert_ne!(check.verdict, Verdict::Good, "{check:?}");
        tree.paste(&check.remedy.unwrap()).unwrap();
    }
    tree.file("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "4\n");
    let checks = host_checks(&tree, false);
    assert!(checks.iter().all(|check| check.verdict == Verdict::Good), "{checks:?}");
    assert!(
        tree.text(BINDING).contains("\nATTR{modalias}==\"pci:v000010EEd0000903Fsv*\", GOTO=\"xdma_bind\"\n")
    );
}

#[test]
fn persisted_hugepages_are_kept() {
    let tree = Tree::new();
    tree.file("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n");
    let options = BindOptions { hugepages: "2M=64,1G=2".parse().unwrap(), ..BindOptions::default() };
    persist::persist(&tree.host(), &[], &options).unwrap().apply(&tree.host()).unwrap();
    assert_eq!(host_check(&tree, "hugepages").remedy.as_deref(), Some("they are reserved at the next boot"));
    let options = BindOptions { hugepages: "2M=1,1G=2".parse().unwrap(), ..BindOptions::default() };
    persist::persist(&tree.host(), &[], &options).unwrap().apply(&tree.host()).unwrap();
    let remedy = host_check(&tree, "hugepages").remedy.unwrap();
    assert_eq!(remedy, "sudo vfio-setup persist --hugepages 1G=2,2M=6 --group fpga");
}

#[test]
fn a_user_outside_the_group_and_a_host_without_an_iommu() {
    let tree = Tree::new();
    tree.process_of_ada("1000");
    let check = host_check(&tree, "group");
    assert!(check.verdict == Verdict::Note && check.remedy.unwrap().starts_with("newgrp fpga"));
    std::fs::remove_dir_all(tree.path("sys/class/iommu/dmar0")).unwrap();
    let check = host_check(&tree, "IOMMU");
    assert_eq!(check.verdict, Verdict::Bad);
    let remedy = check.remedy.unwrap();
    let command = remedy.split('`').rfind(|text| text.contains("persist")).unwrap();
    tree.paste(command).unwrap();
    assert_eq!(host_check(&tree, "IOMMU").verdict, Verdict::Note, "the risk was accepted");
}

#[test]
fn an_image_without_sys_is_prepared() {
    let tree = Tree::new();
    for directory in ["sys", "proc"] {
        std::fs::remove_dir_all(tree.path(directory)).unwrap();
    }
    let options = BindOptions { hugepages: "2M=64,1G=1".parse().unwrap(), ..BindOptions::default() };
    let changes = persist::persist(&tree.host(), &[], &options).unwrap();
    changes.apply(&tree.host()).unwrap();
    assert!(changes.files.iter().all(|file| file.kind == ChangeKind::Created), "{changes:?}");
    let bind = changes.notes.iter().find(|note| note.contains("vfio-setup bind")).unwrap();
    assert!(bind.contains("sudo vfio-setup bind --hugepages 2M=64,1G=1 --group fpga"), "{bind}");
    let checks = host_checks(&tree, true);
    assert!(
        checks.iter().any(|check| check.name == "udev rules" && check.verdict == Verdict::Good),
        "{checks:?}"
    );
}

#[test]
fn an_address_without_a_function_is_bound_only_for_known_ids() {
    let tree = Tree::with_card();
    let both = [address(CARD), address(OTHER)];
    let changes = persist::persist(&tree.host(), &both, &BindOptions::default()).unwrap();
    assert!(changes.notes[0].contains("no function 0000:00:1e.0 yet"), "{:?}", changes.notes);
    changes.apply(&tree.host()).unwrap();
    let rules = tree.text(BINDING);
    let lines: Vec<_> = rules.lines().filter(|line| line.ends_with("GOTO=\"xdma_bind\"")).collect();
    assert!(lines[0].contains("KERNEL==\"0000:00:1d.0\", ATTR{vendor}==\"0x1d0f\""), "{lines:?}");
    let absent = "KERNEL==\"0000:00:1e.0\", ATTR{modalias}==\"pci:";
    assert!(lines.len() > 5 && lines[1..].iter().all(|line| line.starts_with(absent)), "{lines:?}");
    let any = BindOptions { any: true, ..BindOptions::default() };
    let error = persist::persist(&tree.host(), &both, &any).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("leave out --any"), "{error}");
}

fn with_udev(version: &str) -> Tree {
    let tree = Tree::with_card();
    tree.file("etc/group", "root:x:0:\nusers:x:1000:\nfpga:x:1005:ada\n");
    tree.file(&format!("usr/lib/systemd/libsystemd-shared-{version}.so"), "");
    tree
}

#[test]
fn the_version_of_udev_is_that_of_its_library() {
    for (name, version) in [("257", 257), ("257.8-1~deb13u1", 257), ("258-rc1", 258), ("260.1-1.fc44", 260)] {
        assert_eq!(udev::version(&with_udev(name).host()).unwrap(), Some(version), "{name}");
    }
    let tree = Tree::new();
    tree.file("usr/lib/systemd/libsystemd-core-257.so", "");
    assert_eq!(udev::version(&tree.host()).unwrap(), None);
}

#[test]
fn a_group_outside_the_system_range_is_refused_or_noted() {
    for group in ["fpga", "1005"] {
        let tree = with_udev("258.1");
        let error = persisted(&tree, group).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        let text = error.to_string();
        assert!(
            text.contains("fpga (1005) is not a system group") && text.contains("udev 258 ignores"),
            "{text}"
        );
        // The name is taken, so the remedy uses another one.
        let command = text.split('`').nth(1).unwrap();
        assert!(command.starts_with("sudo groupadd --system xdma && "), "{command}");
        tree.paste(command).unwrap();
        assert!(tree.text("etc/udev/rules.d/60-xdma.rules").contains("GROUP=\"xdma\""));
    }
    for (version, words) in [("257", "udev 258 ignores"), ("260", "udev 260 calls that deprecated")] {
        let tree = with_udev(version);
        let notes = persisted(&tree, "fpga").unwrap();
        assert!(notes.iter().any(|note| note.contains(words) && note.contains("--group xdma")), "{notes:?}");
    }
    let tree = Tree::with_card();
    tree.file("etc/group", "fpga:x:1005:ada\n");
    assert!(persisted(&tree, "fpga").unwrap()[0].contains("udev 258 and 259 ignore"));
}

#[test]
fn doctor_checks_the_group_of_the_installed_rules() {
    let tree = with_udev("257");
    persisted(&tree, "fpga").unwrap();
    let check = |tree: &Tree| {
        let diagnosis = doctor::examine(&tree.host(), address(CARD), &options()).unwrap();
        diagnosis.checks.into_iter().find(|check| check.name == "udev rules").unwrap()
    };
    assert_eq!(check(&tree).verdict, Verdict::Note);
    // After an upgrade.
    tree.file("usr/lib/systemd/libsystemd-shared-259.so", "");
    let bad = check(&tree);
    assert_eq!(bad.verdict, Verdict::Bad);
    assert_eq!(host_check(&tree, "udev rules").verdict, Verdict::Bad);
    tree.paste(&bad.remedy.unwrap()).unwrap();
    assert_eq!(check(&tree).verdict, Verdict::Good);
    // The group was removed.
    tree.file("etc/group", "root:x:0:\n");
    let gone = check(&tree);
    assert!(gone.verdict == Verdict::Bad && gone.found.contains("does not exist"), "{gone:?}");
    tree.paste(&gone.remedy.unwrap()).unwrap();
    assert_eq!(check(&tree).verdict, Verdict::Good);
}

#[test]
fn the_groups_of_system_ids_are_accepted() {
    let tree = with_udev("258");
    tree.file("etc/group", "a:x:999:\nb:x:1000:\n");
    let unfit = |group: &str| udev::check(&tree.host(), group).unwrap().map(|unfit| unfit.is_ignored);
    assert_eq!((unfit("a"), unfit("999"), unfit("5")), (None, None, None));
    assert_eq!((unfit("b"), unfit("1000"), unfit("65534")), (Some(true), Some(true), Some(true)));
}
