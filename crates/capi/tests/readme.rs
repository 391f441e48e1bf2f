//! The commands and the program of the READMEs, word for word: built and installed from source, with an empty home directory. Only the
//! emulated card is served by this test, at the socket that the README names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use xdma_emulated_card::emulator::logic::Design;
use xdma_emulated_card::emulator::{EmulatedCard, EmulatorOptions};

/// Start of the command that serves an emulated card.
const SERVE: &str = "cargo run --release --package xdma-cli -- emulate --socket ~/card.sock --logic memory";
/// Variables that cargo and rustup need. Everything else is unset.
const VARIABLES: [&str; 5] = ["PATH", "CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR", "CARGO_BUILD_JOBS"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the blocks of a language in a section of a file.
fn blocks(file: &str, section: &str, language: &str) -> Vec<String> {
    let text = fs::read_to_string(workspace().join(file)).unwrap();
    let (_, rest) =
        text.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section}"));
    let section = rest.split("\n## ").next().unwrap();
    let fence = format!("```{language}\n");
    section.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Runs commands in the checkout, as a new user would, and returns what they print.
fn run(home: &Path, commands: &[String]) -> String {
    let commands = commands.concat();
    let (serves, runs): (Vec<&str>, Vec<&str>) = commands.lines().partition(|line| line.starts_with(SERVE));
    assert_eq!(serves.len(), 1, "{commands}");
    let socket = home.join("card.sock");
    let card = EmulatedCard::start_at(EmulatorOptions::default(), Design::Memory.build(), &socket).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-euc", &runs.join("\n")]).current_dir(workspace()).env_clear();
    shell.envs(VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    // The toolchain is below the real home directory, unless the variables say otherwise.
    let real = std::env::home_dir().unwrap();
    for (variable, directory) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        if std::env::var_os(variable).is_none() {
            shell.env(variable, real.join(directory));
        }
    }
    let output = shell.env("HOME", home).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{runs:?}: {}: {text}", output.status);
    assert_eq!(card.violations(), []);
    text
}

#[test]
fn the_program_of_the_readme_works() {
    let home = tempfile::tempdir().unwrap();
    const SECTION: &str = "In your program";
    let [program] = &blocks("README.md", SECTION, "c")[..] else { panic!("one program") };
    assert!(program.lines().count() <= 12, "ten lines, and two with includes");
    fs::write(home.path().join("program.c"), program).unwrap();
    let mut commands = blocks("README.md", SECTION, "sh");
    commands.retain(|block| block.contains("install.sh"));
    run(home.path(), &commands);
    assert!(home.path().join("program").exists());
}

#[test]
fn the_commands_of_the_crates_readme_work() {
    let home = tempfile::tempdir().unwrap();
    let sections = ["Installing", "Trying it without a card"];
    let commands: Vec<_> =
        sections.iter().flat_map(|section| blocks("crates/capi/README.md", section, "sh")).collect();
    assert!(run(home.path(), &commands).contains("to the card and back: equal"));
}
