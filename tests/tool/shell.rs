//! Help, completions, manual pages.

use crate::support::{json, run};
use serde_json::Value;

const COMMANDS: [&str; 11] =
    ["info", "regs", "peek", "poke", "read", "write", "bench", "top", "emulate", "completions", "man"];

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
