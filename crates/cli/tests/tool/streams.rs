//! `read --stream` and `write --stream`.

use crate::support::{Ended, interrupt, pattern, piped, run, run_with, xdma};
use serde_json::Value;
use std::io::Read;
use std::sync::Arc;
use xdma_emulator::logic::Loopback;
use xdma_emulator::{EmulatedCard, EmulatorOptions, Switches};
use xdma_testkit::schema::check;

/// Starts a card that several runs of the tool can use, and that stores what they send. Returns it and the option that names it.
fn loopback() -> (EmulatedCard, String) {
    // An engine that waits for its stream stays busy.
    let switches = Switches { stop_ends_idle_stream: false.into(), ..Switches::default() };
    let options = EmulatorOptions::default().with_streams().with_switches(switches);
    let card = EmulatedCard::start(options, Arc::new(Loopback::new())).unwrap();
    let option = format!("--card unix:{} --stream --timeout 1", card.socket().display());
    (card, option)
}

#[test]
fn files_and_pipes_are_sent_as_packets_and_received_again() {
    let (card, option) = loopback();
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (pattern(50_001), folder.path().join("output"));
    let input = folder.path().join("input");
    std::fs::write(&input, &data).unwrap();
    // One packet of the whole file, which is longer than a buffer, then several packets.
    let text = run(&format!("write {option} --buffer 64K {}", input.display())).good();
    assert!(text.starts_with("sent 48.83 KiB in 1 packet over H2C channel 0"), "{text}");
    let text = run(&format!("read {option} --buffer 64K {}", out.display())).good();
    assert!(text.starts_with("received 48.83 KiB in 1 packet over C2H channel 0"), "{text}");
    assert!(std::fs::read(&out).unwrap() == data);
    let sent = run_with(&format!("write {option} --packet 20000 --channels 3 --json -"), data.clone()).good();
    let sent: Value = serde_json::from_str(&sent).unwrap();
    assert_eq!(sent["packets"], serde_json::json!([20_000, 20_000, 10_001]));
    assert_eq!((&sent["bytes"], &sent["channel"]), (&50_001.into(), &3.into()));
    let output = xdma(&format!("read {option} --packets 3 --channels 3 --json")).output().unwrap();
    assert!(output.stdout == data);
    let received: Value = serde_json::from_slice(&output.stderr).unwrap();
    check("xdma-read", &received);
    assert_eq!((&received["packets"], &received["ring"]), (&sent["packets"], &"credits".into()));
    assert_eq!(card.violations(), []);
}

/// One command sends and receives more data than the card and all buffers hold.
#[test]
fn packets_are_sent_and_received_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("input"), folder.path().join("output"));
    let data = pattern(1_000_001);
    std::fs::write(&input, &data).unwrap();
    let command = format!("write --stream --logic loopback {} --timeout 5", input.display());
    let text = run(&format!("{command} --receive {}", out.display())).good();
    assert!(text.ends_with("ms; verified (emulated card)\n"), "{text}");
    assert!(text.contains("sent 976.56 KiB in 1 packet over H2C channel 0"), "{text}");
    assert!(text.contains("\nreceived 976.56 KiB in 1 packet over C2H channel 0"), "{text}");
    assert!(std::fs::read(&out).unwrap() == data);
    let output = xdma(&format!("{command} --packet 300000 --receive - --json")).output().unwrap();
    assert!(output.stdout == data);
    let report = String::from_utf8(output.stderr).unwrap();
    let report: Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
    check("xdma-write", &report);
    assert_eq!(report["packets"], serde_json::json!([300_000, 300_000, 300_000, 100_001]));
    assert_eq!(report["received"]["packets"], report["packets"]);
    assert_eq!(report["received"]["verified"], true);
    let text = run(&format!("{command} --no-compare --receive {}", out.display())).good();
    assert!(text.ends_with("ms; not verified (emulated card)\n"), "{text}");
    run_with("write --stream --logic loopback - --receive x", data).bad(2, &["--length"]);
    run("write --address 0 Cargo.toml --receive x").bad(2, &["--address"]);
    // The error of the receiving end is reported, not the timeout of the sending end that follows from it.
    run(&format!("{} --timeout 1 --receive /dev/full", command.replace("--timeout 5", "")))
        .bad(1, &["cannot write the output", "No space left"]);
}

/// The reader of the pipe waits while more data is on its way than the card and all buffers hold.
#[test]
fn a_slow_reader_holds_the_stream_back() {
    let (_card, option) = loopback();
    let data = pattern(60_000);
    run_with(&format!("write {option} --packet 1000 -"), data.clone()).good();
    let mut child = piped(&format!("read {option} --packets 60 --buffer 64 -"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut seen = vec![];
    child.stdout.take().unwrap().read_to_end(&mut seen).unwrap();
    assert!(child.wait().unwrap().success() && seen == data);
}

#[test]
fn invalid_uses_of_streams_are_rejected() {
    let (_card, option) = loopback();
    for wrong in ["--address 0", "--verify", "--channels 0,1"] {
        run(&format!("write {option} {wrong} Cargo.toml")).bad(2, &[]);
    }
    run("write --packet 4 --address 0 Cargo.toml").bad(2, &["--address"]);
    run("write --packet 4 Cargo.toml").bad(2, &["--address"]);
    run("write Cargo.toml").bad(2, &["--address"]);
    run("read --address 0").bad(2, &["--length"]);
    run("read --stream").bad(3, &["memory-mapped channel"]);
    run("write --stream Cargo.toml").bad(3, &["memory-mapped channel"]);
    // An empty file has no packets, and without a receiver the card accepts only what it can hold.
    assert!(run(&format!("write {option} /dev/null")).good().starts_with("sent 0 bytes in 0 packets"));
    let stuck = run(&format!("write {option} --length 100K /dev/zero"));
    let parts =
        ["cannot send on the stream of H2C channel 0", "not all data was accepted within 1s", "--timeout"];
    stuck.bad(5, &parts);
}

/// An engine that waits for its stream cannot be stopped, which is neither a separate error nor a reason to reset the card.
#[test]
fn stream_timeouts_and_ctrl_c_are_reported() {
    let (_card, option) = loopback();
    let silent = run(&format!("read {option}"));
    assert!(!silent.err.contains("as root"), "{}", silent.err);
    silent.bad(5, &["no data was received within 1s", "the next command takes it over"]);
    let mut child = piped(&format!("read {} --timeout 60 -", option.replace("--timeout 1", "")));
    std::thread::sleep(std::time::Duration::from_millis(500));
    interrupt(&child);
    drop(child.stdin.take());
    let ended: Ended = child.wait_with_output().unwrap().into();
    ended.bad(130, &["interrupted"]);
    // The next commands take the channels over.
    run_with(&format!("write {option} -"), pattern(1000)).good();
    let output = xdma(&format!("read {option} -")).output().unwrap();
    assert!(output.stdout == pattern(1000));
}

/// Kills a program in the middle of sending, then sends and receives on the same stream.
#[test]
fn data_of_a_killed_program_is_not_received_by_the_next_one() {
    let (_card, option) = loopback();
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("input"), folder.path().join("output"));
    let data = pattern(200_003);
    std::fs::write(&input, &data).unwrap();
    let command = format!("write {option} --packet 5000 {} --receive {}", input.display(), out.display());
    // The card then holds 64 KiB: part of an endless packet, whole packets, or packets that end inside a beat.
    for (packets, beats) in [("", true), ("--packet 1024", true), ("--packet 1000", false)] {
        let endless =
            format!("write {option} {packets} --length 1G /dev/zero").replace("--timeout 1", "--timeout 60");
        let mut child = piped(&endless);
        std::thread::sleep(std::time::Duration::from_millis(500));
        child.kill().unwrap();
        child.wait().unwrap();
        let next = run(&command);
        if beats {
            let text = next.good();
            assert!(text.contains("first discarded"), "{text}");
            assert!(text.contains("verified"), "{text}");
            assert!(std::fs::read(&out).unwrap() == data, "{packets}");
        } else {
            // A partial beat cannot be separated from the data that follows, but the tool reports the mismatch.
            next.bad(4, &["the received data differs", "running the command again succeeds"]);
        }
        let text = run(&command).good();
        assert!(!text.contains("discarded") && text.contains("verified"), "{text}");
        assert!(std::fs::read(&out).unwrap() == data, "{packets}");
    }
    // Old data that is not discarded is compared, and the difference reported.
    run_with(&format!("write {option} --packet 100 -"), pattern(1000)).good();
    run(&format!("{command} --keep-old")).bad(4, &["the received data differs"]);
    assert!(std::fs::read(&out).unwrap() != data, "everything was received nevertheless");
    // `read` can discard old data, too.
    let silent = run(&format!("read {option} --discard --json"));
    silent.bad(5, &["no data was received"]);
    let text = run(&format!("{command} --keep-old --no-compare")).good();
    assert!(text.contains("not verified"), "{text}");
}

/// The receiver fails immediately, so the sender does not wait for its own timeout.
#[test]
fn the_first_failure_ends_both_directions() {
    let begin = std::time::Instant::now();
    run("write --stream --logic loopback --length 10M /dev/zero --timeout 30 --receive /dev/full")
        .bad(1, &["cannot write the output", "No space left"]);
    assert!(begin.elapsed() < std::time::Duration::from_secs(15), "{:?}", begin.elapsed());
}
