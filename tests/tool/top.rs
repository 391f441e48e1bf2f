//! `top`, beside a process that has a card.

use crate::support::{json, run, xdma};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use xdma::card::Card;
use xdma::emulator::Profile;
use xdma::regs::Direction;

/// Plays the program that is watched, until it is killed.
#[test]
fn busy_program() {
    if std::env::var_os("XDMA_TEST_BUSY").is_none() {
        return; // Not the process that `watched` starts.
    }
    let card = Card::emulated(Profile::F1).unwrap();
    let mut channel = card.h2c(1).unwrap();
    let buffer = card.allocate(4096, Direction::H2C).unwrap();
    println!("busy");
    loop {
        channel.transfer(&buffer, 0..4096, 0x5000_0000, Duration::from_secs(10)).unwrap();
    }
}

fn watched(temporary: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "top::busy_program", "--nocapture"]).env("XDMA_TEST_BUSY", "1");
    command.env("TMPDIR", temporary);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("busy")));
    child
}

#[test]
fn a_busy_program_is_seen_until_it_is_killed() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = watched(temporary.path());
    let process = child.id();
    let seen = json(&format!("top --once --interval 0.5 --pid {process}"));
    let channels = seen["cards"][0]["channels"].as_array().unwrap();
    assert_eq!((seen["cards"].as_array().unwrap().len(), channels.len()), (1, 1), "{seen}");
    let (channel, total) = (&channels[0], &channels[0]["total"]);
    assert_eq!(channel["channel"], "H2C 1");
    assert!(channel["jobs_per_second"].as_f64().unwrap() > 0.0, "{channel}");
    let number = |name: &str| total[name].as_u64().unwrap();
    assert!(number("completed") > 0 && number("bytes") >= 4096 * number("completed"), "{total}");
    assert!(number("submitted") - number("completed") <= 1 && number("abandoned") == 0, "{total}");
    assert!(channel["p50_ns"].as_u64() <= channel["p99_ns"].as_u64());
    let text = run(&format!("top --once --interval 0.1 --pid {process}")).good();
    assert!(text.contains("H2C 1") && text.contains("bytes/s"), "{text}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(temporary.path().read_dir().unwrap().count(), 0, "it left something behind");
    run(&format!("top --once --pid {process}")).bad(1, &["cannot be read"]);
}

#[test]
fn what_is_called_like_a_page_and_is_none_is_refused() {
    use std::os::fd::FromRawFd;
    // SAFETY: the name is a C string; the descriptor is ours alone.
    let file =
        unsafe { std::fs::File::from_raw_fd(libc::memfd_create(c"xdma-statistics:\x1b[31m".as_ptr(), 0)) };
    file.set_len(8).unwrap();
    // Without the flag CLOEXEC it is the other process' file, too.
    let output = xdma("top --once").arg("--pid").arg(std::process::id().to_string()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("its length is not sealed") && !text.contains('\x1b'), "{text}");
}

#[test]
fn when_nothing_runs_it_says_what_to_type() {
    run("top --once --card nowhere-at-all").bad(3, &["no program of yours", "--example prove"]);
}
