//! `read` and `write`.

use crate::support::{interrupt, json, memory, pattern, piped, run, run_with, served, xdma};
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use xdma::card::{Card, CardOptions};
use xdma::regs::Direction;
use xdma_emulator::logic::{MsmModel, MsmModelOptions};
use xdma_testkit::schema::check;

fn file(folder: &Path, data: &[u8]) -> String {
    let path = folder.join("input");
    std::fs::write(&path, data).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_file_is_copied_to_any_address_and_back_over_any_channels() {
    let folder = tempfile::tempdir().unwrap();
    let (_card, option) = memory();
    let (data, out) = (pattern(700_001), folder.path().join("output"));
    let input = file(folder.path(), &data);
    for (address, channels, buffer) in [("0x1003", "0", "64K"), ("1M", "3,1", "4M"), ("7", "0,1,2,3", "256K")]
    {
        let common = format!("{option} --address {address} --channels {channels} --buffer {buffer}");
        let text = run(&format!("write {common} {input} --verify")).good();
        assert!(text.starts_with("wrote 683.59 KiB at 0x") && text.contains("verified"), "{text}");
        let text = run(&format!("read {common} --length 700001 {}", out.display())).good();
        assert!(text.contains(&format!("over C2H channel {}", channels.replace(',', ", "))), "{text}");
        assert!(std::fs::read(&out).unwrap() == data, "{common}");
    }
}

#[test]
fn json_has_the_figures() {
    let folder = tempfile::tempdir().unwrap();
    let input = file(folder.path(), &pattern(300_000));
    let object = json(&format!("write --address 0x50000001 {input} --channels 0,2 --verify"));
    assert_eq!((&object["bytes"], &object["verified"]), (&300_000.into(), &true.into()));
    assert_eq!((&object["channels"], &object["address"]), (&serde_json::json!([0, 2]), &0x5000_0001.into()));
    assert_eq!((&object["descriptors"], &object["direction"]), (&2.into(), &"H2C".into()));
    assert!(object["bytes_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(json("write --address 0x50000000 /dev/null")["bytes"], 0);
    assert_eq!(json("write --address 0x50000000 /dev/zero --length 100K")["bytes"], 102_400);
}

#[test]
fn pipes_work_like_files() {
    let (_card, option) = memory();
    let data = pattern(3_000_000);
    let ended = run_with(&format!("write {option} --address 0x11 --buffer 1M --verify -"), data.clone());
    assert!(ended.good().contains("verified"));
    let mut child = piped(&format!("read {option} --address 0x11 --length 3000000 --buffer 1M --json"));
    let mut seen = vec![];
    child.stdout.take().unwrap().read_to_end(&mut seen).unwrap();
    assert!(seen == data, "standard output carries only the data");
    let output = child.wait_with_output().unwrap();
    let object: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    check("xdma-read", &object);
    assert_eq!(object["bytes"], 3_000_000, "the report is on standard error");
    // A reader that closes the pipe early.
    let mut child = piped(&format!("read {option} --address 0 --length 64M"));
    let mut some = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn verify_detects_memory_that_repeats() {
    let folder = tempfile::tempdir().unwrap();
    // The scratch memory is 1 MiB and is mirrored throughout its window.
    let input = file(folder.path(), &pattern((1 << 20) + 1));
    run(&format!("write --address 0x50000000 {input} --verify"))
        .bad(4, &["between card addresses 0x50000000 and 0x50010000"]);
    run(&format!("write --address 0x50000000 {input}")).good();
}

#[test]
fn a_decode_error_is_explained_and_leaves_the_card_idle() {
    let (card, option) = served(Arc::new(MsmModel::new(MsmModelOptions::default())));
    run("write --address 0x1003 Cargo.toml")
        .bad(5, &["address 0x1003", "--logic memory", "AXI decode error"]);
    for channels in ["0", "0,1"] {
        let arguments = format!("{option} --address 0xffff0000 --length 1M --channels {channels}");
        run(&format!("write {arguments} /dev/zero")).bad(5, &["AXI decode error"]);
        run(&format!("read {arguments}")).bad(5, &["AXI decode error"]);
    }
    assert_eq!(card.violations(), []);
    run(&format!("write {option} --address 0x50000000 Cargo.toml --verify")).good();
}

#[test]
fn invalid_arguments_are_rejected() {
    run("write --address 0 /nowhere/file").bad(1, &["cannot read /nowhere/file"]);
    run("write --address 0 /").bad(1, &["cannot read /", "directory"]);
    run("write --address 12parsecs Cargo.toml").bad(2, &["`12parsecs` is not a number"]);
    run("write Cargo.toml").bad(2, &["--address"]);
    run("write --address 0xffffffffffffffff Cargo.toml").bad(2, &["64-bit address space"]);
    run("read --address 0xffffffffffffffff --length 2").bad(2, &["64-bit address space"]);
    run("read --address 0").bad(2, &["--length"]);
    run("write --address 0 Cargo.toml --channels 0,0").bad(2, &["twice"]);
    run("write --address 0 Cargo.toml --channels 4").bad(3, &["no H2C channel 4", "0 to 3"]);
    run("read --address 0x50000000 --length 1 /nowhere/file").bad(1, &["cannot write /nowhere/file"]);
}

#[test]
fn a_missing_card_does_not_truncate_the_output_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), b"dear");
    run(&format!("read --card unix:/nowhere/card --address 0 --length 1 {path}")).bad(3, &[]);
    assert_eq!(std::fs::read(path).unwrap(), b"dear");
}

#[test]
fn a_failed_read_changes_neither_the_file_nor_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), b"dear");
    run(&format!("read --logic memory --address 64G --length 4 {path}")).bad(5, &["AXI decode error"]);
    assert_eq!(std::fs::read(path).unwrap(), b"dear");
    let ended = run("read --json --logic memory --address 64G --length 4 -");
    assert_eq!(ended.out, "", "the error report is not mixed with data");
    ended.bad(5, &["\"exit_code\":5"]);
    let nothing = folder.path().join("nothing");
    run(&format!("read --logic memory --address 0 --length 0 {}", nothing.display())).good();
    assert_eq!(std::fs::metadata(nothing).unwrap().len(), 0);
}

#[test]
fn values_out_of_range_are_rejected() {
    for wrong in
        ["--timeout 18446744073709551615", "--timeout 0", "--buffer 0", "--buffer 2G", "--packet 0 --stream"]
    {
        run(&format!("write --logic memory Cargo.toml {wrong}")).bad(2, &[]);
    }
    run("read --stream --packets 0").bad(2, &["must be at least 1"]);
    let bytes = std::fs::metadata("Cargo.toml").unwrap().len();
    let short = format!("Cargo.toml ends after {bytes} of 10485760 bytes");
    run("write --logic memory --address 0 --length 10M Cargo.toml").bad(1, &[&short]);
    run_with("write --logic memory --address 0 --length 10 -", b"five!".to_vec())
        .bad(1, &["ends after 5 of 10 bytes"]);
}

#[test]
fn an_interrupted_copy_leaves_the_card_idle() {
    let (card, option) = memory();
    let mut child = piped(&format!("write {option} --address 0 -"));
    // More than a buffer, so that the card is written to while the pipe stays open.
    child.stdin.as_mut().unwrap().write_all(&pattern(9 << 20)).unwrap();
    sleep(Duration::from_millis(300));
    interrupt(&child);
    // If the pipe were closed here, the command would end on its own.
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let card_again = Card::connect(card.socket(), CardOptions::default()).unwrap();
    let mut sink = vec![0u8; 4096];
    let buffer = card_again.allocate(4096, Direction::C2H).unwrap();
    card_again.c2h(0).unwrap().transfer(&buffer, 0..4096, 0, Duration::from_secs(20)).unwrap();
    buffer.read(0, &mut sink).unwrap();
    assert!(sink == pattern(4096), "the first buffer had arrived");
    assert_eq!(card.violations(), []);
}

#[test]
fn a_stuck_card_is_not_reported_as_idle() {
    // The scalar FIFO fills up, is never read, and the watchdog that would end the transfer is off.
    let stuck =
        || served(Arc::new(MsmModel::new(MsmModelOptions { watchdog: 0, ..MsmModelOptions::default() })));
    let arguments = |option| format!("write {option} --address 0x10000000 /dev/zero --length 1M");
    let (_card, option) = stuck();
    run(&(arguments(option) + " --timeout 1"))
        .bad(5, &["address 0x10000000", "not finished within 1s", "does not become idle; reset the card"]);
    let (card, option) = stuck();
    let child = piped(&arguments(option));
    // If it were interrupted before its transfer, the card would be idle.
    let start = Instant::now();
    while card.counters().descriptors_fetched == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "the transfer never began");
        sleep(Duration::from_millis(5));
    }
    sleep(Duration::from_millis(200));
    interrupt(&child);
    let ended: crate::support::Ended = child.wait_with_output().unwrap().into();
    ended.bad(5, &["interrupted, but the card is still busy", "does not become idle; reset the card"]);
}

#[test]
fn ranges_of_channels_are_explained() {
    run("read --address 0 --length 64 x --channels 0..1")
        .bad(2, &["`0..1` is not the number of a channel", "0,1"]);
}

/// Standard output is a terminal.
#[test]
fn raw_data_is_not_written_to_a_terminal() {
    let (mut main, mut terminal) = (0, 0);
    // SAFETY: the call stores two file descriptors; the other arguments may be null.
    assert_eq!(unsafe { libc::openpty(&mut main, &mut terminal, null_mut(), null(), null()) }, 0);
    // SAFETY: the file descriptors are open, and nothing else owns them.
    let (_main, terminal) = unsafe { (OwnedFd::from_raw_fd(main), OwnedFd::from_raw_fd(terminal)) };
    for arguments in [
        "read --logic memory --address 0 --length 16",
        "write --logic loopback --stream Cargo.toml --receive -",
    ] {
        let stdout = Stdio::from(terminal.try_clone().unwrap());
        let output = xdma(arguments).stdin(Stdio::null()).stdout(stdout).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && text.contains("name a file, or pipe it"), "{text}");
    }
}

/// Hugepages matter only to buffers that fill one.
#[test]
fn a_small_transfer_does_not_ask_for_hugepages() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[1; 16]).unwrap();
    let mut command = xdma(&format!("write --address 0 --logic memory {}", file.path().display()));
    let output = command.env_remove("RUST_LOG").output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
