//! Manual pages of a command-line tool: the sections that clap knows, and EXIT STATUS, ENVIRONMENT and EXAMPLES.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::fs;
use std::io;
use std::path::Path;

/// An example of a command line.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// The command line.
    pub line: &'static str,
    /// The effect of the command.
    pub text: &'static str,
}

/// The manual of a tool.
#[derive(Clone, Debug)]
pub struct Manual {
    /// The tool.
    pub tool: Command,
    /// Its exit codes, as at the end of the help of its commands: a heading, and a line for each code.
    pub exit_codes: &'static str,
    /// Environment variables with their meanings.
    pub environment: &'static [(&'static str, &'static str)],
    /// Examples of all commands. Each consists of `sudo` if root is needed, then the name of the tool, then the command.
    pub examples: &'static [Example],
}

impl Manual {
    /// Returns the page of the tool itself.
    ///
    /// # Errors
    ///
    /// The page cannot be rendered.
    pub fn page(&self) -> io::Result<Vec<u8>> {
        self.render(&self.built(), &[])
    }

    /// Writes the pages of the tool and of its commands to a directory. Creates the directory if necessary.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn write_to(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        self.write(&self.built(), &[], directory)
    }

    /// Writes the pages of the command with these words, and of its subcommands.
    fn write(&self, command: &Command, words: &[&str], directory: &Path) -> io::Result<()> {
        let name = Man::new(command.clone()).get_filename();
        fs::write(directory.join(name), self.render(command, words)?)?;
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            self.write(command, &[words, &[command.get_name()]].concat(), directory)?;
        }
        Ok(())
    }

    fn built(&self) -> Command {
        let mut tool = self.tool.clone().disable_help_subcommand(true);
        tool.build();
        tool
    }

    /// Renders the page of the command with these words.
    fn render(&self, command: &Command, words: &[&str]) -> io::Result<Vec<u8>> {
        let (man, mut page) = (Man::new(command.clone()), Vec::new());
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut page)?;
        }
        let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let mut roff = Roff::new();
        let notes = notes.strip_suffix(self.exit_codes).unwrap_or(&notes).trim_end();
        if !notes.is_empty() {
            preformatted(&mut roff, "NOTES", notes);
        }
        // The first line of the exit codes is a heading for the help. The manual page has its own heading for the section.
        let codes = self.exit_codes.split_once('\n').map_or(self.exit_codes, |(_, codes)| codes);
        preformatted(&mut roff, "EXIT STATUS", codes);
        roff.control("SH", ["ENVIRONMENT"]);
        for (variable, text) in self.environment {
            roff.control("TP", []);
            roff.text([bold(*variable)]);
            roff.text([roman(*text)]);
        }
        roff.control("SH", ["EXAMPLES"]);
        for example in self.examples_of(words) {
            roff.control("TP", []);
            roff.text([bold(example.line)]);
            roff.text([roman(example.text)]);
        }
        roff.to_writer(&mut page)?;
        Ok(page)
    }

    /// Returns the examples of the command with these words. Without words, returns all examples.
    pub fn examples_of(&self, words: &[&str]) -> impl Iterator<Item = &Example> {
        self.examples.iter().filter(move |example| {
            let line = example.line.strip_prefix("sudo ").unwrap_or(example.line);
            let given: Vec<_> =
                line.split_whitespace().filter(|word| !word.starts_with('-')).skip(1).collect();
            given.starts_with(words)
        })
    }
}

/// Adds a section with the line breaks of its text.
fn preformatted(roff: &mut Roff, heading: &str, text: &str) {
    roff.control("SH", [heading]);
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}
