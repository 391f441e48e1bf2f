//! The library's counts of system calls are correct.
//!
//! The test `traced` works between marker calls, which nothing else in the process makes, and writes the library's counts to a
//! file. The other test runs `traced` under strace, and counts the lines of its thread between the markers.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use xdma::card::{Card, CardOptions};
use xdma::channel::{ChannelOptions, Ring, Transfers};
use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma::regs::msm::SCRATCH_WINDOW;
use xdma::unstable::bus::counts::Counts;
use xdma_emulator::EmulatorOptions;
use xdma_emulator::logic;

/// Environment variable with the file to which `traced` writes its counts.
const REPORT: &str = "XDMA_SYSTEM_CALLS_REPORT";
const LIMIT: Duration = Duration::from_secs(60);
/// The marker in the trace.
const MARKER: &str = "getppid(";

#[test]
fn the_library_counts_the_system_calls_that_strace_sees() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        println!("skipped: strace is not installed; run: sudo apt-get install -y strace");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (trace, report) = (folder.path().join("trace"), folder.path().join("report"));
    let status = Command::new("strace")
        .args(["-f", "-q", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "traced"])
        .env(REPORT, &report)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "strace ended with {status}");
    let counted = std::fs::read_to_string(&report).unwrap();
    let counted: Vec<(&str, u64)> = counted
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(n, c)| (n, c.parse().unwrap()))
        .collect();
    let seen = between_markers(&trace);
    assert_eq!(seen.len(), counted.len(), "there is a pair of markers for each job");
    for ((name, counted), seen) in counted.into_iter().zip(seen) {
        println!("{name}: {counted} system calls counted, {} seen", seen.len());
        assert_eq!(counted, seen.len() as u64, "{name}; seen: {}", summary(&seen));
    }
}

/// Returns the calls between each pair of markers: the first and the second, the third and the fourth, and so on. Only one thread
/// makes markers.
fn between_markers(trace: &Path) -> Vec<Vec<String>> {
    let trace = std::fs::read_to_string(trace).unwrap();
    let lines = trace.lines().filter_map(|line| line.split_once(' ')).map(|(t, call)| (t, call.trim_start()));
    let lines: Vec<_> = lines.collect();
    let thread = lines.iter().find(|(_, call)| call.starts_with(MARKER)).expect("markers are traced").0;
    let (mut sections, mut inside) = (vec![], false);
    for (_, call) in lines.into_iter().filter(|(of, _)| *of == thread) {
        if call.starts_with(MARKER) {
            inside = !inside;
            if inside {
                sections.push(vec![]);
            }
        } else if inside
            // Not the second half of a call that a line of another thread interrupted, a signal, or an exit.
            && !call.starts_with(['<', '-', '+'])
            && let Some(section) = sections.last_mut()
        {
            section.push(call.split('(').next().unwrap_or(call).to_owned());
        }
    }
    sections
}

fn summary(calls: &[String]) -> String {
    let mut counts = HashMap::new();
    calls.iter().for_each(|call| *counts.entry(call).or_insert(0) += 1);
    format!("{counts:?}")
}

#[test]
fn traced() {
    let mut report = String::new();
    let design = Arc::new(logic::MsmModel::new(logic::MsmModelOptions::default()));
    let card = xdma_emulated_card::start(EmulatorOptions::default(), design, CardOptions::default()).unwrap();
    channels(&card, &mut report);
    jobs(&card, &mut report);
    assert!(!report.contains(": 0\n"), "over a socket, every job makes system calls:\n{report}");
    // Without the other test, there is no file for the report.
    if let Some(path) = std::env::var_os(REPORT) {
        std::fs::write(path, report).unwrap();
    }
}

/// Runs a job once to warm up, and once between markers.
fn marked(report: &mut String, name: &str, mut job: impl FnMut()) {
    job();
    report.reserve(256);
    mark();
    let before = Counts::now();
    job();
    let counted = (Counts::now() - before).system_calls;
    mark();
    report.push_str(&format!("{name}: {counted}\n"));
}

/// Makes a call without effect that nothing else in this process makes.
fn mark() {
    let _ = std::os::unix::process::parent_id();
}

fn channels(card: &Card, report: &mut String) {
    let source = card.allocate(1 << 20, Direction::H2C).unwrap();
    for ring in [Ring::Chain, Ring::Credits] {
        let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
        let mut channel = card.channel(Direction::H2C, 1, options).unwrap();
        marked(report, &format!("a transfer, {ring}"), || {
            let ticket = channel.submit(&source, 0..1 << 20, SCRATCH_WINDOW).unwrap();
            channel.wait(ticket, LIMIT).unwrap();
        });
        let mut transfers = Transfers::new(Direction::H2C);
        for at in 0..1500 {
            transfers.add(&source, at * 64..at * 64 + 64, SCRATCH_WINDOW + at * 64).unwrap();
        }
        let program = channel.program(&transfers).unwrap();
        marked(report, &format!("a program, {ring}"), || {
            let ticket = channel.run(&program).unwrap();
            channel.wait(ticket, LIMIT).unwrap();
        });
    }
}

fn jobs(card: &Card, report: &mut String) {
    for ring in [Ring::Chain, Ring::Credits] {
        let mut msm = Msm::open(card, MsmOptions { ring: Some(ring), ..MsmOptions::default() }).unwrap();
        let points = Points::allocate(card, 5000).unwrap();
        let scalars = Scalars::allocate(card, 5000, ScalarForm::Canonical).unwrap();
        let job = msm.prepare(&points, &scalars).unwrap();
        marked(report, &format!("an MSM, {ring}"), || {
            let ticket = msm.submit(&job).unwrap();
            msm.wait(ticket, LIMIT).unwrap();
        });
        marked(report, &format!("two MSMs in flight, {ring}"), || {
            let tickets = [(); 2].map(|()| msm.submit(&job).unwrap());
            for ticket in tickets {
                msm.wait(ticket, LIMIT).unwrap();
            }
        });
    }
}
