//! The output of `status`.

use crate::support::{CARD, OTHER, Tree};
use vfio_setup::status::Status;
use vfio_setup::{BindOptions, Plan, text};

fn shown(tree: &Tree, all: bool) -> String {
    let text = text::status(&Status::read(&tree.host(), all).unwrap());
    anstream::adapter::strip_str(&text).to_string()
}

#[test]
fn a_card_and_the_host_are_shown() {
    let tree = Tree::with_card();
    let text = shown(&tree, false);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "FUNCTION      ID         CARD       DRIVER  GROUP  NUMA  LINK          MODES");
    assert_eq!(lines[1], "0000:00:1d.0  1d0f:f001  AWS F1/F2  xdma    7      1     8.0 GT/s x16  -");
    assert!(text.contains("IOMMU      in use\n"), "{text}");
    assert!(text.contains("vfio-pci   not loaded\n"), "{text}");
    assert!(text.contains("hugepages  2M on node 1: 2 of 4 free, 1G on node 1: 2 of 4 free\n"), "{text}");
    assert!(text.contains("memlock    unlimited\n"), "{text}");
}

#[test]
fn a_bound_card_with_its_nodes_and_neighbours() {
    let tree = Tree::with_card();
    // This function is in the group of a bound card, and not bound itself.
    tree.function(OTHER, "0x1022", "0x1481", "0x088000");
    tree.group(7, &[OTHER]);
    let host = tree.host();
    Plan::bind(&host, &[], &BindOptions::default()).unwrap().apply(&host).unwrap();
    tree.file(&format!("sys/bus/pci/devices/{CARD}/current_link_speed"), "2.5 GT/s PCIe\n");
    let text = shown(&tree, false);
    for part in [
        "vfio-pci  7 ",
        "type1\n",
        "nodes /dev/vfio/7\n",
        "shares its IOMMU group with 0000:00:1e.0\n",
        "link runs at 2.5 GT/s x16, the card supports 8.0 GT/s x16\n",
    ] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    assert!(!text.contains("1022:1481"));
    let all = shown(&tree, true);
    let other = all.lines().find(|line| line.contains("1022:1481")).unwrap();
    assert!(other.ends_with("  -"), "{other}");
}

#[test]
fn a_host_without_cards_and_one_with_garbage_in_sysfs() {
    let tree = Tree::new();
    assert!(shown(&tree, false).contains("no XDMA card"));
    tree.function(CARD, "0x1d0f", "0x1042", "0x058000");
    assert!(shown(&tree, false).contains("AWS, no image"));
    tree.file(&format!("sys/bus/pci/devices/{CARD}/numa_node"), "near\n");
    let text = shown(&tree, false);
    assert!(text.contains("unreadable: 0000:00:1d.0") && text.contains("`near`"), "{text}");
}
