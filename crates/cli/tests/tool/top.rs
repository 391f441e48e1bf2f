//! `top`, next to a process that has a card open.

use crate::support::{json, run, xdma};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::FromRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use xdma::card::CardOptions;
use xdma::regs::Direction;
use xdma_emulator::CardFile;
use xdma_testkit::terminal;

/// Acts as the watched program, until it is killed.
#[test]
fn busy_program() {
    if std::env::var_os("XDMA_TEST_BUSY").is_none() {
        return; // This is not the process that `watched` starts.
    }
    let card = xdma_emulated_card::start_like(CardFile::f1(), CardOptions::default()).unwrap();
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
fn a_busy_program_is_shown_until_it_is_killed() {
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
    assert!(text.contains("(emulated, process ") && seen["cards"][0]["emulated"] == true, "{text}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(temporary.path().read_dir().unwrap().count(), 0, "no file is left behind");
    run(&format!("top --once --pid {process}")).bad(3, &["there is no process"]);
}

#[test]
fn top_ends_when_its_terminal_is_closed() {
    let temporary = tempfile::tempdir().unwrap();
    let mut program = watched(temporary.path());
    let (mut top, mut terminal) = terminal::spawn(xdma("top --pid").arg(program.id().to_string()), 80);
    let (mut seen, mut some) = (vec![], [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains("bytes/s") {
        let len = terminal.read(&mut some).expect("it draws its screen");
        seen.extend_from_slice(&some[..len]);
    }
    drop(terminal);
    let begin = Instant::now();
    while top.try_wait().unwrap().is_none() && begin.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = top.try_wait().unwrap().is_some();
    for child in [&mut top, &mut program] {
        child.kill().and_then(|()| child.wait()).unwrap();
    }
    assert!(ended, "it continues without a terminal");
}

#[test]
fn a_file_with_the_name_of_a_page_is_rejected() {
    // SAFETY: the name is a C string, and the new descriptor has no other owner.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"xdma-statistics:\x1b[31m".as_ptr(), 0)) };
    file.set_len(8).unwrap();
    // `top` finds the file among the open files of this process.
    let output = xdma("top --once").arg("--pid").arg(std::process::id().to_string()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("its length is not sealed") && !text.contains('\x1b'), "{text}");
}

#[test]
fn without_programs_the_error_suggests_one() {
    let mut idle = Command::new("sleep").arg("60").spawn().unwrap();
    run(&format!("top --once --pid {}", idle.id())).bad(3, &["no program of this user", "xdma bench"]);
    idle.kill().and_then(|()| idle.wait()).unwrap();
    run("top --once --interval 1e19").bad(2, &["not a number of seconds"]);
}

#[test]
fn a_card_that_is_not_in_use_is_an_error_that_lists_those_in_use() {
    let temporary = tempfile::tempdir().unwrap();
    let mut program = watched(temporary.path());
    let ended = run(&format!("top --once --card nowhere-at-all --pid {}", program.id()));
    program.kill().and_then(|()| program.wait()).unwrap();
    ended.bad(3, &["at `nowhere-at-all`; cards in use: ", temporary.path().to_str().unwrap()]);
}
