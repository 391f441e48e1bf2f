//! Completions and manual pages.

use clap::{CommandFactory, Parser};
use std::process::{Command, Output};
use vfio_setup::cli::Cli;

const COMMANDS: [&str; 10] =
    ["status", "plan", "bind", "unbind", "persist", "undo", "doctor", "f2-interrupts", "completions", "man"];

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vfio-setup")).args(arguments).output().unwrap()
}

fn shown(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_list_of_commands_is_complete() {
    let names: Vec<_> =
        Cli::command().get_subcommands().map(|command| command.get_name().to_string()).collect();
    assert_eq!(names, COMMANDS);
}

#[test]
fn completions_contain_all_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = shown(&["completions", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}, {command}");
        }
    }
    assert_eq!(run(&["completions", "cobol"]).status.code(), Some(2));
}

#[test]
fn every_manual_page_has_its_sections() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("man1");
    shown(&["man", "--dir", directory.to_str().unwrap()]);
    let mut pages: Vec<_> = COMMANDS.iter().map(|command| format!("vfio-setup-{command}.1")).collect();
    pages.push("vfio-setup.1".into());
    for page in pages {
        let text = std::fs::read_to_string(directory.join(&page)).unwrap();
        for section in
            ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "\"EXIT STATUS\"", "ENVIRONMENT", "EXAMPLES"]
        {
            assert!(text.contains(&format!(".SH {section}\n")), "no {section} in {page}: {text}");
        }
        let (_, examples) = text.split_once(".SH EXAMPLES\n").unwrap();
        assert!(examples.contains("vfio\\-setup "), "{page}: {examples}");
    }
    assert!(shown(&["man"]).contains(".TH vfio-setup 1"));
    let output = run(&["man", "--dir", "/dev/null/pages"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/dev/null/pages"));
}

#[test]
fn the_examples_are_accepted() {
    let page = shown(&["man"]);
    let (_, examples) = page.split_once(".SH EXAMPLES\n").unwrap();
    let lines = examples.lines().filter_map(|line| line.strip_prefix("\\fB")?.strip_suffix("\\fR"));
    let mut count = 0;
    for line in lines {
        let line = line.replace("\\-", "-").replace("\\&", "");
        let words = line.split_whitespace().skip_while(|word| *word == "sudo");
        let words: Vec<_> = words.take_while(|word| !["|", ">"].contains(word)).collect();
        Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
        count += 1;
    }
    assert_eq!(count, 18);
}
