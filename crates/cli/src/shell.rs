//! `xdma completions` and `xdma man`.

use crate::failure::EXIT_CODES;
use crate::{Cli, file, output};
use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;
use std::path::PathBuf;
use vfio_setup::manual::{Example, Manual};

const ENVIRONMENT: [(&str, &str); 4] = [
    ("XDMA_CARD", "The card, if there is no --card."),
    (
        "XDMA_VFIO",
        "How PCI cards are opened: cdev, type1 or noiommu [default: cdev if possible, otherwise type1].",
    ),
    ("RUST_LOG", "What is logged to standard error, such as xdma=debug [default: warn]."),
    ("NO_COLOR", "If not empty, disables colours. Output to a pipe or a file never has any."),
];

const fn example(line: &'static str, text: &'static str) -> Example {
    Example { line, text }
}

const EXAMPLES: [Example; 21] = [
    example("xdma list", "List the cards of this machine."),
    example("xdma info --card 0000:3b:00.0", "Describe a card."),
    example("xdma info --card f1", "Describe an emulated card, which exists while the command runs."),
    example("xdma regs h2c0 --card 0000:3b:00.0", "Show the registers of the first H2C channel."),
    example(
        "xdma regs --watch --card unix:/tmp/card.sock",
        "Watch all registers of a card that another process serves.",
    ),
    example("xdma peek 0x0 4 --bar xdma --card 0000:3b:00.0", "Read four words of the XDMA registers."),
    example("xdma poke 0x10 0x1 --card 0000:3b:00.0", "Write a register of the user logic."),
    example(
        "xdma read --address 0x0 --length 1M out.bin --card 0000:3b:00.0",
        "Copy 1 MiB from the card to a file.",
    ),
    example(
        "xdma write --address 0x0 --verify in.bin --card 0000:3b:00.0",
        "Copy a file to the card, and compare it.",
    ),
    example(
        "xdma write --stream in.bin --receive out.bin --card 0000:3b:00.0",
        "Send a file as a packet, and receive the answer.",
    ),
    example("xdma survey --output mine.toml --card 0000:3b:00.0", "Describe a card in a file."),
    example(
        "xdma selftest --scratch 0x0 --report report.txt --card 0000:3b:00.0",
        "Test a new card step by step.",
    ),
    example(
        "xdma bench --address 0x0 --json --card 0000:3b:00.0 > before.json",
        "Measure a card, and keep the results.",
    ),
    example("xdma bench compare before.json after.json", "Compare two results."),
    example("xdma top", "Watch the programs of this user that have a card open."),
    example("xdma top --once --json", "Print one sample for a script."),
    example(
        "xdma run --card 0000:3b:00.0 -- ./dma_to_device -d /dev/xdma0_h2c_0",
        "Run a program that was written for the kernel module.",
    ),
    example("xdma emulate --socket /tmp/card.sock --logic memory", "Serve an emulated card."),
    example(
        "xdma completions bash > ~/.local/share/bash-completion/completions/xdma",
        "Install the completions for bash.",
    ),
    example("xdma man | man -l -", "Read the manual page."),
    example("xdma man --dir man1", "Write the manual pages to the directory man1."),
];

fn manual() -> Manual {
    Manual { tool: Cli::command(), exit_codes: EXIT_CODES, environment: &ENVIRONMENT, examples: &EXAMPLES }
}

#[derive(Args)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub fn run(&self, json: bool) -> Result<()> {
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut Cli::command(), "xdma", &mut script);
        print(script, json, "script")
    }
}

#[derive(Args)]
pub struct Man {
    /// Write xdma.1, xdma-info.1 and so on to this directory.
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Man {
    pub fn run(&self, json: bool) -> Result<()> {
        let Some(dir) = &self.dir else { return print(manual().page()?, json, "page") };
        manual().write_to(dir).map_err(file::cannot("write manual pages to", dir))?;
        if json {
            output::line(&json!({ "dir": dir }).to_string())
        } else {
            output::line(&format!(
                "wrote manual pages to {0}; view them with `man -l {0}/xdma.1`",
                dir.display()
            ))
        }
    }
}

fn print(text: Vec<u8>, json: bool, key: &str) -> Result<()> {
    let text = String::from_utf8(text).context("the generated text is not UTF-8")?;
    output::line(&if json { json!({ key: text }).to_string() } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn the_examples_are_accepted_and_every_command_has_one() {
        for example in EXAMPLES {
            let words = example.line.split_whitespace().take_while(|word| !["|", ">"].contains(word));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{}: {error}", example.line);
            }
        }
        for command in Cli::command().get_subcommands() {
            assert!(manual().examples_of(&[command.get_name()]).count() > 0, "{}", command.get_name());
        }
    }
}
