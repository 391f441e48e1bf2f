//! The C library, with the test programs of `crates/capi`. Those that need a second card get one that this process emulates.

use std::process::Command;
use xdma_emulator::logic::{Design, MsmModelOptions};
use xdma_emulator::{EmulatedCard, EmulatorOptions};
use xdma_testkit::bench::Bench;

/// Runs a program on the card, and on a second card at a socket if it needs one.
fn run(name: &str, options: EmulatorOptions, design: Design, second: Option<&EmulatedCard>) {
    let bench = Bench::new(options, design);
    let mut command = Command::new(format!("libxdma-{name}"));
    command.arg(bench.name().to_string());
    command.args(second.map(|card| format!("unix:{}", card.socket().display())));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("passed"), "{}: {text}", output.status);
}

fn second_card() -> EmulatedCard {
    EmulatedCard::start(EmulatorOptions::default(), Design::Memory.build()).unwrap()
}

#[test]
fn memory() {
    run("memory", EmulatorOptions::default(), Design::Memory, Some(&second_card()));
}

#[test]
fn diagnosis() {
    run("diagnosis", EmulatorOptions::default(), Design::Memory, None);
}

#[test]
fn ends() {
    run("ends", EmulatorOptions::default(), Design::Memory, None);
}

#[test]
fn random() {
    run("random", EmulatorOptions::default(), Design::Memory, Some(&second_card()));
}

#[test]
fn threads() {
    run("threads", EmulatorOptions::default(), Design::Memory, None);
}

#[test]
fn streams() {
    run("streams", EmulatorOptions::default().with_streams(), Design::Loopback, None);
}

#[test]
fn msm() {
    // Without the watchdog of the design, an engine that it stalls stays busy.
    let design = Design::Msm(MsmModelOptions { watchdog: 0, ..MsmModelOptions::default() });
    run("msm", EmulatorOptions::default(), design, Some(&second_card()));
}
