//! Help, completions, manual pages, and errors of the command line and the output.

use crate::support::{json, piped, run, xdma};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};
use xdma_testkit::terminal::check_help;

const COMMANDS: [&str; 15] = [
    "list",
    "info",
    "regs",
    "peek",
    "poke",
    "read",
    "write",
    "survey",
    "selftest",
    "bench",
    "top",
    "run",
    "emulate",
    "completions",
    "man",
];

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
fn help_fits_the_terminal() {
    for command in COMMANDS {
        for help in ["-h", "--help"] {
            check_help(env!("CARGO_BIN_EXE_xdma"), &[command, help]);
        }
    }
    for command in [&["--help"][..], &["bench", "compare", "--help"]] {
        check_help(env!("CARGO_BIN_EXE_xdma"), command);
    }
}

#[test]
fn completions_contain_all_commands() {
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
    assert!(page.contains(".TH xdma 1") && page.contains(".SH \"EXIT STATUS\""), "{page}");
    let folder = tempfile::tempdir().unwrap();
    run(&format!("man --dir {}", folder.path().display())).good();
    for page in COMMANDS.into_iter().chain(["bench-compare"]) {
        let text = std::fs::read_to_string(folder.path().join(format!("xdma-{page}.1"))).unwrap();
        for section in ["NAME", "SYNOPSIS", "\"EXIT STATUS\"", "ENVIRONMENT", "EXAMPLES"] {
            assert!(text.contains(&format!(".SH {section}\n")), "no {section} in {page}: {text}");
        }
        let (_, examples) = text.split_once(".SH EXAMPLES\n").unwrap();
        assert!(examples.contains("xdma "), "{page}: {examples}");
    }
    run("man --dir /dev/null/pages").bad(1, &["/dev/null/pages"]);
}

#[test]
fn command_line_errors_are_reported_as_json_too() {
    let ended = run("peek nowhere --json");
    let report: Value =
        serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {}", ended.out));
    assert_eq!((&report["exit_code"], ended.code), (&2.into(), 2));
    assert!(report["error"].as_str().unwrap().contains("is not a number"), "{report}");
    ended.bad(2, &["is not a number"]);
    let text = run("peek nowhere");
    assert_eq!(text.out, "");
    run("--version --json").good();
}

/// An error about a file names the cause and a remedy.
#[test]
fn errors_about_files_have_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path(), folder.path().join("file"));
    std::fs::write(&file, [0xff]).unwrap();
    let (directory, missing) = (path.display(), path.join("missing/file"));
    let (file, missing) = (file.display(), missing.display());
    let memory = "--logic memory --address 0";
    let kinds = [
        (format!("{directory}"), "Is a directory (os error 21); name a file, not a directory"),
        (format!("{missing}"), "No such file or directory (os error 2); check the path"),
        (format!("{file}/x"), "Not a directory (os error 20); a part of the path is a file"),
    ];
    for (path, remedy) in kinds {
        for command in [
            format!("write {memory} {path}"),
            format!("read {memory} --length 16 {path}"),
            format!("bench --quick --html {path}"),
            format!("bench --quick --log {path}"),
            format!("bench compare {path} {path}"),
            format!("survey --output {path}"),
            format!("selftest --report {path}"),
            format!("emulate --socket {directory}/socket --faults {path}"),
        ] {
            run(&command).bad(1, &["cannot ", path.as_str(), remedy]);
        }
    }
    run(&format!("emulate --socket {directory}/socket --faults {file}")).bad(1, &["UTF-8; name a text file"]);
    run(&format!("man --dir {file}")).bad(1, &["cannot write manual pages to", "; choose another path"]);
    run(&format!("emulate --socket {missing}")).bad(1, &["does not exist; create it"]);
    run(&format!("info --card {directory}/card.toml"))
        .bad(2, &["cannot read the file: No such file", "f1, alveo"]);
    run(&format!("info --card unix:{file}"))
        .bad(3, &["not a socket; name the socket on which a card is served"]);
    let output = xdma("info").env("TMPDIR", path.join("missing")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("No such file") && text.contains("set TMPDIR to an existing directory"), "{text}");
}

/// Every command fails if the disk is full.
#[test]
fn output_errors_are_reported() {
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
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {error}");
        assert!(
            error.contains("cannot write the output: No space left on device (os error 28); free some space"),
            "{command}: {error}"
        );
    }
}

/// A command that would run forever ends when the reader of its output closes the pipe.
#[test]
fn a_closed_pipe_ends_the_program() {
    let mut watch = piped("regs h2c0 --watch=0.02");
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
