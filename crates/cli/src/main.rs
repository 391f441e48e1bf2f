//! `xdma`: looks at a card, moves data to and from it, measures it, and emulates one.

mod bench;
mod card;
mod copy;
mod emulate;
mod failure;
mod info;
mod interrupt;
mod number;
mod output;
mod packets;
mod regs;
mod shell;
mod stream;
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

/// Looks at an XDMA card, moves data to and from it, measures it, and emulates one.
#[derive(Parser)]
#[command(name = "xdma", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Describes a card: where it is, its link and channels, what it can do, the design it carries. Takes the card over: after a
    /// crash look at `regs` first.
    #[command(after_help = EXIT_CODES)]
    Info(info::Info),
    /// Shows registers, decoded by field; nothing is changed by looking.
    #[command(after_help = EXIT_CODES)]
    Regs(regs::Regs),
    /// Reads 32-bit words of a BAR.
    #[command(after_help = EXIT_CODES)]
    Peek(words::Peek),
    /// Writes 32-bit words of a BAR, and reads them back.
    #[command(after_help = EXIT_CODES)]
    Poke(words::Poke),
    /// Copies from the card to a file or pipe.
    #[command(after_help = EXIT_CODES)]
    Read(copy::Read),
    /// Copies a file or pipe to the card.
    #[command(after_help = EXIT_CODES)]
    Write(copy::Write),
    /// Measures latency and throughput. What is in the card's memory at the address is overwritten.
    #[command(after_help = EXIT_CODES)]
    Bench(bench::Options),
    /// Shows what the cards of your running programs do: throughput, queues, latencies, errors, the MSM design's FIFOs.
    #[command(after_help = EXIT_CODES)]
    Top(top::Top),
    /// Serves an emulated card over vfio-user until it is interrupted, to one client after the other.
    #[command(after_help = EXIT_CODES)]
    Emulate(emulate::Emulate),
    /// Prints what a shell needs to complete this program's command line.
    #[command(after_help = EXIT_CODES)]
    Completions(shell::Completions),
    /// Prints the manual page, or writes one for each command into a directory.
    #[command(after_help = EXIT_CODES)]
    Man(shell::Man),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let asked = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let layer =
        fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal()).without_time().with_target(false);
    registry().with(layer.with_filter(filter)).init();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if matches!(error.downcast_ref(), Some(Failure::NobodyReads)) => ExitCode::SUCCESS,
        Err(error) => {
            let code = failure::exit_code(&error);
            let text = failure::text(&error);
            eprintln!("xdma: {text}");
            if cli.json {
                cli.command.report(&json!({ "error": text, "exit_code": code }).to_string());
            }
            ExitCode::from(code)
        }
    }
}

/// Says what is wrong with the command line, also to programs; or prints help, which is no error.
fn refuse(error: &clap::Error) -> ExitCode {
    let code = error.exit_code() as u8;
    // Whoever closed the terminal wants to know nothing.
    let _ = error.print();
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let text = text.trim_start_matches("error: ").trim();
        // Nothing is left to be told of output that cannot be written.
        let _ = output::line(&json!({ "error": text, "exit_code": code }).to_string());
    }
    ExitCode::from(code)
}

impl Command {
    /// Tells a program what went wrong, where no data goes.
    fn report(&self, text: &str) {
        match self {
            Self::Read(read) if read.is_piped() => eprintln!("{text}"),
            Self::Write(write) if write.is_piped() => eprintln!("{text}"),
            // Nothing is left to be told of output that cannot be written.
            _ => drop(output::line(text)),
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::Info(info) => info.run(cli.json),
        Command::Regs(regs) => regs.run(cli.json),
        Command::Peek(peek) => peek.run(cli.json),
        Command::Poke(poke) => poke.run(cli.json),
        Command::Read(read) => read.run(cli.json),
        Command::Write(write) => write.run(cli.json),
        Command::Bench(bench) => bench.run(cli.json),
        Command::Top(top) => top.run(cli.json),
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
