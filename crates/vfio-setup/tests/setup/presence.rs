//! A function that no longer answers as the kernel describes it.

use crate::support::{CARD, Tree, address};
use vfio_setup::doctor::{self, DoctorOptions, Verdict};
use vfio_setup::persist;
use vfio_setup::presence::Presence;
use vfio_setup::status::Status;
use vfio_setup::{BindOptions, Plan, text};

const BAR: u32 = 0x8000_000c;

fn presence(tree: &Tree) -> Presence {
    let host = tree.host();
    Presence::of(&host, &host.sysfs().function(address(CARD)).unwrap()).unwrap()
}

#[test]
fn a_function_that_answers() {
    let tree = Tree::with_card();
    assert_eq!(presence(&tree), Presence::Present, "unknown without the file");
    tree.config(CARD, 0x1d0f, 0xf001, BAR);
    assert_eq!(presence(&tree), Presence::Present);
    // A kernel that shows less than the header.
    tree.file(&format!("sys/bus/pci/devices/{CARD}/config"), "abc");
    assert_eq!(presence(&tree), Presence::Present);
}

#[test]
fn a_function_that_does_not() {
    let tree = Tree::with_card();
    tree.lose(CARD);
    assert_eq!(presence(&tree), Presence::Gone);
    tree.config(CARD, 0x10ee, 0x9038, BAR);
    assert_eq!(presence(&tree), Presence::Replaced { vendor: 0x10ee, device: 0x9038 });
    tree.config(CARD, 0x1d0f, 0xf001, 0x0000_000c);
    assert_eq!(presence(&tree), Presence::Reset);
    // The kernel has not assigned an address either.
    let none = "0x0000000000000000 0x0000000001ffffff 0x0000000000040200\n";
    tree.file(&format!("sys/bus/pci/devices/{CARD}/resource"), none);
    assert_eq!(presence(&tree), Presence::Present);
}

#[test]
fn the_ids_of_a_virtual_function_are_all_ones() {
    let tree = Tree::with_card();
    tree.lose(CARD);
    tree.directory(&format!("sys/bus/pci/devices/{CARD}/physfn"));
    assert_eq!(presence(&tree), Presence::Present);
}

#[test]
fn every_command_says_it() {
    let tree = Tree::with_card();
    tree.driver_is_vfio(CARD);
    let host = tree.host();
    assert_eq!(Status::read(&host, false).unwrap().functions[0].modes.len(), 1);
    tree.lose(CARD);
    let status = Status::read(&host, false).unwrap();
    assert!(status.functions[0].modes.is_empty(), "it cannot be opened");
    let shown = anstream::adapter::strip_str(&text::status(&status)).to_string();
    assert!(
        shown.contains("does not work\n") && shown.contains("reads ff") && shown.contains("sudo tee"),
        "{shown}"
    );
    let options = DoctorOptions { register_bar: None, memory: 4 << 20, mode: None };
    let diagnosis = doctor::examine(&host, address(CARD), &options).unwrap();
    let verdict = |name: &str| diagnosis.checks.iter().find(|check| check.name == name).unwrap().verdict;
    assert_eq!(verdict("config space"), Verdict::Bad);
    for name in ["BARs", "link", "open"] {
        assert_eq!(verdict(name), Verdict::Skipped, "{name}");
    }
    let refused = [
        Plan::bind(&host, &[], &BindOptions::default()).unwrap_err(),
        persist::persist(&host, &[], &BindOptions::default()).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.exit_code(), 3);
        let error = error.to_string();
        assert!(error.contains("reads ff") && error.contains("reboot with the image in flash"), "{error}");
    }
}

#[test]
fn the_remedy_works_when_pasted() {
    let tree = Tree::with_card();
    tree.lose(CARD);
    let remedy = presence(&tree).remedy(address(CARD)).unwrap();
    tree.paste(&remedy).unwrap();
    assert_eq!(presence(&tree), Presence::Present);
    Plan::bind(&tree.host(), &[], &BindOptions::default()).unwrap();
}
