//! AWS F2: the management function, cards without an image, the time after an image is loaded, no-IOMMU mode, and the interrupts of
//! the kernel module.

use crate::support::{CARD, Tree, address};
use clap::Parser;
use std::fs;
use vfio_setup::cli::{self, Cli};
use vfio_setup::doctor::{self, DoctorOptions, Verdict};
use vfio_setup::persist;
use vfio_setup::{BindOptions, Plan, SetupError};

const MANAGEMENT: &str = "0000:00:1d.1";

fn options(no_iommu: bool, any: bool) -> BindOptions {
    BindOptions { no_iommu, any, ..BindOptions::default() }
}

fn without_iommu() -> BindOptions {
    options(true, false)
}

/// An F2 instance: no IOMMU, and a card with an image and its management function.
fn instance() -> Tree {
    let tree = Tree::new();
    fs::remove_dir_all(tree.path("sys/class/iommu/dmar0")).unwrap();
    tree.function(CARD, "0x1d0f", "0xf002", "0x058000");
    tree.function(MANAGEMENT, "0x1d0f", "0x9248", "0x058000");
    let bar =
        |start: u64, size: u64| format!("{start:#018x} {:#018x} 0x000000000014220c\n", start + size - 1);
    let none = format!("{:#018x} {:#018x} {:#018x}\n", 0, 0, 0);
    let bars = [bar(0x2_0000_0000, 64 << 20), bar(0x3_0000_0000, 64 << 10), bar(0x20_0000_0000, 128 << 30)];
    tree.file(&format!("sys/bus/pci/devices/{CARD}/resource"), &(bars.join(&none) + &none));
    tree
}

fn refusal(plan: Result<Plan, SetupError>) -> String {
    match plan {
        Err(error @ SetupError::Refused(_)) => error.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn every_id_of_an_image_is_a_card_and_the_management_function_is_none() {
    let tree = instance();
    let plan = Plan::bind(&tree.host(), &[], &without_iommu()).unwrap();
    assert_eq!(plan.functions, [address(CARD)]);
    assert_eq!(doctor::cards(&tree.host()).unwrap(), [address(CARD)]);
    for options in [&without_iommu(), &options(true, true)] {
        let text = refusal(Plan::bind(&tree.host(), &[address(MANAGEMENT)], options));
        assert!(text.contains("management function") && text.contains("function 0"), "{text}");
        let persisted = persist::persist(&tree.host(), &[address(MANAGEMENT)], options);
        assert!(persisted.unwrap_err().to_string().contains("management function"));
    }
    let checks = examine(&tree, MANAGEMENT);
    let function = checks.iter().find(|check| check.name == "function").unwrap();
    assert_eq!(function.verdict, Verdict::Bad);
    assert!(checks.iter().all(|check| !check.remedy.as_deref().unwrap_or_default().contains("setup bind")));
}

#[test]
fn a_card_without_an_image_is_refused_with_the_command_that_loads_one() {
    let tree = instance();
    tree.function(CARD, "0x1d0f", "0x9048", "0x058000");
    let text = refusal(Plan::bind(&tree.host(), &[address(CARD)], &without_iommu()));
    assert!(text.contains("without an image") && text.contains("fpga-load-local-image"), "{text}");
    let checks = examine(&tree, CARD);
    let function = checks.iter().find(|check| check.name == "function").unwrap();
    assert!(function.remedy.as_deref().unwrap().starts_with("sudo fpga-load-local-image -S 0 -I "));
}

fn examine(tree: &Tree, function: &str) -> Vec<doctor::Check> {
    let options = DoctorOptions { memory: 4 << 20, register_bar: None, mode: None };
    doctor::examine(&tree.host(), address(function), &options).unwrap().checks
}

#[test]
fn without_an_iommu_no_iommu_mode_is_proposed() {
    let tree = instance();
    let text = refusal(Plan::bind(&tree.host(), &[address(CARD)], &BindOptions::default()));
    assert!(text.contains("add --no-iommu") && text.contains("all memory"), "{text}");
    let checks = examine(&tree, CARD);
    let iommu = checks.iter().find(|check| check.name == "IOMMU").unwrap();
    let remedy = iommu.remedy.as_deref().unwrap();
    assert!(remedy.starts_with("sudo vfio-setup bind") && remedy.contains("--no-iommu"), "{remedy}");
    tree.paste(remedy).unwrap();
    assert_eq!(tree.driver_of(CARD).as_deref(), Some("vfio-pci"));
}

/// Makes udev have noted that the function appeared `age` seconds ago.
fn appeared(tree: &Tree, age: f64) {
    tree.file("proc/uptime", "5000.25 9000.00\n");
    let time = ((5000.25 - age) * 1e6) as u64;
    tree.file(&format!("run/udev/data/+pci:{CARD}"), &format!("I:{time}\nE:ID_BUS=pci\n"));
}

#[test]
fn registers_are_left_alone_for_ten_seconds_after_an_image_was_loaded() {
    for (age, wait) in [(0.5, Some("sleep 10")), (7.25, Some("sleep 3")), (10.0, None), (4000.0, None)] {
        let tree = instance();
        appeared(&tree, age);
        let host = tree.host();
        let plan = Plan::bind(&host, &[address(CARD)], &without_iommu()).unwrap();
        let shown = vfio_setup::text::plan(&host, &plan, false);
        plan.apply(&host).unwrap();
        let log = tree.log();
        let position = |text: &str| log.iter().position(|line| line.starts_with(text));
        match wait {
            Some(wait) => {
                assert!(shown.contains(wait) && shown.contains("loaded a moment ago"), "{shown}");
                assert!(
                    position(wait).unwrap()
                        < position(&format!("{CARD} > /sys/bus/pci/drivers_probe")).unwrap()
                );
            }
            None => assert_eq!(position("sleep"), None, "{log:?}"),
        }
        // `doctor` opens the card, so it waits too.
        let checks = examine(&tree, CARD);
        assert_eq!(checks.iter().any(|check| check.name == "image"), wait.is_some(), "{age}");
        assert_eq!(
            tree.log().iter().filter(|line| line.starts_with("sleep")).count(),
            2 * usize::from(wait.is_some())
        );
    }
    // Without a note of udev, and on a card that is not Amazon's, nothing is known.
    let tree = instance();
    assert!(!tree.path("run/udev").exists());
    Plan::bind(&tree.host(), &[address(CARD)], &without_iommu()).unwrap().apply(&tree.host()).unwrap();
    let other = Tree::with_card();
    other.function(CARD, "0x10ee", "0x903f", "0x058000");
    appeared(&other, 1.0);
    Plan::bind(&other.host(), &[], &BindOptions::default()).unwrap().apply(&other.host()).unwrap();
    assert!([tree.log(), other.log()].iter().flatten().all(|line| !line.starts_with("sleep")));
}

/// The BAR of the shell's block in a fake sysfs, with AWS's identifiers.
fn shell_block(tree: &Tree) -> std::path::PathBuf {
    let path = tree.path(&format!("sys/bus/pci/devices/{CARD}/resource2"));
    let mut bytes = vec![0; 64 << 10];
    for target in 0..7u32 {
        let at = target as usize * 0x1000;
        bytes[at..at + 4].copy_from_slice(&(0x1fc0_0006 | target << 16).to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
    path
}

fn run(tree: &Tree, arguments: &[&str]) -> Result<String, SetupError> {
    let cli = Cli::try_parse_from([&["vfio-setup", "f2-interrupts"], arguments].concat()).unwrap();
    cli::run(&tree.host(), &cli.command).map(|outcome| outcome.text)
}

#[test]
fn the_kernel_modules_interrupts_are_set_up_in_bar2() {
    let tree = instance();
    tree.driver(CARD, "xdma");
    let path = shell_block(&tree);
    let before = fs::read(&path).unwrap();
    let text = run(&tree, &[CARD]).unwrap();
    assert!(text.contains(CARD) && text.contains("lines 0 to 15"), "{text}");
    let after = fs::read(&path).unwrap();
    let word = |at: usize| u32::from_le_bytes(after[at..at + 4].try_into().unwrap());
    let routing = [0x2004, 0x2080, 0x2084, 0x2088, 0x208c].map(word);
    assert_eq!(routing, [0xffff, 0x0302_0100, 0x0706_0504, 0x0b0a_0908, 0x0f0e_0d0c]);
    let changed: Vec<_> = (0..before.len()).filter(|&at| before[at] != after[at]).map(|at| at & !3).collect();
    assert!(changed.iter().all(|at| matches!(at, 0x2004 | 0x2080..=0x208c)), "nothing else is written");
    assert!(run(&tree, &[CARD, "--disable"]).unwrap().contains("no interrupts"));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn interrupts_are_set_up_only_where_that_helps() {
    let refused = |tree: &Tree, part: &str| match run(tree, &[CARD]) {
        Err(SetupError::Refused(refusal)) => assert!(refusal.to_string().contains(part), "{refusal}"),
        other => panic!("not refused: {other:?}"),
    };
    let tree = instance();
    let path = shell_block(&tree);
    let before = fs::read(&path).unwrap();
    refused(&tree, "sudo modprobe xdma");
    tree.driver(CARD, "xdma");
    tree.driver_is_vfio(CARD);
    refused(&tree, "vfio-pci");
    assert_eq!(fs::read(&path).unwrap(), before);

    let tree = instance();
    tree.driver(CARD, "xdma");
    let path = tree.path(&format!("sys/bus/pci/devices/{CARD}/resource2"));
    fs::write(&path, vec![0; 64 << 10]).unwrap();
    refused(&tree, "does not have the interrupt block");
    fs::remove_file(path).unwrap();
    let error = run(&tree, &[CARD]).unwrap_err();
    assert!(error.to_string().contains("iomem=relaxed") && error.exit_code() == 1, "{error}");

    // An F1 card has the same identifiers, and its own engine in BAR2.
    let tree = Tree::with_card();
    refused(&tree, "not an AWS F2 card");
}
