//! Help, completions, manual pages.

use crate::support::{json, piped, run, xdma};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

const COMMANDS: [&str; 11] =
    ["info", "regs", "peek", "poke", "read", "write", "bench", "top", "emulate", "completions", "man"];

#[test]
fn the_version_names_the_program() {
    assert_eq!(run("--version").good(), format!("xdma {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_exit_codes_are_in_the_help_of_every_command() {
    for command in COMMANDS.into_iter().chain([""]) {
        let help = run(&format!("{command} --help")).good();
        assert!(help.contains("Exit codes:") && help.contains("130  interrupted"), "{command}");
    }
}

#[test]
fn shells_get_all_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&format!("completions {shell}")).good();
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}, {command}");
        }
    }
    assert!(json("completions bash")["script"].as_str().unwrap().contains("complete -F _xdma"));
    run("completions cobol").bad(2, &["bash"]);
}

#[test]
fn manual_pages() {
    let page = run("man").good();
    assert!(page.contains(".TH xdma 1") && page.contains("Exit codes"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    run(&format!("man --dir {}", folder.path().display())).good();
    for command in COMMANDS {
        assert!(folder.path().join(format!("xdma-{command}.1")).exists(), "{command}");
    }
    run("man --dir /dev/null/pages").bad(1, &["/dev/null/pages"]);
}

#[test]
fn programs_are_told_of_a_wrong_command_line_too() {
    let ended = run("peek nowhere --json");
    let told: Value =
        serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {}", ended.out));
    assert_eq!((&told["exit_code"], ended.code), (&2.into(), 2));
    assert!(told["error"].as_str().unwrap().contains("is no number"), "{told}");
    ended.bad(2, &["is no number"]);
    let text = run("peek nowhere");
    assert_eq!(text.out, "");
    run("--version --json").good();
}

/// A full disk is no success, whatever was to be written.
#[test]
fn output_that_cannot_be_written_is_told() {
    for command in [
        "info",
        "info --json",
        "regs h2c0",
        "peek 0",
        "poke 0x230 7",
        "man",
        "completions bash",
        "bench --quick --json",
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = xdma(command).stdin(Stdio::null()).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains("cannot write the output: No space left"), "{command}: {said}");
    }
}

/// A reader that has enough is an end, also of what would go on.
#[test]
fn nobody_is_written_for_who_has_gone() {
    let mut watch = piped("regs h2c0 --watch 0.02");
    let mut line = String::new();
    BufReader::new(watch.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while watch.try_wait().unwrap().is_none() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = watch.kill();
    let output = watch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(line.contains("h2c0"), "{line}");
}
