//! The Python module, with the guest's Python and numpy.

use std::path::Path;
use std::process::Command;
use xdma_emulator::EmulatorOptions;
use xdma_testkit::bench::{Bench, works};

const PROGRAM: &str = include_str!("../../crates/python/tests/on_card.py");

#[test]
fn the_module_uses_a_card() {
    if !Path::new("/usr/lib/python3/dist-packages/numpy").exists() {
        println!("skipped: the host has no python3 with numpy; run: sudo apt-get install -y python3-numpy");
        return;
    }
    let bench = Bench::memory(EmulatorOptions::default());
    let output = Command::new("python3").args(["-c", PROGRAM, &bench.name().to_string()]).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("done on"), "{text}");
    works(&bench.open());
}
