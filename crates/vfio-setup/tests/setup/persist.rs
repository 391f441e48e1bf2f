//! `persist` and `undo`: the content of the files, and that only our own files are replaced or removed.

use crate::support::{CARD, OTHER, Tree, address};
use std::os::unix::fs::PermissionsExt;
use vfio_setup::BindOptions;
use vfio_setup::persist::{self, ChangeKind, RULES};

const OWNERSHIP: &str = "etc/udev/rules.d/60-xdma.rules";
const BINDING: &str = "etc/udev/rules.d/61-xdma-bind.rules";
const LIMITS: &str = "etc/security/limits.d/60-xdma.conf";
const NO_IOMMU: &str = "etc/modprobe.d/xdma-noiommu.conf";
const HUGEPAGES: &str = "etc/tmpfiles.d/xdma-hugepages.conf";

fn persisted(tree: &Tree, options: &BindOptions) -> Vec<(String, ChangeKind)> {
    let changes = persist::persist(&tree.host(), &[], options).unwrap();
    changes.apply(&tree.host()).unwrap();
    changes.files.into_iter().map(|file| (file.path, file.kind)).collect()
}

fn refused(tree: &Tree, options: &BindOptions) -> String {
    let error = persist::persist(&tree.host(), &[], options).unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    error.to_string()
}

fn undo(tree: &Tree) -> Vec<(String, ChangeKind)> {
    let changes = persist::undo(&tree.host()).unwrap();
    changes.apply(&tree.host()).unwrap();
    changes.files.into_iter().map(|file| (file.path, file.kind)).collect()
}

/// Returns a file without the line that marks it as ours.
fn body(tree: &Tree, path: &str) -> String {
    let text = tree.text(path);
    let (mark, body) = text.split_once('\n').unwrap();
    assert!(mark.starts_with("# vfio-setup persist") && mark.contains("`vfio-setup undo`"), "{mark}");
    body.to_string()
}

#[test]
fn the_files_do_the_same_as_bind() {
    let tree = Tree::with_card();
    let kinds = persisted(&tree, &BindOptions::default());
    assert_eq!(kinds.len(), 4);
    assert!(kinds.iter().all(|(_, kind)| *kind == ChangeKind::Created), "{kinds:?}");
    assert_eq!(body(&tree, OWNERSHIP), RULES);
    assert_eq!(body(&tree, "etc/modules-load.d/xdma.conf"), "vfio-pci\n");
    assert!(body(&tree, LIMITS).ends_with("\n@fpga - memlock unlimited\n"));
    let binding = body(&tree, BINDING);
    let line =
        "KERNEL==\"0000:00:1d.0\", ATTR{vendor}==\"0x1d0f\", ATTR{device}==\"0xf001\", GOTO=\"xdma_bind\"\n";
    assert!(binding.contains(line), "{binding}");
    let position = |part: &str| binding.find(part).unwrap_or_else(|| panic!("no {part} in {binding}"));
    assert!(position("driver_override") < position("driver/unbind"));
    assert!(position("driver/unbind") < position("kmod load vfio-pci"));
    assert!(position("kmod load vfio-pci") < position("drivers_probe"));
    for path in [OWNERSHIP, BINDING, LIMITS] {
        let mode = std::fs::metadata(tree.path(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644, "{path}");
    }
    assert!(tree.log().is_empty(), "the running kernel is not changed");
}

#[test]
fn every_file_uses_the_requested_group() {
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
fn hugepages_and_no_iommu_have_separate_files() {
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

    // Files that the next call does not need are removed.
    tree.group(7, &[CARD]);
    let kinds = persisted(&tree, &BindOptions::default());
    for path in [NO_IOMMU, HUGEPAGES] {
        assert!(kinds.contains(&(format!("/{path}"), ChangeKind::Removed)), "{kinds:?}");
        assert!(!tree.path(path).exists());
    }
}

#[test]
fn functions_with_unknown_ids_get_rules_by_address() {
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
    assert!(again.iter().all(|(_, kind)| *kind == ChangeKind::Unchanged), "{again:?}");
    let removed = undo(&tree);
    assert_eq!(removed.len(), 4);
    assert!(removed.iter().all(|(_, kind)| *kind == ChangeKind::Removed), "{removed:?}");
    assert!(!tree.path(OWNERSHIP).exists() && !tree.path(BINDING).exists());
    assert!(undo(&tree).is_empty());
}

#[test]
fn an_edited_file_is_kept_and_reported() {
    let tree = Tree::with_card();
    persisted(&tree, &BindOptions::default());
    let mine = tree.text(LIMITS) + "@fpga - nice -5\n";
    tree.file(LIMITS, &mine);
    assert!(refused(&tree, &BindOptions::default()).contains("60-xdma.conf was not written by"));
    let kinds = undo(&tree);
    assert!(kinds.contains(&(format!("/{LIMITS}"), ChangeKind::Kept)), "{kinds:?}");
    assert_eq!(tree.text(LIMITS), mine);
    assert!(!tree.path(OWNERSHIP).exists());
}

#[test]
fn an_existing_file_of_the_same_name_is_not_replaced() {
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
fn a_directory_writable_by_others_is_refused() {
    let tree = Tree::with_card();
    tree.directory("etc/udev/rules.d");
    std::fs::set_permissions(tree.path("etc/udev"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = refused(&tree, &BindOptions::default());
    assert!(error.contains("/etc/udev is writable by users other"), "{error}");
}

#[test]
fn a_failure_reverts_earlier_files() {
    let tree = Tree::with_card();
    let changes = persist::persist(&tree.host(), &[], &BindOptions::default()).unwrap();
    // The temporary name of the last file is taken by another file, which must not be changed.
    let taken = format!("etc/security/limits.d/.60-xdma.conf.{}", std::process::id());
    tree.file(&taken, "mine\n");
    let error = changes.apply(&tree.host()).unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
    assert!(!tree.path(OWNERSHIP).exists() && !tree.path(BINDING).exists(), "{error}");
    assert_eq!(tree.text(&taken), "mine\n");
}

#[test]
fn a_directory_in_place_of_a_file_is_detected_before_the_first_write() {
    let tree = Tree::with_card();
    let changes = persist::persist(&tree.host(), &[], &BindOptions::default()).unwrap();
    tree.directory(&format!("{LIMITS}/in-the-way"));
    changes.apply(&tree.host()).unwrap_err();
    assert!(!tree.path("etc/udev").exists());
}

#[test]
fn persist_is_refused_if_bind_would_be() {
    let tree = Tree::new();
    tree.function(CARD, "0x1d0f", "0xf001", "0x058000");
    assert!(refused(&tree, &BindOptions::default()).contains("not behind an IOMMU"));
    tree.file("etc/group", "root:x:0:\n");
    tree.group(7, &[CARD]);
    assert!(refused(&tree, &BindOptions::default()).contains("groupadd --system fpga"));
}
