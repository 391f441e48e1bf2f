//! `xdma`: looks at a card, and emulates one.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use tracing_subscriber::EnvFilter;
use xdma::card::{CardName, CardOptions};
use xdma::emulator::control::Control;
#[cfg(feature = "rtl")]
use xdma::emulator::logic;
use xdma::emulator::logic::{Design, Logic, MsmOptions};
use xdma::emulator::{EmulatedCard, Options, Profile};

/// Looks at an XDMA card, and emulates one.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Describes a card: where it is, its channels, what it can do.
    Info {
        /// The card: a PCI address, unix:PATH of a vfio-user socket, or an emulated card (f1, alveo).
        #[arg(long, env = "XDMA_CARD", default_value = "f1", value_name = "BDF|unix:PATH|f1|alveo")]
        card: CardName,
    },
    /// Serves an emulated card over vfio-user until it is interrupted, to one client after the other.
    Emulate {
        /// Where to listen.
        #[arg(long)]
        socket: PathBuf,
        /// Where to listen for orders, as JSON lines (see the documentation of `xdma::emulator::control`).
        #[arg(long)]
        control: Option<PathBuf>,
        /// Which card: f1 or alveo.
        #[arg(long, default_value = "f1")]
        profile: Profile,
        /// The function can be reset.
        #[arg(long)]
        function_reset: bool,
        /// What lies behind the engine.
        #[arg(long, value_enum, default_value = "msm")]
        logic: LogicName,
        /// Seed of everything random.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Finish what a register write starts before the write is answered.
        #[arg(long)]
        synchronous: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum LogicName {
    /// The MSM design's functional model.
    Msm,
    /// The MSM design itself, cycle by cycle.
    #[cfg(feature = "rtl")]
    Rtl,
    /// 64 GiB of memory.
    Memory,
    /// AXI-Stream channels, each H2C one looped to the C2H one of its number.
    Loopback,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_writer(stderr).with_ansi(stderr().is_terminal());
    log.with_env_filter(filter).without_time().with_target(false).init();
    match cli.command {
        Command::Info { card } => info(&card, cli.json),
        Command::Emulate { socket, control, profile, function_reset, logic, seed, synchronous } => {
            let stream = matches!(logic, LogicName::Loopback);
            let options =
                Options { profile, function_reset, seed, synchronous, stream, ..Options::default() };
            emulate(options, logic, &socket, control.as_deref(), cli.json)
        }
    }
}

fn info(name: &CardName, json: bool) -> Result<()> {
    let card = name.open(CardOptions::default()).with_context(|| format!("cannot open card {name}"))?;
    let report = card.report()?;
    if !json {
        println!("{report}");
        return Ok(());
    }
    let channels: Vec<_> = report
        .channels
        .iter()
        .map(|(direction, index, id)| json!({ "direction": direction.to_string(), "index": index, "stream": id.is_stream() }))
        .collect();
    let object = json!({
        "vendor": report.vendor,
        "device": report.device,
        "bus": report.bus.kind,
        "location": report.bus.location,
        "resettable": report.bus.resettable,
        "page_sizes": report.bus.page_sizes,
        "iova_bits": report.bus.iova_bits,
        "numa_node": report.bus.node,
        "notes": report.bus.notes,
        "vectors": report.bus.vectors,
        "bars": report.bus.bars,
        "register_bar": report.register_bar,
        "user_bar": report.user_bar,
        "data_width": report.data_width,
        "max_payload": report.max_payload,
        "max_read_request": report.max_read_request,
        "channels": channels,
    });
    println!("{object}");
    Ok(())
}

fn emulate(
    options: Options,
    logic: LogicName,
    socket: &Path,
    control: Option<&Path>,
    json: bool,
) -> Result<()> {
    let profile = options.profile;
    let design: Arc<dyn Logic> = match logic {
        LogicName::Msm => Design::Msm(MsmOptions::default()).build(),
        #[cfg(feature = "rtl")]
        LogicName::Rtl => Arc::new(logic::Rtl::new(logic::Variant::Full)),
        LogicName::Memory => Design::Memory.build(),
        LogicName::Loopback => Design::Loopback.build(),
    };
    let (interrupted, wait) = mpsc::channel();
    ctrlc::set_handler(move || {
        // The main thread is gone only when the process ends anyway.
        let _ = interrupted.send(());
    })
    .context("cannot handle signals")?;
    let card = Arc::new(EmulatedCard::start_at(options, design, socket)?);
    let control = control.map(|path| {
        Control::start(Arc::clone(&card), path).with_context(|| format!("no orders at {}", path.display()))
    });
    let _control = control.transpose()?;
    if json {
        println!("{}", json!({ "profile": profile.to_string(), "socket": card.socket() }));
    } else {
        println!("an emulated {profile} card listens at {}; stop it with Ctrl-C", card.socket().display());
        println!("  cargo run --release --example msm -- --card unix:{}", card.socket().display());
    }
    wait.recv().context("the signal handler is gone")?;
    let violations = card.violations();
    for violation in &violations {
        eprintln!("a client broke a rule: {violation}");
    }
    Ok(())
}
