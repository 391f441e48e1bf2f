//! Files for the next boot: what they say, and that only our own are replaced or removed.

use crate::support::{CARD, OTHER, Tree, address};
use std::os::unix::fs::PermissionsExt;
use vfio_setup::BindOptions;
use vfio_setup::persist::{self, Kind, RULES};

const OWNERSHIP: &str = "etc/udev/rules.d/60-xdma.rules";
const BINDING: &str = "etc/udev/rules.d/61-xdma-bind.rules";
const LIMITS: &str = "etc/security/limits.d/60-xdma.conf";
const NO_IOMMU: &str = "etc/modprobe.d/xdma-noiommu.conf";
const HUGEPAGES: &str = "etc/tmpfiles.d/xdma-hugepages.conf";

fn persisted(tree: &Tree, options: &BindOptions) -> Vec<(String, Kind)> {
    let changes = persist::persist(&tree.host(), &[], options).unwrap();
    changes.apply(&tree.host()).unwrap();
    changes.files.into_iter().map(|file| (file.path, file.kind)).collect()
}

fn refused(tree: &Tree, options: &BindOptions) -> String {
    let error = persist::persist(&tree.host(), &[], options).unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    error.to_string()
}

fn undone(tree: &Tree) -> Vec<(String, Kind)> {
    let changes = persist::undo(&tree.host()).unwrap();
    changes.apply(&tree.host()).unwrap();
    changes.files.into_iter().map(|file| (file.path, file.kind)).collect()
}

/// A file without the line that marks it as ours.
fn body(tree: &Tree, path: &str) -> String {
    let text = tree.text(path);
    let (mark, body) = text.split_once('\n').unwrap();
    assert!(mark.starts_with("# vfio-setup persist") && mark.contains("`vfio-setup undo`"), "{mark}");
    body.to_string()
}

#[test]
fn the_files_say_what_bind_does() {
    let tree = Tree::with_card();
    let kinds = persisted(&tree, &BindOptions::default());
    assert_eq!(kinds.len(), 4);
    assert!(kinds.iter().all(|(_, kind)| *kind == Kind::Created), "{kinds:?}");
    assert_eq!(body(&tree, OWNERSHIP), RULES);
    assert_eq!(body(&tree, "etc/modules-load.d/xdma.conf"), "vfio-pci\n");
    assert!(body(&tree, LIMITS).ends_with("\n@fpga - memlock unlimited\n"));
    let binding = body(&tree, BINDING);
    let line =
        "KERNEL==\"0000:00:1d.0\", ATTR{vendor}==\"0x1d0f\", ATTR{device}==\"0xf001\", GOTO=\"xdma_bind\"\n";
    assert!(binding.contains(line), "{binding}");
    let place = |part: &str| binding.find(part).unwrap_or_else(|| panic!("no {part} in {binding}"));
    assert!(place("driver_override") < place("driver/unbind"));
    assert!(place("driver/unbind") < place("kmod load vfio-pci"));
    assert!(place("kmod load vfio-pci") < place("drivers_probe"));
    for path in [OWNERSHIP, BINDING, LIMITS] {
        let mode = std::fs::metadata(tree.path(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644, "{path}");
    }
    assert!(tree.log().is_empty(), "the running kernel is left alone");
}

#[test]
fn another_group_is_in_every_file() {
    let tree = Tree::with_card();
    persisted(&tree, &BindOptions { group: Some("kvm".into()), ..BindOptions::default() });
    assert!(
        body(&tree, OWNERSHIP).contains("GROUP=\"kvm\"")
            && !body(&tree, OWNERSHIP).contains("GROUP=\"fpga\"")
    );
    assert!(body(&tree, LIMITS).contains("@kvm - memlock"));
    persisted(&tree, &BindOptions { group: Some("990".into()), ..BindOptions::default() });
    assert!(body(&tree, LIMITS).contains("@990:990 - memlock"));
}

#[test]
fn hugepages_and_no_iommu_have_files_of_their_own() {
    let tree = Tree::new();
    tree.function(CARD, "0x1d0f", "0xf001", "0x058000");
    tree.directory("sys/module/vfio");
    let options =
        BindOptions { no_iommu: true, hugepages: "2M=64,1G=2".parse().unwrap(), ..BindOptions::default() };
    let changes = persist::persist(&tree.host(), &[], &options).unwrap();
    changes.apply(&tree.host()).unwrap();
    assert_eq!(body(&tree, NO_IOMMU), "options vfio enable_unsafe_noiommu_mode=1\n");
    let pages = body(&tree, HUGEPAGES);
    let path = "/sys/devices/system/node/node1/hugepages/hugepages";
    assert!(pages.contains(&format!("w {path}-2048kB/nr_hugepages - - - - 64\n")), "{pages}");
    assert!(pages.contains(&format!("w {path}-1048576kB/nr_hugepages - - - - 2\n")), "{pages}");
    let notes = changes.notes.join("\n");
    for word in [
        "LimitMEMLOCK=infinity",
        "hugepagesz=1G hugepages=2",
        "vfio.enable_unsafe_noiommu_mode=1",
        "all memory",
    ] {
        assert!(notes.contains(word), "{word}: {notes}");
    }

    // What the next call does not ask for goes.
    tree.group(7, &[CARD]);
    let kinds = persisted(&tree, &BindOptions::default());
    for path in [NO_IOMMU, HUGEPAGES] {
        assert!(kinds.contains(&(format!("/{path}"), Kind::Removed)), "{kinds:?}");
        assert!(!tree.path(path).exists());
    }
}

#[test]
fn identifiers_that_the_rules_do_not_know_get_rules_by_address() {
    let tree = Tree::with_card();
    tree.function(OTHER, "0x1d0f", "0xabcd", "0x058000");
    tree.group(9, &[OTHER]);
    let options = BindOptions { any: true, ..BindOptions::default() };
    let changes = persist::persist(&tree.host(), &[address(CARD), address(OTHER)], &options).unwrap();
    let binding = changes.files.iter().find(|file| file.path.contains("bind")).unwrap().text.clone().unwrap();
    assert!(
        binding.contains("iommu_groups/%k/devices/0000:00:1e.0\", GROUP=\"fpga\", MODE=\"0660\"\n"),
        "{binding}"
    );
    assert!(!binding.contains("devices/0000:00:1d.0\""), "{binding}");
}

#[test]
fn persisting_twice_changes_nothing_and_undo_removes_all() {
    let tree = Tree::with_card();
    persisted(&tree, &BindOptions::default());
    let again = persisted(&tree, &BindOptions::default());
    assert!(again.iter().all(|(_, kind)| *kind == Kind::Unchanged), "{again:?}");
    let undone_files = undone(&tree);
    assert_eq!(undone_files.len(), 4);
    assert!(undone_files.iter().all(|(_, kind)| *kind == Kind::Removed), "{undone_files:?}");
    assert!(!tree.path(OWNERSHIP).exists() && !tree.path(BINDING).exists());
    assert!(undone(&tree).is_empty());
}

#[test]
fn a_file_that_was_changed_stays_and_is_named() {
    let tree = Tree::with_card();
    persisted(&tree, &BindOptions::default());
    let mine = tree.text(LIMITS) + "@fpga - nice -5\n";
    tree.file(LIMITS, &mine);
    assert!(refused(&tree, &BindOptions::default()).contains("60-xdma.conf was not written by"));
    let kinds = undone(&tree);
    assert!(kinds.contains(&(format!("/{LIMITS}"), Kind::Left)), "{kinds:?}");
    assert_eq!(tree.text(LIMITS), mine);
    assert!(!tree.path(OWNERSHIP).exists());
}

#[test]
fn a_file_of_somebody_else_is_not_replaced() {
    let tree = Tree::with_card();
    tree.file(BINDING, "# mine\n");
    assert!(refused(&tree, &BindOptions::default()).contains("/etc/udev/rules.d/61-xdma-bind.rules"));
    assert!(!tree.path(OWNERSHIP).exists(), "a refusal writes nothing");
    assert_eq!(tree.text(BINDING), "# mine\n");
}

#[test]
fn links_are_not_followed() {
    let tree = Tree::with_card();
    tree.file("precious", "precious\n");
    tree.link(BINDING, &tree.path("precious").display().to_string());
    refused(&tree, &BindOptions::default());
    std::fs::remove_file(tree.path(BINDING)).unwrap();

    tree.directory("elsewhere");
    tree.link("etc/modules-load.d", &tree.path("elsewhere").display().to_string());
    let error = refused(&tree, &BindOptions::default());
    assert!(error.contains("/etc/modules-load.d") && error.contains("symbolic link"), "{error}");
    assert_eq!(tree.text("precious"), "precious\n");
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let tree = Tree::with_card();
    tree.directory("etc/udev/rules.d");
    std::fs::set_permissions(tree.path("etc/udev"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = refused(&tree, &BindOptions::default());
    assert!(error.contains("/etc/udev is writable for others"), "{error}");
}

#[test]
fn a_failure_half_way_removes_what_was_written() {
    let tree = Tree::with_card();
    let changes = persist::persist(&tree.host(), &[], &BindOptions::default()).unwrap();
    // The name under which the last file is written first is taken: that file is somebody's, and stays.
    let taken = format!("etc/security/limits.d/.60-xdma.conf.{}", std::process::id());
    tree.file(&taken, "mine\n");
    let error = changes.apply(&tree.host()).unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
    assert!(!tree.path(OWNERSHIP).exists() && !tree.path(BINDING).exists(), "{error}");
    assert_eq!(tree.text(&taken), "mine\n");
}

#[test]
fn what_is_in_the_way_is_seen_before_the_first_write() {
    let tree = Tree::with_card();
    let changes = persist::persist(&tree.host(), &[], &BindOptions::default()).unwrap();
    tree.directory(&format!("{LIMITS}/in-the-way"));
    changes.apply(&tree.host()).unwrap_err();
    assert!(!tree.path("etc/udev").exists());
}

#[test]
fn a_machine_that_could_not_bind_is_told_before_the_next_boot() {
    let tree = Tree::new();
    tree.function(CARD, "0x1d0f", "0xf001", "0x058000");
    assert!(refused(&tree, &BindOptions::default()).contains("not behind an IOMMU"));
    tree.file("etc/group", "root:x:0:\n");
    tree.group(7, &[CARD]);
    assert!(refused(&tree, &BindOptions::default()).contains("groupadd --system fpga"));
}
