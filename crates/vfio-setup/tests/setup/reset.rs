//! What a reset of a function would hit.

use crate::support::{CARD, Tree, address};
use vfio_setup::doctor::{self, Check, DoctorOptions, Verdict};
use vfio_setup::reset::Reset;
use vfio_setup::status::Status;
use vfio_setup::{BindOptions, Plan, text};

const ONE: &str = "0000:3b:00.0";
const TWO: &str = "0000:3b:00.1";

/// Returns a host with a card of two functions on bus 3b, behind a bridge, without a reset of their own.
fn two_functions() -> Tree {
    let tree = Tree::new();
    tree.function("0000:3a:00.0", "0x8086", "0x2030", "0x060400");
    for (name, bus) in [("secondary_bus_number", 0x3b), ("subordinate_bus_number", 0x3c)] {
        tree.file(&format!("sys/bus/pci/devices/0000:3a:00.0/{name}"), &format!("{bus}\n"));
    }
    for (number, function) in [(7, ONE), (8, TWO)] {
        tree.function(function, "0x10ee", "0x903f", "0x070001");
        tree.file(&format!("sys/bus/pci/devices/{function}/reset_method"), "\n");
        tree.group(number, &[function]);
    }
    tree.driver(TWO, "nvme");
    // On another bus, and in another domain.
    tree.function("0000:3d:00.0", "0x10ee", "0x903f", "0x070001");
    tree.function("0001:3b:00.0", "0x10ee", "0x903f", "0x070001");
    tree
}

fn of(tree: &Tree, function: &str) -> Reset {
    let host = tree.host();
    Reset::of(&host, &host.sysfs().function(address(function)).unwrap()).unwrap()
}

fn check(tree: &Tree, function: &str) -> Check {
    let options = DoctorOptions { register_bar: None, memory: 4 << 20, mode: None };
    let diagnosis = doctor::examine(&tree.host(), address(function), &options).unwrap();
    diagnosis.checks.into_iter().find(|check| check.name == "reset").unwrap()
}

#[test]
fn a_function_with_a_reset_of_its_own() {
    let tree = two_functions();
    tree.file(&format!("sys/bus/pci/devices/{ONE}/reset_method"), "flr bus\n");
    assert_eq!(of(&tree, ONE).to_string(), "by itself: flr, bus");
    assert_eq!(check(&tree, ONE).verdict, Verdict::Good);
    // Kernels before 5.15 only have the file `reset`.
    std::fs::remove_file(tree.path(&format!("sys/bus/pci/devices/{ONE}/reset_method"))).unwrap();
    tree.file(&format!("sys/bus/pci/devices/{ONE}/reset"), "");
    assert_eq!(of(&tree, ONE), Reset::Alone(Vec::new()));
}

#[test]
fn a_hot_reset_hits_everything_behind_the_bridge() {
    let tree = two_functions();
    assert_eq!(of(&tree, ONE).others(), ["0000:3b:00.1 (driver nvme)"]);
    // A bridge on that bus, and what is behind it.
    tree.function("0000:3b:01.0", "0x10b5", "0x8747", "0x060400");
    for name in ["secondary_bus_number", "subordinate_bus_number"] {
        tree.file(&format!("sys/bus/pci/devices/0000:3b:01.0/{name}"), "60\n");
    }
    tree.function("0000:3c:00.0", "0x8086", "0x1572", "0x020000");
    let others = of(&tree, ONE).others();
    assert_eq!(
        others,
        ["0000:3b:00.1 (driver nvme)", "0000:3b:01.0 (no driver)", "0000:3c:00.0 (no driver)"]
    );
}

#[test]
fn every_command_says_what_it_would_hit() {
    let tree = two_functions();
    let found = check(&tree, ONE);
    assert_eq!(found.verdict, Verdict::Note);
    assert_eq!(
        found.found,
        "only by a hot reset of its bus, which would also hit 0000:3b:00.1 (driver nvme)"
    );
    let status = Status::of(&tree.host(), &[address(ONE)]).unwrap();
    assert_eq!(status.functions[0].reset_hits, ["0000:3b:00.1 (driver nvme)"]);
    let shown = anstream::adapter::strip_str(&text::status(&status)).to_string();
    assert!(shown.contains("a reset is possible only by a hot reset of its bus"), "{shown}");
    let plan = Plan::bind(&tree.host(), &[address(ONE)], &BindOptions::default()).unwrap();
    assert!(plan.notes.iter().any(|note| note.contains("would also hit 0000:3b:00.1")), "{:?}", plan.notes);
}

#[test]
fn a_function_on_a_root_bus_cannot_be_reset() {
    let tree = Tree::with_card();
    tree.file(&format!("sys/bus/pci/devices/{CARD}/reset_method"), "\n");
    assert_eq!(of(&tree, CARD), Reset::Impossible);
    assert_eq!(check(&tree, CARD).verdict, Verdict::Note);
}
