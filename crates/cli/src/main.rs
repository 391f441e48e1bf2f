//! The command-line tool `xdma` for XDMA cards.

mod bench;
mod card;
mod copier;
mod copy;
mod emulate;
mod explain;
mod failure;
mod file;
mod info;
mod interrupt;
mod list;
mod number;
mod output;
mod packets;
mod regs;
mod run;
mod run_folder;
mod selftest;
mod shell;
mod survey;
#[cfg(test)]
#[path = "../../../fuzz/texts.rs"]
mod texts;
mod top;
mod words;

use anyhow::Result;
use clap::{Parser, Subcommand};
use failure::{EXIT_CODES, Failure};
use serde_json::json;
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{Layer, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};
use vfio_setup::cli::help_width;

/// Inspects, benchmarks, monitors and emulates XDMA cards, and moves data to and from them.
#[derive(Parser)]
#[command(name = "xdma", version, after_help = EXIT_CODES, term_width = help_width())]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// List the cards of this machine: addresses, models, drivers, and how each can be opened
    ///
    /// Cards are found by their PCI IDs. `vfio-setup status` also shows what the host offers.
    #[command(after_help = EXIT_CODES)]
    List(list::List),
    /// Describe a card: location, link, BARs, channels, capabilities and design
    ///
    /// Opening the card changes its state; for example, it disables interrupts. To inspect a card after a crash, run `regs` first.
    #[command(after_help = EXIT_CODES)]
    Info(info::Info),
    /// Show registers, decoded by field, without side effects on the card.
    #[command(after_help = EXIT_CODES)]
    Regs(regs::Regs),
    /// Read words of a BAR.
    #[command(after_help = EXIT_CODES)]
    Peek(words::Peek),
    /// Write words of a BAR, and read them back.
    #[command(after_help = EXIT_CODES)]
    Poke(words::Poke),
    /// Copy data from the card to a file or pipe.
    #[command(after_help = EXIT_CODES)]
    Read(copy::Read),
    /// Copy a file or pipe to the card.
    #[command(after_help = EXIT_CODES)]
    Write(copy::Write),
    /// Write the description of a card (card.toml), from which an emulated card like it can be made.
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", survey::EXPERIMENTS))]
    Survey(survey::Survey),
    /// Test a card step by step, from its identity to a second of load, and stop at the first failure
    ///
    /// For the first hours with a new card. Each step reports what it found, and if it failed, what that usually means. The
    /// report ends with the description of the card, as `survey` writes it.
    #[command(after_help = EXIT_CODES)]
    Selftest(selftest::Selftest),
    /// Measure latency and throughput; overwrites the card's memory at --address.
    #[command(after_help = EXIT_CODES)]
    Bench(bench::Benchmark),
    /// Show live statistics of running programs: throughput, queues, latencies, errors, FIFOs of the MSM design
    ///
    /// Shows all programs of this user that have a card open.
    #[command(after_help = EXIT_CODES)]
    Top(top::Top),
    /// Run a program that was written for the device files of the kernel module (/dev/xdma0_h2c_0, ...), unchanged
    ///
    /// A broker in this process owns the card and serves the program and its children. The exit status is that of the program.
    #[command(after_help = EXIT_CODES)]
    Run(run::Run),
    /// Serve an emulated card over vfio-user, to one client at a time, until interrupted.
    #[command(after_help = EXIT_CODES)]
    Emulate(emulate::Emulate),
    /// Print a shell completion script.
    #[command(after_help = EXIT_CODES)]
    Completions(shell::Completions),
    /// Print the manual page, or write one page per command to a directory.
    #[command(after_help = EXIT_CODES)]
    Man(shell::Man),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report_usage(&error),
    };
    let requested = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = requested.unwrap_or_else(|| cli.command.default_log());
    let layer =
        fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal()).without_time().with_target(false);
    registry().with(layer.with_filter(filter)).init();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if matches!(error.downcast_ref(), Some(Failure::OutputClosed)) => ExitCode::SUCCESS,
        Err(error) => {
            let code = failure::exit_code(&error);
            let text = failure::text(&error);
            eprintln!("xdma: {text}");
            if cli.json {
                cli.command.print_error(&json!({ "error": text, "exit_code": code }).to_string());
            }
            ExitCode::from(code)
        }
    }
}

/// Reports an invalid command line, also as JSON if requested, or prints help or the version.
fn report_usage(error: &clap::Error) -> ExitCode {
    let code = error.exit_code() as u8;
    // If the terminal is closed, the message has no reader.
    let _ = error.print();
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let text = text.trim_start_matches("error: ").trim();
        // A failure to write the report cannot be reported.
        let _ = output::line(&json!({ "error": text, "exit_code": code }).to_string());
    }
    ExitCode::from(code)
}

impl Command {
    /// Prints the JSON report of an error: to standard output, or to standard error if standard output carries data.
    fn print_error(&self, text: &str) {
        match self {
            Self::Read(read) if read.is_piped() => eprintln!("{text}"),
            Self::Write(write) if write.is_piped() => eprintln!("{text}"),
            // A failure to write the report cannot be reported.
            _ => drop(output::line(text)),
        }
    }

    /// Returns what is logged without `RUST_LOG`: warnings, except those of an emulated card about the rules that the experiments
    /// of `survey` and `selftest` break on purpose, and those of channels that are closed after an error, which this program
    /// reports itself.
    fn default_log(&self) -> Targets {
        let warnings = Targets::new()
            .with_default(LevelFilter::WARN)
            .with_target("xdma::channel::recovery", LevelFilter::OFF);
        match self {
            Self::Survey(_) | Self::Selftest(_) => warnings
                .with_target("xdma_emulator", LevelFilter::ERROR)
                .with_target("xdma_emulated_card", LevelFilter::OFF),
            _ => warnings,
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::List(list) => list.run(cli.json),
        Command::Info(info) => info.run(cli.json),
        Command::Regs(regs) => regs.run(cli.json),
        Command::Peek(peek) => peek.run(cli.json),
        Command::Poke(poke) => poke.run(cli.json),
        Command::Read(read) => read.run(cli.json),
        Command::Write(write) => write.run(cli.json),
        Command::Bench(bench) => bench.run(cli.json),
        Command::Top(top) => top.run(cli.json),
        Command::Survey(survey) => survey.run(cli.json),
        Command::Selftest(selftest) => selftest.run(cli.json),
        Command::Run(run) => run.run(),
        Command::Emulate(emulate) => emulate.run(cli.json),
        Command::Completions(completions) => completions.run(cli.json),
        Command::Man(man) => man.run(cli.json),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn texts() {
        xdma_testkit::corpus::replay("texts", super::texts::texts);
    }
}
