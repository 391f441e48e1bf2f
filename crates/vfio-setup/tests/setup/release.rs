//! How to end the use of a function without harm to the machine.

use crate::support::{CARD, OTHER, Tree, address};
use vfio_setup::{BindOptions, Plan};

/// Returns the refusal to bind the card.
fn refused(tree: &Tree) -> String {
    let error = Plan::bind(&tree.host(), &[address(CARD)], &BindOptions::default()).unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    error.to_string()
}

/// Adds a network interface of a function that is up.
pub fn interface(tree: &Tree, name: &str, function: &str) {
    tree.link(&format!("sys/class/net/{name}"), &format!("../../devices/pci0000:00/{function}/net/{name}"));
    let directory = format!("sys/devices/pci0000:00/{function}/net/{name}");
    tree.file(&format!("{directory}/flags"), "0x1003\n");
    tree.file(&format!("{directory}/operstate"), "up\n");
    tree.directory(&format!("{directory}/device"));
}

#[test]
fn the_connection_of_the_machine_is_kept() {
    const DOWN: &str = "`sudo ip link set ens5 down`";
    let tree = Tree::with_card();
    interface(&tree, "ens5", CARD);
    tree.file("sys/class/net/lo/operstate", "up\n");
    let error = refused(&tree);
    assert!(error.contains("ens5 is up (it connects this machine to its network"), "{error}");
    assert!(!error.contains("down"), "it is the only one: {error}");
    // A bridge of containers is no connection.
    tree.file("sys/class/net/docker0/operstate", "up\n");
    assert!(!refused(&tree).contains("down"));
    interface(&tree, "ens6", OTHER);
    assert!(refused(&tree).contains(DOWN), "there is another one");
    for (file, line) in [
        (
            "proc/net/route",
            "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\nens5 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0\n",
        ),
        (
            "proc/net/ipv6_route",
            "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe80 00000400 1 0 00000003 ens5\n",
        ),
    ] {
        tree.file(file, line);
        assert!(!refused(&tree).contains("down"), "{file}");
        tree.file(file, &line.replace("ens5", "ens6"));
        assert!(refused(&tree).contains(DOWN), "{file}");
    }
    tree.link("sys/devices/pci0000:00/0000:00:1d.0/net/ens5/master", "../bond0");
    assert!(!refused(&tree).contains("down"), "a bond is built on it");
}

#[test]
fn the_file_systems_of_the_machine_are_kept() {
    let tree = Tree::with_card();
    tree.link("sys/block/sda", &format!("../devices/pci0000:00/{CARD}/ata1/block/sda"));
    tree.file(&format!("sys/devices/pci0000:00/{CARD}/ata1/block/sda/dev"), "8:0\n");
    let mounted = |at: &str| {
        tree.file("proc/self/mountinfo", &format!("22 1 8:0 / {at} rw - ext4 /dev/sda rw\n"));
        refused(&tree)
    };
    for at in
        ["/", "/boot", "/boot/efi", "/usr", "/var/lib/docker", "/home", "/nix/store", "/run/lock", "/tmp"]
    {
        let error = mounted(at);
        assert!(error.contains("belongs to the running system") && !error.contains("umount"), "{error}");
    }
    for (at, command) in [
        ("/srv", "`sudo umount /srv`"),
        ("/mnt/my\\040data", "`sudo umount '/mnt/my data'`"),
        ("/run/media/ada/stick", "`sudo umount /run/media/ada/stick`"),
        ("/usrdata", "`sudo umount /usrdata`"),
    ] {
        assert!(mounted(at).contains(command), "{at}: {}", mounted(at));
    }
    let error = mounted("/mnt/\\033]0;x");
    assert!(!error.contains("umount") && !error.contains('\x1b'), "{error}");
}

#[test]
fn swap_is_ended_only_if_its_contents_fit_into_memory() {
    let tree = Tree::with_card();
    tree.link("sys/block/sda", &format!("../devices/pci0000:00/{CARD}/ata1/block/sda"));
    tree.file(&format!("sys/devices/pci0000:00/{CARD}/ata1/block/sda/dev"), "8:0\n");
    tree.file("proc/meminfo", "MemAvailable:     204800 kB\n");
    let used = |kib: u64| {
        tree.file(
            "proc/swaps",
            &format!("Filename Type Size Used Priority\n/dev/sda partition 900000 {kib} -2\n"),
        );
        refused(&tree)
    };
    assert!(used(1000).contains("`sudo swapoff /dev/sda`"));
    assert!(!used(200_000).contains("swapoff"));
}
