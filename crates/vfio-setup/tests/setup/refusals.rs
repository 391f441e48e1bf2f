//! Refused requests: the error names the reason, and nothing is written.

use crate::support::{CARD, OTHER, Tree, address};
use vfio_setup::status::Status;
use vfio_setup::{BindOptions, Plan, doctor};

/// Returns the error of binding the card, which must be a refusal.
fn refused(tree: &Tree, options: &BindOptions) -> String {
    let error = Plan::bind(&tree.host(), &[address(CARD)], options).unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(tree.log().is_empty());
    error.to_string()
}

fn refused_plainly(tree: &Tree) -> String {
    refused(tree, &BindOptions::default())
}

fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

/// Returns the target of a link in a class directory to a path below the card.
fn below(path: &str) -> String {
    format!("../../devices/pci0000:00/{CARD}/{path}")
}

#[test]
fn missing_functions_and_functions_that_are_not_cards() {
    let tree = Tree::new();
    has(&refused_plainly(&tree), &[CARD, "lspci -D"]);
    let error = Plan::bind(&tree.host(), &[], &BindOptions::default()).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    has(&error.to_string(), &["no XDMA card"]);

    tree.function(CARD, "0x8086", "0x100e", "0x020000");
    tree.group(7, &[CARD]);
    has(&refused_plainly(&tree), &["8086:100e", "--any"]);
    let any = BindOptions { any: true, ..BindOptions::default() };
    Plan::bind(&tree.host(), &[address(CARD)], &any).unwrap();

    // A card with IDs of its own that the kernel module accepted, for example by `new_id`.
    tree.driver(CARD, "xdma");
    Plan::bind(&tree.host(), &[address(CARD)], &BindOptions::default()).unwrap();
    assert_eq!(doctor::cards(&tree.host()).unwrap(), [address(CARD)]);

    tree.function(CARD, "0x1d0f", "0x1042", "0x058000");
    has(&refused_plainly(&tree), &["without an image", "fpga-load-local-image"]);

    tree.function(CARD, "0x10ee", "0x903f", "0x060400");
    has(&refused(&tree, &any), &["bridge"]);
}

#[test]
fn an_interface_that_is_up() {
    for (flags, state) in [("0x1003", "down"), ("0x1002", "up"), ("strange", "down")] {
        let tree = Tree::with_card();
        tree.link("sys/class/net/ens5", &below("virtio0/net/ens5"));
        fs_class(&tree, "sys/class/net/ens5", &[("flags", flags), ("operstate", state)]);
        has(&refused_plainly(&tree), &[CARD, "ens5", "connects this machine"]);
    }
    let tree = Tree::with_card();
    tree.link("sys/class/net/ens5", &below("net/ens5"));
    fs_class(&tree, "sys/class/net/ens5", &[("flags", "0x1002"), ("operstate", "down")]);
    tree.link("sys/class/net/ens6", "../../devices/pci0000:00/0000:00:1c.0/net/ens6");
    Plan::bind(&tree.host(), &[address(CARD)], &BindOptions::default()).unwrap();
}

/// Creates files behind a link in a class directory.
fn fs_class(tree: &Tree, link: &str, files: &[(&str, &str)]) {
    let target = std::fs::read_link(tree.path(link)).unwrap();
    let target = target.strip_prefix("../..").unwrap().display().to_string();
    for (name, text) in files {
        tree.file(&format!("sys/{target}/{name}"), &format!("{text}\n"));
    }
}

fn with_disk(name: &str, path: &str) -> Tree {
    let tree = Tree::with_card();
    tree.link(&format!("sys/block/{name}"), &format!("../devices/pci0000:00/{CARD}/{path}"));
    tree.file(&format!("sys/devices/pci0000:00/{CARD}/{path}/dev"), "259:0\n");
    tree
}

#[test]
fn a_disk_that_is_mounted() {
    let tree = with_disk("sda", "ata1/block/sda");
    Plan::bind(&tree.host(), &[address(CARD)], &BindOptions::default()).unwrap();
    tree.file(&format!("sys/devices/pci0000:00/{CARD}/ata1/block/sda/sda1/dev"), "259:1\n");
    tree.file("proc/self/mountinfo", "22 1 259:1 / /srv rw shared:1 - ext4 /dev/root rw\n");
    has(&refused_plainly(&tree), &["/dev/sda1", "/srv", "umount"]);
    // btrfs uses its own device number, so the disk is recognized by name.
    tree.file("proc/self/mountinfo", "22 1 0:31 / /data rw - btrfs /dev/sda1 rw\n");
    has(&refused_plainly(&tree), &["/dev/sda1", "/data"]);
    tree.file("proc/self/mountinfo", "garbage\n22 1 - -\n");
    tree.file("proc/swaps", "Filename Type Size Used Priority\n/dev/sda1 partition 1 0 -2\n");
    has(&refused_plainly(&tree), &["/dev/sda1 is swap"]);
}

#[test]
fn a_disk_that_something_is_built_on() {
    let tree = with_disk("sda", "ata1/block/sda");
    tree.directory(&format!("sys/devices/pci0000:00/{CARD}/ata1/block/sda/holders/dm-0"));
    has(&refused_plainly(&tree), &["/dev/sda is part of dm-0"]);
}

#[test]
fn a_disk_that_the_kernel_uses_for_an_unknown_purpose() {
    let tree = with_disk("sda", "ata1/block/sda");
    *tree.kernel().held.borrow_mut() = Some("dev/sda");
    has(&refused_plainly(&tree), &["the kernel is using /dev/sda"]);
    // If the purpose is known, only that is reported.
    tree.file("proc/self/mountinfo", "22 1 259:0 / /srv rw - ext4 /dev/sda rw\n");
    assert!(!refused_plainly(&tree).contains("the kernel"));
}

#[test]
fn more_hugepages_than_memory() {
    let tree = Tree::with_card();
    tree.file("proc/meminfo", "MemTotal:       1000000 kB\nMemAvailable:     204800 kB\n");
    let options = |pages: &str| BindOptions { hugepages: pages.parse().unwrap(), ..BindOptions::default() };
    // There are four pages already.
    Plan::bind(&tree.host(), &[], &options("2M=104")).unwrap();
    has(&refused(&tree, &options("2M=105")), &["101 more 2M pages need 202 MiB", "200 MiB"]);
    has(&refused(&tree, &options("1G=18446744073709551615")), &["request fewer"]);
}

#[test]
fn a_disk_with_several_paths() {
    let tree = with_disk("nvme0c1n1", "nvme/nvme1/nvme0c1n1");
    tree.file("sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/dev", "259:7\n");
    tree.link("sys/block/nvme0n1", "../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1");
    tree.file("proc/self/mountinfo", "22 1 259:7 / / rw - ext4 /dev/nvme0n1 rw\n");
    has(&refused_plainly(&tree), &["/dev/nvme0n1 is mounted at /"]);
}

#[test]
fn a_node_that_a_process_has_open() {
    let tree = Tree::with_card();
    tree.link("sys/dev/char/240:0", &below("xdma/xdma0_h2c_0"));
    tree.file(
        &format!("sys/devices/pci0000:00/{CARD}/xdma/xdma0_h2c_0/uevent"),
        "MAJOR=240\nDEVNAME=xdma0_h2c_0\n",
    );
    tree.device("/dev/xdma0_h2c_0", (240, 0));
    tree.process(4242, "prover", &["/dev/null", "/dev/xdma0_h2c_0"]);
    has(&refused_plainly(&tree), &["process 4242 (prover) has /dev/xdma0_h2c_0 open"]);
    // A descriptor opened with O_PATH is not a use.
    tree.file("proc/4242/fdinfo/1", "pos:\t0\nflags:\t012100000\nmnt_id:\t9\n");
    planned(&tree);
    tree.file("proc/4242/fdinfo/1", "pos:\t0\nflags:\t02100002\nmnt_id:\t9\n");
    has(&refused_plainly(&tree), &["process 4242"]);
    // A descriptor that is replaced at this moment, which any user can do continuously, is only noted.
    std::fs::remove_file(tree.path("proc/4242/fdinfo/1")).unwrap();
    has(&planned(&tree).join("\n"), &["process 4242"]);
}

/// Returns the notes of the plan to bind the card, which must not be refused.
fn planned(tree: &Tree) -> Vec<String> {
    Plan::bind(&tree.host(), &[address(CARD)], &BindOptions::default()).unwrap().notes
}

const REGISTERS: &str = "/sys/bus/pci/devices/0000:00:1d.0/resource0";

/// Returns the path of the registers in the kernel's lists.
fn registers() -> String {
    format!("/sys/devices/pci0000:00/{CARD}/resource0")
}

fn with_registers() -> Tree {
    let tree = Tree::with_card();
    tree.file(&REGISTERS[1..], "");
    tree.file(&format!("sys/bus/pci/devices/{CARD}/config"), "");
    tree.inode(REGISTERS, (0, 21), 99);
    tree
}

#[test]
fn registers_that_a_process_has_mapped() {
    let tree = with_registers();
    tree.process(4243, "fpga_mgmt", &[]);
    let line = |device: &str, inode: u32, name: &str| {
        tree.file("proc/4243/maps", &format!("7f00-7f01 rw-s 00000000 {device} {inode}    {name}\n"));
    };
    line("00:15", 99, &registers());
    has(&refused_plainly(&tree), &["process 4243 (fpga_mgmt)", "resource0"]);
    // In a container, the file can have another name, and sysfs can have another device number, which mountinfo lists.
    line("00:15", 99, "/bars/0");
    has(&refused_plainly(&tree), &["process 4243 (fpga_mgmt)", "/bars/0"]);
    line("00:2a", 99, &registers());
    has(&planned(&tree)[0], &["process 4243 (fpga_mgmt)", "resource0", "not counted"]);
    tree.file("proc/4243/mountinfo", "30 1 0:42 / /sys rw - sysfs sysfs rw\n");
    has(&refused_plainly(&tree), &["process 4243 (fpga_mgmt)"]);
    // Other file systems do not count as sysfs, whatever their source is named.
    for mounts in [
        "30 1 0:42 / /sys rw - tmpfs sysfs rw\n",
        "30 1 0:42 / /sys rw - fuse.sysfs sysfs rw\n",
        "0:42 - sysfs\n",
    ] {
        tree.file("proc/4243/mountinfo", mounts);
        assert_eq!(planned(&tree).len(), 1, "{mounts}");
    }
    // If map_files identifies the mapped file, that identity counts.
    tree.link("proc/4243/map_files/7f00-7f01", "/bars/0");
    tree.inode("/bars/0", (0, 21), 99);
    has(&refused_plainly(&tree), &["process 4243 (fpga_mgmt)"]);
}

#[test]
fn registers_that_a_process_has_open() {
    let tree = with_registers();
    tree.inode(&registers(), (0, 21), 99);
    tree.process(4247, "prover", &[&registers()]);
    has(&refused_plainly(&tree), &["process 4247 (prover)", "resource0 open"]);
}

#[test]
fn fake_files_neither_block_a_card_nor_reach_the_terminal() {
    let tree = with_registers();
    let made_up = format!("/home/eve/{CARD}/resource0");
    tree.process(4245, "eve", &[&made_up]);
    tree.file("proc/4245/maps", &format!("7f00-7f01 rw-s 00000000 00:16 99    {made_up}\n"));
    // Files that every user may open.
    tree.process(
        4248,
        "eve",
        &[
            &format!("/sys/devices/pci0000:00/{CARD}/resource"),
            &format!("/sys/devices/pci0000:00/{CARD}/config"),
        ],
    );
    assert_eq!(planned(&tree), Vec::<String>::new());
    // In a private mount namespace, with escape sequences in the process name: only the identity of these files differs.
    let files = [registers(), "/dev/vfio/7".to_string(), "/dev/\u{1b}".into()];
    tree.inode(&files[0], (0, 22), 99);
    tree.inode(&files[1], (0, 22), 3);
    tree.process(4246, "\u{1b}]0;root\u{7}", &files.each_ref().map(String::as_str));
    tree.file("proc/4246/maps", &format!("7f00-7f01 rw-s 00000000 00:16 99    {}\n", registers()));
    let notes = planned(&tree);
    assert_eq!(notes.len(), 2, "{notes:?}");
    has(&notes[0], &["process 4246", "\\u{1b}]0;root\\u{7}", "/dev/vfio/7"]);
    assert!(!notes.concat().contains(|c: char| c.is_control()), "{notes:?}");
    // One user can fake any number of uses.
    for pid in 5000..5100 {
        tree.process(pid, "eve", &[&registers()]);
    }
    let notes = planned(&tree);
    assert!(notes.len() == 9 && notes[8].contains("94 more"), "{notes:?}");
}

#[test]
fn a_users_fuse_file_system_does_not_count_as_a_disk() {
    let tree = with_disk("sda", "ata1/block/sda");
    for kind in ["fuse", "fuse.sshfs"] {
        tree.file("proc/self/mountinfo", &format!("22 1 0:31 / /home/eve/m rw - {kind} /dev/sda rw\n"));
        planned(&tree);
    }
    // Only root can mount a disk with fuseblk.
    tree.file("proc/self/mountinfo", "22 1 0:31 / /data rw - fuseblk /dev/sda rw\n");
    has(&refused_plainly(&tree), &["/dev/sda", "/data"]);
}

#[test]
fn a_card_in_use_is_not_unbound() {
    let tree = Tree::with_card();
    let host = tree.host();
    Plan::bind(&host, &[], &BindOptions::default()).unwrap().apply(&host).unwrap();
    tree.device("/dev/vfio/7", (243, 7));
    tree.process(4244, "prover", &["/dev/vfio/7"]);
    let error = Plan::unbind(&host, &[]).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    has(&error.to_string(), &["process 4244 (prover) has /dev/vfio/7 open"]);
}

#[test]
fn a_group_with_other_members() {
    let tree = Tree::with_card();
    tree.function(OTHER, "0x1022", "0x1481", "0x088000");
    tree.group(7, &[CARD, OTHER]);
    // A member without a driver does not matter.
    Plan::bind(&tree.host(), &[address(CARD)], &BindOptions::default()).unwrap();
    tree.driver(OTHER, "ahci");
    has(&refused_plainly(&tree), &["group 7", "0000:00:1e.0 (driver ahci)"]);
    // Neither does a bridge.
    tree.file(&format!("sys/bus/pci/devices/{OTHER}/class"), "0x060400\n");
    Plan::bind(&tree.host(), &[address(CARD)], &BindOptions::default()).unwrap();
    // Neither does a member that is bound at the same time.
    tree.function(OTHER, "0x10ee", "0x903f", "0x058000");
    has(&refused_plainly(&tree), &["(driver ahci)"]);
    assert_eq!(Plan::bind(&tree.host(), &[], &BindOptions::default()).unwrap().functions.len(), 2);
}

#[test]
fn a_group_with_a_member_that_is_not_a_pci_function() {
    let tree = Tree::with_card();
    tree.directory("sys/kernel/iommu_groups/7/devices/AMDI0095:00");
    Plan::bind(&tree.host(), &[address(CARD)], &BindOptions::default()).unwrap();
    tree.link("sys/kernel/iommu_groups/7/devices/AMDI0095:00/driver", "../../drivers/amd");
    has(&refused_plainly(&tree), &["AMDI0095:00"]);
}

#[test]
fn a_missing_iommu_and_an_unexpected_one() {
    let tree = Tree::new();
    tree.function(CARD, "0x1d0f", "0xf001", "0x058000");
    has(&refused_plainly(&tree), &["not behind an IOMMU", "--no-iommu", "all memory"]);
    tree.group(7, &[CARD]);
    let options = BindOptions { no_iommu: true, ..BindOptions::default() };
    has(&refused(&tree, &options), &["leave out --no-iommu"]);
}

#[test]
fn missing_accounts() {
    let tree = Tree::with_card();
    let group = BindOptions { group: Some("missing".into()), ..BindOptions::default() };
    has(&refused(&tree, &group), &["group `missing`", "groupadd --system missing"]);
    let user = BindOptions { user: Some("eve".into()), ..BindOptions::default() };
    has(&refused(&tree, &user), &["user `eve`", "/etc/passwd"]);
    tree.file("etc/group", "a\"b:x:12:\n");
    let strange = BindOptions { group: Some("a\"b".into()), ..BindOptions::default() };
    has(&refused(&tree, &strange), &["a\"b"]);
}

#[test]
fn a_shared_node_configured_for_others() {
    let tree = Tree::with_card();
    tree.kernel().node("dev/iommu", 0o660);
    tree.set_owner("dev/iommu", 0, 44, 0o660);
    let options = BindOptions { group: Some("fpga".into()), ..BindOptions::default() };
    has(&refused(&tree, &options), &["/dev/iommu", "group 44"]);
}

#[test]
fn garbage_in_sysfs_names_the_file() {
    let tree = Tree::with_card();
    tree.file(&format!("sys/bus/pci/devices/{CARD}/vendor"), "what\n");
    let error = Plan::bind(&tree.host(), &[address(CARD)], &BindOptions::default()).unwrap_err();
    has(&error.to_string(), &["vendor", "what"]);
}

#[test]
fn a_card_behind_vmd_is_explained() {
    const VMD: &str = "10000:e1:00.0";
    let tree = Tree::new();
    tree.function(VMD, "0x10ee", "0x903f", "0x058000");
    let error = Plan::bind(&tree.host(), &[address(VMD)], &BindOptions::default()).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    has(&error.to_string(), &[VMD, "behind Intel VMD", "in the firmware"]);
    let status = Status::read(&tree.host(), false).unwrap();
    assert_eq!(status.functions[0].address, VMD);
}
