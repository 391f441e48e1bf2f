//! `bind` and `unbind`: order of the steps, verification, reverting after failures, idempotence.

use crate::support::{CARD, OTHER, Tree, address};
use vfio_setup::{BindOptions, Plan, SetupError};

fn bind(tree: &Tree, options: &BindOptions) -> Result<(), SetupError> {
    let host = tree.host();
    Plan::bind(&host, &[address(CARD)], options)?.apply(&host).map(drop)
}

fn for_fpga() -> BindOptions {
    BindOptions { group: Some("fpga".into()), ..BindOptions::default() }
}

/// Returns a guest without an IOMMU, as on EC2.
fn guest() -> Tree {
    let tree = Tree::new();
    std::fs::remove_dir_all(tree.path("sys/class/iommu/dmar0")).unwrap();
    tree.function(CARD, "0x1d0f", "0xf001", "0x058000");
    tree
}

const UNSAFE: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

#[test]
fn the_steps_of_bind_are_in_this_order() {
    let tree = Tree::with_card();
    let options = BindOptions { hugepages: "2M=64".parse().unwrap(), ..for_fpga() };
    bind(&tree, &options).unwrap();
    assert_eq!(
        tree.log(),
        [
            "64 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages",
            "modprobe vfio-pci",
            "vfio-pci > /sys/bus/pci/devices/0000:00:1d.0/driver_override",
            "0000:00:1d.0 > /sys/bus/pci/drivers/xdma/unbind",
            "0000:00:1d.0 > /sys/bus/pci/drivers_probe",
            "settle",
            "own /dev/vfio/7 0:990 0660",
        ]
    );
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("vfio-pci"));
    assert_eq!(tree.owner("dev/vfio/7"), (0, 990, 0o660));
    // This is the kernel's default, and other users' virtual machines rely on it.
    assert_eq!(tree.owner("dev/vfio/vfio"), (0, 0, 0o666));
}

#[test]
fn the_plan_lists_the_steps_of_bind_and_changes_nothing() {
    let tree = Tree::with_card();
    let host = tree.host();
    let plan = Plan::bind(&host, &[], &for_fpga()).unwrap();
    let steps: Vec<_> = plan.steps.iter().map(|step| step.describe(&host)).collect();
    assert_eq!(
        steps[..4],
        [
            "modprobe vfio-pci",
            "echo vfio-pci > /sys/bus/pci/devices/0000:00:1d.0/driver_override",
            "echo 0000:00:1d.0 > /sys/bus/pci/drivers/xdma/unbind",
            "echo 0000:00:1d.0 > /sys/bus/pci/drivers_probe",
        ]
    );
    assert!(
        steps[4].starts_with("/dev/vfio/7 ") && steps[4].ends_with(": group fpga, mode 0660"),
        "{}",
        steps[4]
    );
    assert_eq!(steps[5], "/dev/iommu: group fpga, mode 0660");
    assert!(plan.steps.iter().all(|step| !step.why().is_empty()));
    assert!(tree.log().is_empty());
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("xdma"));
}

#[test]
fn binding_twice_does_nothing_the_second_time() {
    let tree = Tree::with_card();
    bind(&tree, &for_fpga()).unwrap();
    // A process is using the card by now, which does not matter, since nothing changes.
    tree.process(77, "prover", &["/dev/vfio/7"]);
    let before = tree.log();
    let host = tree.host();
    assert!(Plan::bind(&host, &[address(CARD)], &for_fpga()).unwrap().steps.is_empty());
    bind(&tree, &for_fpga()).unwrap();
    assert_eq!(tree.log(), before);
}

#[test]
fn a_function_without_a_driver_is_only_probed() {
    let tree = Tree::with_card();
    std::fs::remove_file(tree.path(&format!("sys/bus/pci/devices/{CARD}/driver"))).unwrap();
    bind(&tree, &BindOptions::default()).unwrap();
    assert!(!tree.log().iter().any(|line| line.ends_with("unbind")), "{:?}", tree.log());
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("vfio-pci"));
}

#[test]
fn a_failure_returns_the_card_to_its_driver() {
    for (fails, ignores) in
        [(Some("drivers_probe"), None), (None, Some("drivers_probe")), (Some("dev/vfio/7"), None)]
    {
        let tree = Tree::with_card();
        *tree.kernel().fails.borrow_mut() = fails;
        *tree.kernel().ignores.borrow_mut() = ignores;
        let options = BindOptions { hugepages: "2M=64".parse().unwrap(), ..for_fpga() };
        let error = bind(&tree, &options).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{error}");
        assert!(error.to_string().ends_with("all earlier steps were reverted"), "{error}");
        assert_eq!(tree.driver_of(CARD).as_deref(), Some("xdma"), "{error}");
        assert_eq!(tree.text(&format!("sys/bus/pci/devices/{CARD}/driver_override")), "(null)\n");
        let pages = "sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages";
        assert_eq!(tree.text(pages), "4\n");
    }
}

#[test]
fn changes_that_cannot_be_reverted_are_listed() {
    let tree = Tree::with_card();
    *tree.kernel().ignores.borrow_mut() = Some("drivers_probe");
    *tree.kernel().fails.borrow_mut() = Some("xdma/bind");
    let error = bind(&tree, &for_fpga()).unwrap_err();
    assert_eq!(error.exit_code(), 5);
    let text = error.to_string();
    assert!(text.contains("could not be reverted") && text.contains("drivers/xdma/bind"), "{text}");
}

#[test]
fn a_write_without_effect_is_detected() {
    for ignored in ["driver_override", "xdma/unbind", "modprobe"] {
        let tree = Tree::with_card();
        *tree.kernel().ignores.borrow_mut() = Some(ignored);
        let error = bind(&tree, &for_fpga()).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{error}");
        assert_eq!(tree.driver_of(CARD).as_deref(), Some("xdma"), "{error}");
    }
}

#[test]
fn a_kernel_without_vfio_is_reported_by_modprobe() {
    let tree = Tree::with_card();
    *tree.kernel().fails.borrow_mut() = Some("modprobe");
    let error = bind(&tree, &for_fpga()).unwrap_err().to_string();
    assert!(error.contains("Module vfio-pci not found"), "{error}");
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("xdma"));
}

#[test]
fn fewer_hugepages_than_requested_are_an_error() {
    let tree = Tree::with_card();
    *tree.kernel().pages.borrow_mut() = Some(17);
    let options = BindOptions { hugepages: "2M=64".parse().unwrap(), ..for_fpga() };
    let error = bind(&tree, &options).unwrap_err().to_string();
    assert!(error.contains("provided 17 of 64 2M pages on node 1"), "{error}");
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("xdma"));
}

#[test]
fn hugepages_are_never_removed_and_are_added_on_the_requested_node() {
    let tree = Tree::with_card();
    let fewer = BindOptions { hugepages: "2M=3,1G=4".parse().unwrap(), ..BindOptions::default() };
    bind(&tree, &fewer).unwrap();
    assert!(!tree.log().iter().any(|line| line.contains("hugepages")), "{:?}", tree.log());

    let missing = BindOptions { hugepages: "1G=5".parse().unwrap(), node: Some(9), ..BindOptions::default() };
    let error = bind(&tree, &missing).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("no 1G pages on node 9"), "{error}");

    // Two cards on different nodes have no node in common.
    tree.function(OTHER, "0x10ee", "0x903f", "0x058000");
    tree.file(&format!("sys/bus/pci/devices/{OTHER}/numa_node"), "-1\n");
    tree.group(8, &[OTHER]);
    let host = tree.host();
    let options = BindOptions { hugepages: "2M=64".parse().unwrap(), ..BindOptions::default() };
    Plan::bind(&host, &[], &options).unwrap().apply(&host).unwrap();
    assert!(
        tree.log().iter().any(|line| line.starts_with("64 > /sys/kernel/mm/hugepages/")),
        "{:?}",
        tree.log()
    );
    assert_eq!(tree.driver_of(OTHER).as_deref(), Some("vfio-pci"));
}

#[test]
fn without_an_iommu_the_mode_is_enabled_first() {
    let tree = guest();
    let options = BindOptions { no_iommu: true, ..for_fpga() };
    let host = tree.host();
    let plan = Plan::bind(&host, &[address(CARD)], &options).unwrap();
    assert!(plan.notes.iter().any(|note| note.contains("all memory")), "{:?}", plan.notes);
    plan.apply(&host).unwrap();
    assert_eq!(
        tree.log(),
        [
            "modprobe vfio-pci".to_string(),
            format!("Y > {UNSAFE}"),
            "vfio-pci > /sys/bus/pci/devices/0000:00:1d.0/driver_override".into(),
            "0000:00:1d.0 > /sys/bus/pci/drivers_probe".into(),
            "settle".into(),
            "own /dev/vfio/noiommu-0 0:990 0660".into(),
        ]
    );
    assert!(Plan::bind(&host, &[address(CARD)], &options).unwrap().steps.is_empty());
}

#[test]
fn a_failure_without_an_iommu_disables_the_mode_again() {
    let tree = guest();
    *tree.kernel().ignores.borrow_mut() = Some("drivers_probe");
    let error = bind(&tree, &BindOptions { no_iommu: true, ..for_fpga() }).unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
    assert_eq!(tree.text(&UNSAFE[1..]), "N\n");
}

#[test]
fn a_kernel_without_no_iommu_mode_is_an_error() {
    let tree = guest();
    *tree.kernel().lacks_no_iommu.borrow_mut() = true;
    let error = bind(&tree, &BindOptions { no_iommu: true, ..for_fpga() }).unwrap_err().to_string();
    assert!(error.contains("CONFIG_VFIO_NOIOMMU"), "{error}");
}

#[test]
fn all_nodes_get_the_owner() {
    let tree = Tree::with_card();
    tree.file(&format!("sys/bus/pci/devices/{CARD}/vfio-dev/vfio0/dev"), "243:0\n");
    tree.kernel().node("dev/vfio/devices/vfio0", 0o600);
    tree.kernel().node("dev/iommu", 0o660);
    bind(&tree, &BindOptions { user: Some("ada".into()), ..for_fpga() }).unwrap();
    for node in ["dev/vfio/7", "dev/vfio/devices/vfio0", "dev/iommu"] {
        assert_eq!(tree.owner(node), (1000, 990, 0o660), "{node}");
    }
    let tree = Tree::with_card();
    bind(&tree, &BindOptions { user: Some("1001".into()), ..BindOptions::default() }).unwrap();
    assert_eq!(tree.owner("dev/vfio/7"), (1001, 0, 0o600));
}

#[test]
fn a_shared_node_created_by_the_modules_gets_the_owner() {
    let tree = Tree::with_card();
    *tree.kernel().has_iommufd.borrow_mut() = true;
    bind(&tree, &for_fpga()).unwrap();
    assert_eq!(tree.owner("dev/iommu"), (0, 990, 0o660));
    assert!(Plan::bind(&tree.host(), &[], &for_fpga()).unwrap().steps.is_empty());
}

#[test]
fn unbind_reverts_bind() {
    let tree = Tree::with_card();
    bind(&tree, &for_fpga()).unwrap();
    let (host, done) = (tree.host(), tree.log().len());
    Plan::unbind(&host, &[]).unwrap().apply(&host).unwrap();
    assert_eq!(
        tree.log()[done..],
        [
            "quiesce 0000:00:1d.0 by type1",
            " > /sys/bus/pci/devices/0000:00:1d.0/driver_override",
            "0000:00:1d.0 > /sys/bus/pci/drivers/vfio-pci/unbind",
            "0000:00:1d.0 > /sys/bus/pci/drivers_probe",
        ]
    );
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("xdma"));
    assert!(Plan::unbind(&host, &[address(CARD)]).unwrap().steps.is_empty());
}

/// A killed process leaves credit mode and halted channels behind, on which `xdma.ko` times out.
#[test]
fn unbind_quiesces_the_card_first() {
    let tree = Tree::with_card();
    bind(&tree, &for_fpga()).unwrap();
    let (host, done) = (tree.host(), tree.log().len());
    let plan = Plan::unbind(&host, &[]).unwrap();
    assert_eq!(plan.steps[0].describe(&host), "open 0000:00:1d.0 through VFIO and close it");
    assert!(plan.steps[0].why().contains("killed"), "{}", plan.steps[0].why());
    let report = plan.steps[0].report(&host);
    assert_eq!((report.kind, report.value.as_deref()), ("quiesce", Some(CARD)));
    assert_eq!(tree.log().len(), done, "planning does not open the card");
    // A card that is not bound to vfio-pci is not opened.
    plan.apply(&host).unwrap();
    assert!(Plan::unbind(&host, &[address(CARD)]).unwrap().steps.is_empty());
}

#[test]
fn a_card_is_quiesced_in_the_available_modes() {
    let tree = Tree::with_card();
    tree.file(&format!("sys/bus/pci/devices/{CARD}/vfio-dev/vfio0/dev"), "243:0\n");
    tree.kernel().node("dev/vfio/devices/vfio0", 0o600);
    tree.kernel().node("dev/iommu", 0o660);
    bind(&tree, &BindOptions::default()).unwrap();
    let host = tree.host();
    Plan::unbind(&host, &[]).unwrap().apply(&host).unwrap();
    assert!(tree.log().contains(&"quiesce 0000:00:1d.0 by cdev, type1".to_string()), "{:?}", tree.log());

    let tree = guest();
    bind(&tree, &BindOptions { no_iommu: true, ..for_fpga() }).unwrap();
    let host = tree.host();
    Plan::unbind(&host, &[]).unwrap().apply(&host).unwrap();
    assert!(tree.log().contains(&"quiesce 0000:00:1d.0 by noiommu".to_string()), "{:?}", tree.log());
}

#[test]
fn a_card_that_cannot_be_quiesced_is_returned_with_a_note() {
    for (kind, node) in [(std::io::ErrorKind::Other, true), (std::io::ErrorKind::Other, false)] {
        let tree = Tree::with_card();
        bind(&tree, &for_fpga()).unwrap();
        *tree.kernel().quiesce_error.borrow_mut() = Some(kind);
        if !node {
            std::fs::remove_file(tree.path("dev/vfio/7")).unwrap();
        }
        let host = tree.host();
        let notes = Plan::unbind(&host, &[]).unwrap().apply(&host).unwrap();
        let reason = if node { "the reason" } else { "no node for it in /dev/vfio" };
        assert!(notes.len() == 1 && notes[0].contains(CARD) && notes[0].contains(reason), "{notes:?}");
        assert_eq!(tree.driver_of(CARD).as_deref(), Some("xdma"));
    }
}

/// The kernel would wait forever for this process to release the card.
#[test]
fn a_card_that_is_still_being_opened_is_not_unbound() {
    let tree = Tree::with_card();
    bind(&tree, &for_fpga()).unwrap();
    *tree.kernel().quiesce_error.borrow_mut() = Some(std::io::ErrorKind::TimedOut);
    let host = tree.host();
    let error = Plan::unbind(&host, &[]).unwrap().apply(&host).unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
    assert!(error.to_string().contains("the reason"), "{error}");
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("vfio-pci"));
}

#[test]
fn a_failed_unbind_leaves_the_card_bound_to_vfio() {
    let tree = Tree::with_card();
    bind(&tree, &for_fpga()).unwrap();
    *tree.kernel().fails.borrow_mut() = Some("vfio-pci/unbind");
    let host = tree.host();
    let error = Plan::unbind(&host, &[]).unwrap().apply(&host).unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("vfio-pci"));
    assert_eq!(tree.text(&format!("sys/bus/pci/devices/{CARD}/driver_override")), "vfio-pci\n");
}

#[test]
fn unbind_notes_that_no_iommu_mode_stays_enabled() {
    let tree = guest();
    bind(&tree, &BindOptions { no_iommu: true, ..for_fpga() }).unwrap();
    let host = tree.host();
    let plan = Plan::unbind(&host, &[]).unwrap();
    let expected = format!("echo N | sudo tee {UNSAFE}");
    assert!(plan.notes.iter().any(|note| note.contains(&expected)), "{:?}", plan.notes);
}
