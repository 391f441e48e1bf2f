//! `xdma list`, on directories that imitate a host.

use crate::support::{json, run};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use xdma_testkit::command::{Ended, with_functions};

/// Creates a function, which is bound to `driver`.
fn add(root: &Path, address: &str, ids: (&str, &str), driver: &str) {
    let directory = root.join("sys/bus/pci/devices").join(address);
    let drivers = root.join("sys/bus/pci/drivers").join(driver);
    fs::create_dir_all(&directory).unwrap();
    fs::create_dir_all(&drivers).unwrap();
    for (file, text) in [("vendor", ids.0), ("device", ids.1), ("class", "0x120000")] {
        fs::write(directory.join(file), text).unwrap();
    }
    symlink(drivers, directory.join("driver")).unwrap();
}

#[test]
fn cards_are_listed_with_their_drivers() {
    let root = tempfile::tempdir().unwrap();
    add(root.path(), "0000:3b:00.0", ("0x10ee", "0x9038"), "xdma");
    add(root.path(), "0000:3c:00.0", ("0x8086", "0x1533"), "igb");
    let command = format!("list --root {}", root.path().display());
    let text = run(&command).good();
    let line = text.lines().find(|line| line.starts_with("0000:3b:00.0")).unwrap();
    assert!(["10ee:9038", "UltraScale+", " xdma "].iter().all(|part| line.contains(part)), "{text}");
    assert!(!text.contains("0000:3c:00.0") && text.contains("emulated cards: f1, alveo"), "{text}");
    let object = json(&command);
    assert_eq!(
        (&object["cards"][0]["address"], &object["cards"][0]["driver"]),
        (&"0000:3b:00.0".into(), &"xdma".into())
    );
    assert_eq!((object["cards"].as_array().unwrap().len(), &object["emulated"][0]), (1, &"f1".into()));
}

#[test]
fn without_cards_the_list_says_so() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("sys/bus/pci/devices")).unwrap();
    let text = run(&format!("list --root {}", root.path().display())).good();
    assert!(text.contains("no XDMA card was found") && text.contains("vfio-setup status --all"), "{text}");
}

/// On a machine with a real card, no command uses an emulated card unless it is named, and no file is touched.
#[test]
fn commands_do_not_choose_between_a_real_and_an_emulated_card() {
    let root = tempfile::tempdir().unwrap();
    add(root.path(), "0000:3b:00.0", ("0x10ee", "0x9038"), "xdma");
    let file = root.path().join("file");
    fs::write(&file, "data").unwrap();
    let (file, devices) = (file.display(), root.path().join("sys/bus/pci/devices"));
    let Some(_) = with_functions(&devices, Path::new("true")) else { return };
    let run = |arguments: &str| {
        let mut command = with_functions(&devices, Path::new(env!("CARGO_BIN_EXE_xdma"))).unwrap();
        Ended::from(command.args(arguments.split_whitespace()).output().unwrap())
    };
    for command in [
        "info".to_owned(),
        "regs".to_owned(),
        "peek 0".to_owned(),
        "poke 0 1".to_owned(),
        "survey".to_owned(),
        "selftest".to_owned(),
        "bench --quick".to_owned(),
        "run -- true".to_owned(),
        format!("write --address 0 --verify {file}"),
        format!("write --logic memory --address 0 --verify {file}"),
        format!("write --stream {file} --receive {file}"),
        format!("read --address 0 --length 4 {file}"),
    ] {
        run(&command).bad(2, &["--card (0000:3b:00.0)", "emulated card with --card f1"]);
        assert_eq!(fs::read_to_string(file.to_string()).unwrap(), "data", "{command}");
    }
    let text = run(&format!("write --card f1 --logic memory --address 0 --verify {file}")).good();
    assert!(text.contains("verified (emulated card)"), "{text}");
}
