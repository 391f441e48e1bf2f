//! The C library, with the test programs of `crates/capi`.

use std::process::Command;
use xdma_emulator::logic::{Design, MsmModelOptions};
use xdma_emulator::{EmulatedCard, EmulatorOptions};
use xdma_testkit::bench::Bench;

/// Runs a program on the card.
fn run(name: &str, options: EmulatorOptions, design: Design, arguments: &[&str]) {
    let bench = Bench::new(options, design);
    let mut command = Command::new(format!("libxdma-{name}"));
    // Fewer of the random calls, since QEMU emulates each instruction.
    command.arg(bench.name().to_string()).args(arguments).env("CALLS", "500");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("passed"), "{}: {text}", output.status);
}

/// Runs a program on the card and on a second one, which this process emulates.
fn run_on_two(name: &str, design: Design) {
    let card = EmulatedCard::start(EmulatorOptions::default(), Design::Memory.build()).unwrap();
    let second = format!("unix:{}", card.socket().display());
    run(name, EmulatorOptions::default(), design, &[&*second]);
}

#[test]
fn memory() {
    run_on_two("memory", Design::Memory);
}

#[test]
fn diagnosis() {
    run("diagnosis", EmulatorOptions::default(), Design::Memory, &[]);
}

#[test]
fn ends() {
    run("ends", EmulatorOptions::default(), Design::Memory, &[]);
}

#[test]
fn random() {
    run_on_two("random", Design::Memory);
}

#[test]
fn threads() {
    run("threads", EmulatorOptions::default(), Design::Memory, &[]);
}

#[test]
fn streams() {
    run("streams", EmulatorOptions::default().with_streams(), Design::Loopback, &[]);
}

#[test]
fn msm() {
    // Without the watchdog of the design, an engine that it stalls stays busy.
    let design = Design::Msm(MsmModelOptions { watchdog: 0, ..MsmModelOptions::default() });
    run_on_two("msm", design);
}
