//! Giving a card back while a driver claims it: by IDs, by saved overrides, by udev rules.

use crate::support::{CARD, Tree, address};
use vfio_setup::claims::{self, Claim, Effect};
use vfio_setup::persist;
use vfio_setup::{BindOptions, Plan};

const OVERRIDE: &str = "sys/bus/pci/devices/0000:00:1d.0/driver_override";
const FORGET: &str = "echo \"1d0f f001\" | sudo tee /sys/bus/pci/drivers/vfio-pci/remove_id";

/// Returns a host on which the kernel gave the card to vfio-pci, because it has the IDs of the card.
fn claimed(ids: usize) -> Tree {
    let tree = Tree::with_card();
    for _ in 0..ids {
        tree.kernel().ids.borrow_mut().push(("vfio-pci", "1d0f f001".into()));
    }
    tree.driver_is_vfio(CARD);
    tree
}

fn of(tree: &Tree) -> Vec<Claim> {
    let host = tree.host();
    claims::of(&host, &host.sysfs().function(address(CARD)).unwrap()).unwrap()
}

fn settings(tree: &Tree) -> Vec<String> {
    of(tree).into_iter().map(|claim| claim.setting).collect()
}

/// Returns the commands between backticks.
fn commands(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn unbind(tree: &Tree) -> Result<Vec<String>, String> {
    let host = tree.host();
    Plan::unbind(&host, &[]).unwrap().apply(&host).map_err(|error| error.to_string())
}

#[test]
fn ids_on_the_kernel_command_line_are_named_with_what_to_type() {
    let tree = claimed(1);
    tree.file("proc/cmdline", "root=/dev/sda1 vfio_pci.ids=10de:1,1d0f:f001 quiet\n");
    let error = unbind(&tree).unwrap_err();
    for part in [
        "vfio-pci took 0000:00:1d.0 again: it has the card's PCI IDs (`vfio_pci.ids=10de:1,1d0f:f001` on the kernel command line)",
        FORGET,
        "sudo vfio-setup unbind 0000:00:1d.0",
        "at the next boot: remove `vfio_pci.ids=10de:1,1d0f:f001` from the kernel command line",
    ] {
        assert!(error.contains(part), "no `{part}` in {error}");
    }
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("vfio-pci"));
    // What it says works when it is typed.
    let typed = commands(&error).into_iter().find(|text| text.contains("remove_id")).unwrap().to_string();
    tree.paste(&typed).unwrap();
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("xdma"));
}

#[test]
fn ids_of_modprobe_and_the_command_line_are_removed_one_by_one() {
    let tree = claimed(2);
    tree.file("proc/cmdline", "vfio-pci.ids=1d0f:f001:ffffffff:ffffffff\n");
    tree.file(
        "etc/modprobe.d/vfio.conf",
        "# options vfio-pci ids=1d0f:f001\noptions vfio-pci ids=1d0f:f001 disable_vga=1\n",
    );
    let error = unbind(&tree).unwrap_err();
    assert!(
        error.contains("`ids=` in /etc/modprobe.d/vfio.conf") && error.contains("update-initramfs"),
        "{error}"
    );
    let typed = commands(&error).into_iter().find(|text| text.contains("remove_id")).unwrap().to_string();
    assert_eq!(typed.matches(FORGET).count(), 2, "{typed}");
    tree.paste(&typed).unwrap();
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("xdma"));
    assert!(tree.paste(FORGET).is_err(), "both entries are gone");
}

#[test]
fn ids_that_were_written_to_new_id_are_known_from_their_effect() {
    let tree = claimed(1);
    assert_eq!(settings(&tree), ["/sys/bus/pci/drivers/vfio-pci/new_id"]);
    let plan = Plan::unbind(&tree.host(), &[]).unwrap();
    assert!(plan.notes.iter().any(|note| note.contains(FORGET)), "{:?}", plan.notes);
    let error = unbind(&tree).unwrap_err();
    assert!(error.contains("new_id") && error.contains(FORGET), "{error}");
    // The effect is hidden while the override explains the binding, but not from the failed step.
    tree.file(OVERRIDE, "vfio-pci\n");
    assert_eq!(settings(&tree), Vec::<String>::new());
    let error = unbind(&tree).unwrap_err();
    assert!(error.contains(FORGET), "{error}");
    tree.paste(FORGET).unwrap();
    unbind(&tree).unwrap();
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("xdma"));
}

#[test]
fn ids_of_other_functions_are_no_claim() {
    let tree = Tree::with_card();
    tree.file(
        "proc/cmdline",
        "vfio-pci.ids=10ee:903f,1d0f,zz:1,: vfio.ids=1d0f:f001 xvfio-pci.ids=1d0f:f001\n",
    );
    tree.file("etc/modprobe.d/a.conf", "options vfio ids=1d0f:f001\nblacklist vfio-pci ids=1d0f:f001\n");
    tree.file("etc/modprobe.d/a.conf.bak", "options vfio-pci ids=1d0f:f001\n");
    // Class 0c0000 with all bits of the mask is another class.
    tree.file("run/modprobe.d/b.conf", "options vfio-pci ids=1d0f:f001:ffffffff:ffffffff:c0000:ff0000\n");
    // A file hides those of the same name in later directories.
    tree.file("etc/modprobe.d/c.conf", "");
    tree.file("usr/lib/modprobe.d/c.conf", "options vfio-pci ids=1d0f:f001\n");
    assert_eq!(of(&tree), []);
    tree.file("usr/lib/modprobe.d/d.conf", "options vfio_pci ids=8086:1,ffffffff:ffffffff\n");
    assert_eq!(of(&tree)[0].ids.as_deref(), Some("ffffffff ffffffff"));
}

#[test]
fn an_override_that_driverctl_saved_takes_the_card_at_the_next_boot() {
    let tree = Tree::with_card();
    tree.driver_is_vfio(CARD);
    tree.file(OVERRIDE, "vfio-pci\n");
    tree.file(&format!("etc/driverctl.d/pci-{CARD}"), "vfio-pci\n");
    let plan = Plan::unbind(&tree.host(), &[]).unwrap();
    let note = plan.notes.iter().find(|note| note.contains("driverctl")).unwrap();
    assert!(note.contains("at the next boot") && note.contains("driverctl.d/pci-0000:00:1d.0"), "{note}");
    unbind(&tree).unwrap();
    let remedy = note.rsplit(": ").next().unwrap();
    assert_eq!(remedy, "sudo driverctl unset-override 0000:00:1d.0");
    tree.paste(remedy).unwrap();
    assert_eq!(of(&tree), []);
    // The other way round: driverctl takes the card away from vfio-pci.
    tree.file(&format!("etc/driverctl.d/pci-{CARD}"), "pci-stub\n");
    let plan = Plan::bind(&tree.host(), &[], &BindOptions::default()).unwrap();
    assert!(plan.notes[0].contains("pci-stub binds to 0000:00:1d.0"), "{:?}", plan.notes);
    let changes = persist::persist(&tree.host(), &[], &BindOptions::default()).unwrap();
    assert!(
        changes.notes.iter().any(|note| note.contains("driverctl unset-override")),
        "{:?}",
        changes.notes
    );
}

#[test]
fn udev_rules_that_bind_the_card_again_are_named() {
    let tree = Tree::with_card();
    persist::persist(&tree.host(), &[], &BindOptions::default()).unwrap().apply(&tree.host()).unwrap();
    let claim = &of(&tree)[0];
    assert_eq!((claim.effect, claim.remedy.as_deref()), (Effect::Later, Some("sudo vfio-setup undo")));
    tree.driver_is_vfio(CARD);
    tree.file(OVERRIDE, "vfio-pci\n");
    let plan = Plan::unbind(&tree.host(), &[]).unwrap();
    let note = plan.notes.iter().find(|note| note.contains("61-xdma-bind.rules")).unwrap();
    tree.paste(note.rsplit(": ").next().unwrap()).unwrap();
    assert_eq!(of(&tree), []);
    // Rules of others.
    let path = "etc/udev/rules.d/10-mine.rules";
    tree.file(path, "# 0x1d0f 0xf001 vfio-pci\nATTR{vendor}==\"0x1d0f\", ATTR{device}==\"0xf000\", ATTR{driver_override}=\"vfio-pci\"\n");
    assert_eq!(of(&tree), []);
    tree.file(
        path,
        "ATTR{vendor}==\"0x1d0f\", ATTR{device}==\"0xf001\", ATTR{driver_override}=\"vfio-pci\"\n",
    );
    assert_eq!(settings(&tree), ["a udev rule in /etc/udev/rules.d/10-mine.rules"]);
    tree.file(path, "KERNEL==\"0000:00:1d.0\", RUN+=\"/sbin/modprobe vfio-pci\"\n");
    assert_eq!(settings(&tree).len(), 1);
}

#[test]
fn a_card_that_no_driver_takes_is_noted_with_what_to_type() {
    // xdma is loaded, and does not know the IDs.
    let tree = claimed(0);
    tree.file(OVERRIDE, "vfio-pci\n");
    *tree.kernel().ignores.borrow_mut() = Some("drivers_probe");
    let notes = unbind(&tree).unwrap();
    assert!(notes[0].contains("echo \"1d0f f001\" | sudo tee /sys/bus/pci/drivers/xdma/new_id"), "{notes:?}");
    // It is not loaded.
    std::fs::remove_dir_all(tree.path("sys/bus/pci/drivers/xdma")).unwrap();
    tree.driver_is_vfio(CARD);
    let notes = unbind(&tree).unwrap();
    assert!(notes[0].contains("sudo modprobe xdma"), "{notes:?}");
    // Somebody else's override allows only another driver.
    tree.driver_is_vfio(CARD);
    tree.file(OVERRIDE, "nothing\n");
    let notes = unbind(&tree).unwrap();
    assert!(notes[0].contains("allows only nothing"), "{notes:?}");
    *tree.kernel().ignores.borrow_mut() = None;
    tree.kernel().ids.borrow_mut().clear();
    tree.driver_of(CARD).ok_or(()).unwrap_err();
    let typed = commands(&notes[0])[0].to_string();
    tree.file("sys/bus/pci/drivers/xdma/bind", "");
    tree.paste(&typed).unwrap();
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("xdma"));
}

#[test]
fn a_card_that_another_stub_takes_is_noted() {
    let tree = claimed(0);
    tree.file(OVERRIDE, "vfio-pci\n");
    tree.file("sys/bus/pci/drivers/pci-stub/unbind", "");
    tree.file("proc/cmdline", "pci-stub.ids=1d0f:f001\n");
    tree.kernel().ids.borrow_mut().push(("pci-stub", "1d0f f001".into()));
    let notes = unbind(&tree).unwrap();
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("pci-stub"));
    tree.paste(commands(&notes[0])[0]).unwrap();
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("xdma"), "{notes:?}");
}
