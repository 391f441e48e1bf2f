//! The semantics of the kernel module, call by call, on memory-mapped channels.

use crate::support::{Bench, TIMEOUT, check, library};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::time::{Duration, Instant};
use xdma::regs::Direction;
use xdma_emulated_card::emulator::faults::{FaultDuration, Kind};

/// Runs the named checks of `calls.c`.
fn calls(bench: &Bench, names: &[&str]) {
    bench.run_checks("calls.c", names);
}

#[test]
fn calls_on_channels() {
    for bench in Bench::all_with_memory() {
        calls(
            &bench,
            &[
                "open", "position", "zero", "range", "fault", "lengths", "others", "vectors", "ioctls",
                "perf", "aperture", "offline",
            ],
        );
        bench.check_closed();
    }
}

#[test]
fn calls_on_registers() {
    Bench::all_with_memory().iter().for_each(|bench| calls(bench, &["registers", "info", "maps", "bypass"]));
}

#[test]
fn calls_on_file_descriptors() {
    for bench in Bench::all_with_memory() {
        calls(&bench, &["descriptors", "closed", "numbers"]);
        bench.check_closed();
    }
    calls(&Bench::memory(), &["exec"]);
}

/// A program that ends without closing its files has written all of its data.
#[test]
fn data_is_written_at_exit() {
    for bench in Bench::all_with_memory() {
        calls(&bench, &["exit", "exited"]);
        bench.check_closed();
    }
}

#[test]
fn calls_on_events() {
    Bench::all_with_memory().iter().for_each(|bench| calls(bench, &["events"]));
}

/// A transfer that hangs fails with ETIMEDOUT, and the channel works afterwards.
#[test]
fn a_transfer_that_hangs_times_out() {
    for bench in Bench::all_with_memory() {
        bench.emulated.inject(Kind::AxiHang(FaultDuration::Millis(3000)).on(Direction::C2H, 0)).unwrap();
        let begin = Instant::now();
        calls(&bench, &["timeout"]);
        assert!(begin.elapsed() >= TIMEOUT);
        std::thread::sleep(Duration::from_millis(1500));
        calls(&bench, &["lengths"]);
    }
}

#[test]
fn a_failed_transfer_returns_an_error_immediately() {
    for bench in Bench::all_with_memory() {
        bench.emulated.inject(Kind::BadMagic.on(Direction::H2C, 0)).unwrap();
        let program = bench.compile("calls.c");
        let begin = Instant::now();
        check(bench.command(program).arg("failure").output().unwrap());
        assert!(begin.elapsed() < TIMEOUT);
        calls(&bench, &["lengths"]);
    }
}

#[test]
fn a_signal_interrupts_a_call_unless_its_handler_restarts_calls() {
    for bench in Bench::all_with_memory() {
        let hang = || Kind::AxiHang(FaultDuration::Millis(1000)).on(Direction::C2H, 0);
        bench.emulated.inject(hang()).unwrap();
        calls(&bench, &["interrupted"]);
        std::thread::sleep(Duration::from_millis(1000));
        bench.emulated.inject(hang()).unwrap();
        calls(&bench, &["restarted"]);
    }
}

/// With `--exclusive`, large blocks are never unmapped.
#[test]
fn freed_memory_is_a_bad_address() {
    calls(&Bench::memory(), &["freed"]);
}

#[test]
fn more_than_a_thousand_threads_call_at_once() {
    Bench::all_with_memory().iter().for_each(|bench| calls(bench, &["many"]));
}

/// The broker serves a process that has changed its user, but no process that was always another user's.
#[test]
fn a_process_keeps_its_access_when_it_changes_its_user() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return println!("skipped: only the administrator can change the user");
    }
    let bench = Bench::memory();
    std::fs::set_permissions(bench.folder.path(), Permissions::from_mode(0o711)).unwrap();
    calls(&bench, &["user"]);
    // A copy that the other user can read.
    let copy = bench.folder.path().join("library.so");
    std::fs::copy(library(), &copy).unwrap();
    let mut stranger = bench.command(bench.compile("calls.c"));
    let output = stranger.arg("open").env("LD_PRELOAD", &copy).uid(65534).output().unwrap();
    // The dynamic linker would report a library that it cannot load.
    assert!(!output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// A cancelled thread ends with its call, and leaves the channels usable.
#[test]
fn threads_can_be_cancelled() {
    for bench in Bench::all_with_memory() {
        bench.emulated.inject(Kind::AxiHang(FaultDuration::Millis(1000)).on(Direction::C2H, 0)).unwrap();
        calls(&bench, &["cancelled"]);
        bench.check_closed();
    }
}

/// A process that is killed during a transfer leaves the channel usable for others.
#[test]
fn a_killed_process_leaves_the_channel_usable() {
    let bench = Bench::memory();
    let program = bench.compile("calls.c");
    bench.emulated.inject(Kind::AxiHang(FaultDuration::Millis(1000)).on(Direction::C2H, 0)).unwrap();
    let mut child = bench.command(&program).arg("timeout").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    std::thread::sleep(Duration::from_millis(1000));
    calls(&bench, &["lengths"]);
    bench.check_closed();
}

#[test]
fn several_processes_share_a_card() {
    let bench = Bench::memory();
    let program = bench.compile("calls.c");
    let children: Vec<_> = (0..3).map(|_| bench.command(&program).arg("lengths").spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
}
