//! Advice works when it is pasted, and does no harm.

use crate::release;
use crate::support::{CARD, OTHER, Tree, address};
use clap::Parser;
use clap::error::ErrorKind;
use std::path::{Path, PathBuf};
use vfio_setup::cli::Cli;
use vfio_setup::doctor::{self, DoctorOptions, Verdict};
use vfio_setup::{BindOptions, Plan, persist};

/// Returns the command lines of `vfio-setup` in a text, up to the end of the sentence, quotation or shell command.
fn command_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (start, name) in text.match_indices("vfio-setup ") {
        let is_word =
            text[..start].chars().next_back().is_none_or(|c| c.is_whitespace() || "`\"(".contains(c));
        let rest = &text[start + name.len()..];
        if is_word && rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '-') {
            let end = rest.find(['`', '"', ';', ',', ')', '#', '|', '>', '\\', '\n']).unwrap_or(rest.len());
            lines.push(format!("vfio-setup {}", rest[..end].trim_end_matches(['.', ' '])));
        }
    }
    lines
}

fn accepted(line: &str) {
    let words = line.split_whitespace().map(|word| word.trim_matches('\''));
    match Cli::try_parse_from(words) {
        Err(error) if error.kind() != ErrorKind::DisplayHelp => panic!("{line}: {error}"),
        _ => {}
    }
}

/// Returns the files of a directory of this package, and of its subdirectories.
fn sources(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { directories.push(path) } else { found.push(path) }
        }
    }
    found
}

/// The commands in every string of the crate, except those that `advice.rs` puts together, which the other tests of this file obtain.
#[test]
fn every_command_in_the_sources_is_accepted() {
    let mut count = 0;
    for path in sources("src") {
        let text = std::fs::read_to_string(&path).unwrap();
        let (text, _) = text.split_once("#[cfg(test)]\nmod tests").unwrap_or((&text, ""));
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for command in command_lines(line).iter().filter(|command| *command != "vfio-setup {name}") {
                let command = command.replace("{address}", CARD);
                assert!(!command.contains('{'), "{}: this command is put together: {line}", path.display());
                accepted(&command);
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count}");
}

/// Only root can write to sysfs and procfs, and `sudo` does not apply to a redirection.
#[test]
fn no_command_in_the_sources_redirects_into_a_system_file() {
    let workspace =
        ["../../src", "../../examples", "../arkworks/src", "../cards/src", "../chardev/src", "../cli/src"];
    let is_here = |directory: &&str| Path::new(env!("CARGO_MANIFEST_DIR")).join(directory).is_dir();
    for path in workspace.into_iter().filter(is_here).chain(["src"]).flat_map(sources) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for line in text.lines().filter(|line| line.contains("echo ") && line.contains(" > ")) {
            // The plan shows writes, not commands to paste.
            assert!(path.ends_with("step.rs"), "{}: {line}", path.display());
        }
    }
}

#[test]
fn every_command_in_the_guide_is_accepted() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide.md");
    let Ok(text) = std::fs::read_to_string(path) else {
        return println!("skipped: the guide is not part of the package");
    };
    let commands = command_lines(&text);
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        accepted(&command.replace('…', ""));
    }
}

fn options() -> DoctorOptions {
    DoctorOptions { register_bar: None, memory: 8 << 20, mode: None }
}

/// Pastes the remedies of problems and of notes about memory until there are none. Returns what was pasted.
fn follow_doctor(tree: &Tree) -> Vec<String> {
    let mut pasted: Vec<String> = Vec::new();
    for _ in 0..6 {
        let diagnosis = doctor::examine(&tree.host(), address(CARD), &options()).unwrap();
        let wanted = |check: &&doctor::Check| {
            check.verdict == Verdict::Bad || check.verdict == Verdict::Note && check.name == "hugepages"
        };
        let Some(check) = diagnosis.checks.iter().find(wanted) else { return pasted };
        let remedy = check.remedy.clone().unwrap();
        tree.paste(&remedy).unwrap_or_else(|error| panic!("{check:?}: {error}"));
        assert!(!pasted.contains(&remedy), "it did not help: {check:?}");
        pasted.push(remedy);
    }
    panic!("no end: {pasted:?}");
}

#[test]
fn following_doctor_ends_with_a_usable_card() {
    let known = Tree::with_card();
    let custom = || {
        let tree = Tree::new();
        tree.function(CARD, "0x10ee", "0xbeef", "0x058000");
        tree.group(7, &[CARD]);
        tree
    };
    let no_group = custom();
    no_group.file("etc/group", "root:x:0:\n");
    let lost = custom();
    lost.lose(CARD);
    let no_node = custom();
    no_node.driver_is_vfio(CARD);
    no_node.file(&format!("sys/bus/pci/devices/{CARD}/driver_override"), "vfio-pci\n");
    std::fs::remove_file(no_node.path("dev/vfio/7")).unwrap();
    for (name, tree) in
        [("known", known), ("custom", custom()), ("no group", no_group), ("lost", lost), ("no node", no_node)]
    {
        let pasted = follow_doctor(&tree);
        assert!(
            pasted.iter().any(|line| line.contains("vfio-setup bind") || line.contains("unbind")),
            "{name}: {pasted:?}"
        );
        assert_eq!(tree.driver_of(CARD).as_deref(), Some("vfio-pci"), "{name}: {pasted:?}");
        let custom_ids = name != "known";
        let binds = pasted.iter().filter(|line| line.contains("vfio-setup bind"));
        assert!(binds.clone().all(|line| line.contains(" --any") == custom_ids), "{name}: {pasted:?}");
    }
}

/// Returns the commands of a remedy: from its beginning up to a comment, and those in backticks.
fn commands(remedy: &str) -> Vec<&str> {
    let starts = ["sudo ", "echo ", "newgrp ", "ulimit ", "export ", "unset "];
    let is_command = |text: &&str| starts.iter().any(|start| text.starts_with(start));
    let quoted = remedy.split('`').skip(1).step_by(2);
    std::iter::once(remedy.split("   #").next().unwrap()).chain(quoted).filter(is_command).collect()
}

fn with_ids(device: &str, group: bool) -> Tree {
    let tree = Tree::new();
    tree.function(CARD, "0x10ee", device, "0x058000");
    if group {
        tree.group(7, &[CARD]);
    } else {
        std::fs::remove_dir_all(tree.path("sys/class/iommu/dmar0")).unwrap();
    }
    tree
}

fn bound(tree: Tree, group: Option<&str>) -> Tree {
    let no_iommu = !tree.path(&format!("sys/bus/pci/devices/{CARD}/iommu_group")).exists();
    let options =
        BindOptions { any: true, no_iommu, group: group.map(str::to_string), ..BindOptions::default() };
    let host = tree.host();
    Plan::bind(&host, &[address(CARD)], &options).unwrap().apply(&host).unwrap();
    tree
}

fn of_ada(tree: Tree) -> Tree {
    tree.process_of_ada("1000");
    tree.file(
        "proc/self/limits",
        "Max locked memory         65536                65536                bytes\n",
    );
    tree
}

fn persisted(tree: Tree, no_iommu: bool) -> Tree {
    let options =
        BindOptions { any: true, no_iommu, hugepages: "1G=2".parse().unwrap(), ..BindOptions::default() };
    persist::persist(&tree.host(), &[address(CARD)], &options).unwrap().apply(&tree.host()).unwrap();
    tree.file("etc/group", "fpga:x:1005:\n");
    tree
}

fn without_card() -> Tree {
    let tree = Tree::new();
    tree.file("etc/group", "root:x:0:\n");
    tree
}

#[test]
fn the_command_that_other_tools_suggest() {
    let command = |tree: &Tree| vfio_setup::bind_command(&tree.host(), address(CARD));
    assert_eq!(command(&with_ids("0xbeef", true)), "sudo vfio-setup bind 0000:00:1d.0 --any");
    assert_eq!(command(&with_ids("0x903f", true)), "sudo vfio-setup bind 0000:00:1d.0");
    assert_eq!(command(&Tree::new()), "sudo vfio-setup bind 0000:00:1d.0");
}

#[test]
fn a_card_in_use_is_to_be_released_first() {
    let tree = with_ids("0x903f", true);
    tree.driver(CARD, "xdma");
    tree.file("proc/meminfo", "MemAvailable:     2048 kB\n");
    let check = |name: &str| {
        let diagnosis = doctor::examine(&tree.host(), address(CARD), &options()).unwrap();
        diagnosis.checks.into_iter().find(|check| check.name == name).unwrap().remedy.unwrap()
    };
    assert!(check("hugepages").contains("request fewer pages"), "there is too little memory");
    release::interface(&tree, "ens5", CARD);
    assert_eq!(
        check("driver"),
        "end its uses first (see users), then `sudo vfio-setup bind 0000:00:1d.0 --group fpga`"
    );
}

/// A host with its description.
type Scenario = (&'static str, fn() -> Tree);

/// Every command of `doctor` works when it is the first one that is pasted.
#[test]
fn every_remedy_works_on_its_own() {
    let hosts: [Scenario; 15] = [
        ("a known card", Tree::with_card),
        ("custom IDs", || with_ids("0xbeef", true)),
        ("custom IDs, of ada", || of_ada(with_ids("0xbeef", true))),
        ("bound for root", || of_ada(bound(with_ids("0xbeef", true), None))),
        ("bound for a group", || of_ada(bound(with_ids("0x903f", true), Some("kvm")))),
        ("no IOMMU", || of_ada(with_ids("0xbeef", false))),
        ("bound without IOMMU", || of_ada(bound(with_ids("0xbeef", false), Some("fpga")))),
        ("persisted", || persisted(with_ids("0xbeef", true), false)),
        ("persisted without IOMMU", || of_ada(persisted(with_ids("0xbeef", false), true))),
        ("a foreign member", || {
            let tree = with_ids("0x903f", true);
            tree.function(OTHER, "0x8086", "0xa102", "0x010601");
            tree.group(7, &[OTHER]);
            tree.driver(OTHER, "ahci");
            tree
        }),
        ("lost", || {
            let tree = persisted(with_ids("0x903f", true), false);
            tree.lose(CARD);
            tree
        }),
        ("a bridge", || {
            let tree = Tree::new();
            tree.function(CARD, "0x8086", "0x2030", "0x060400");
            tree.group(7, &[CARD]);
            tree
        }),
        ("without an image", || {
            let tree = Tree::new();
            tree.function(CARD, "0x1d0f", "0x1042", "0x058000");
            tree.group(7, &[CARD]);
            tree
        }),
        ("iommufd of others", || {
            let tree = with_ids("0x903f", true);
            tree.kernel().node("dev/iommu", 0o660);
            tree.set_owner("dev/iommu", 0, 44, 0o660);
            of_ada(tree)
        }),
        ("no card", without_card),
    ];
    let mut count = 0;
    for (name, host) in hosts {
        for mode in [None, Some("noiommu".parse()), Some("cdev".parse())] {
            let options = DoctorOptions { mode, memory: 64 << 20, register_bar: None };
            let checks =
                |tree: &Tree| match doctor::cards(&tree.host()).unwrap().is_empty() && name == "no card" {
                    true => doctor::examine_host(&tree.host(), &options, true).unwrap().checks,
                    false => doctor::examine(&tree.host(), address(CARD), &options).unwrap().checks,
                };
            for check in checks(&host()) {
                for command in check.remedy.iter().flat_map(|remedy| commands(remedy)) {
                    // There is no card to be found in the imitated host.
                    if !command.contains("/sys/bus/pci/rescan") || name == "lost" {
                        host()
                            .paste(command)
                            .unwrap_or_else(|error| panic!("{name}, {}: {error}", check.name));
                        count += 1;
                    }
                }
            }
        }
    }
    assert!(count > 60, "{count}");
}

/// A second `persist` would otherwise remove what the first one wrote.
#[test]
fn commands_that_persist_keep_what_is_persisted() {
    let tree = persisted(with_ids("0xbeef", true), false);
    tree.file("usr/lib/systemd/libsystemd-shared-258.so", "");
    let diagnosis = doctor::examine(&tree.host(), address(CARD), &options()).unwrap();
    let rules = diagnosis.checks.iter().find(|check| check.name == "udev rules").unwrap();
    assert_eq!(
        rules.remedy.as_deref(),
        Some(
            "sudo groupadd --system xdma && sudo vfio-setup persist 0000:00:1d.0 --any --hugepages 1G=2 --node 1 --group xdma"
        )
    );
    let tree = without_card();
    std::fs::remove_dir_all(tree.path("sys/class/iommu/dmar0")).unwrap();
    for _ in 0..2 {
        for check in doctor::examine_host(&tree.host(), &options(), false).unwrap().checks {
            for command in check.remedy.iter().flat_map(|remedy| commands(remedy)) {
                tree.paste(command).unwrap();
            }
        }
    }
    assert!(
        tree.path("etc/modprobe.d/xdma-noiommu.conf").exists()
            && tree.path("etc/tmpfiles.d/xdma-hugepages.conf").exists()
    );
}

#[test]
fn following_doctor_without_an_iommu() {
    let tree = with_ids("0xbeef", false);
    let diagnosis = doctor::examine(&tree.host(), address(CARD), &options()).unwrap();
    let iommu = diagnosis.checks.iter().find(|check| check.name == "IOMMU").unwrap();
    let remedy = iommu.remedy.clone().unwrap();
    let command = remedy.split('`').rfind(|text| text.contains("vfio-setup")).unwrap();
    assert_eq!(command, "sudo vfio-setup bind 0000:00:1d.0 --any --no-iommu --group fpga");
    tree.paste(command).unwrap();
    let options = DoctorOptions { mode: Some("noiommu".parse()), ..options() };
    let diagnosis = doctor::examine(&tree.host(), address(CARD), &options).unwrap();
    let pages = diagnosis.checks.iter().find(|check| check.name == "hugepages").unwrap();
    assert_eq!(pages.verdict, Verdict::Bad);
    tree.paste(pages.remedy.as_ref().unwrap()).unwrap();
}

#[test]
fn the_commands_of_persist_repeat_its_options() {
    let tree = Tree::new();
    tree.function(CARD, "0x10ee", "0xbeef", "0x058000");
    tree.group(7, &[CARD]);
    let options = BindOptions {
        any: true,
        hugepages: "2M=8".parse().unwrap(),
        node: Some(1),
        group: Some("kvm".into()),
        ..BindOptions::default()
    };
    let changes = persist::persist(&tree.host(), &[address(CARD)], &options).unwrap();
    let command = changes
        .notes
        .iter()
        .find_map(|note| note.split('`').find(|text| text.contains("vfio-setup bind")))
        .unwrap();
    assert_eq!(command, "sudo vfio-setup bind 0000:00:1d.0 --any --hugepages 2M=8 --node 1 --group kvm");
    tree.paste(command).unwrap();
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("vfio-pci"));
}

#[test]
fn a_low_memlock_limit_of_a_card_with_custom_ids() {
    let tree = Tree::new();
    tree.function(CARD, "0x10ee", "0xbeef", "0x058000");
    tree.group(7, &[CARD]);
    tree.process_of_ada("1000 990");
    tree.file(
        "proc/self/limits",
        "Max locked memory         65536                65536                bytes\n",
    );
    let diagnosis = doctor::examine(&tree.host(), address(CARD), &options()).unwrap();
    let memlock = diagnosis.checks.iter().find(|check| check.name == "memlock").unwrap();
    let remedy = memlock.remedy.clone().unwrap();
    let command = remedy.split('`').nth(1).unwrap();
    assert_eq!(command, "sudo vfio-setup persist 0000:00:1d.0 --any --group fpga");
    tree.paste(command).unwrap();
}

#[test]
fn nobody_is_told_to_join_a_powerful_group() {
    let tree = Tree::with_card();
    tree.driver_is_vfio(CARD);
    tree.file("etc/group", "root:x:0:\ndisk:x:6:\nfpga:x:990:ada\n");
    tree.set_owner("dev/vfio/7", 0, 6, 0o660);
    tree.process_of_ada("1000");
    let diagnosis = doctor::examine(&tree.host(), address(CARD), &options()).unwrap();
    let permission = diagnosis.checks.iter().find(|check| check.name == "permission").unwrap();
    assert_eq!(permission.remedy.as_deref(), Some("sudo vfio-setup bind 0000:00:1d.0 --group fpga"));
}
