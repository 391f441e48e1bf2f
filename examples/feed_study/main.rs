//! Simulates how the host's latency, the chunk size and the depth of the card's FIFOs determine how long the MSM core waits for
//! data. This repeats in simulation the experiment that motivated this project.
//!
//!     cargo run --release --features rtl --example feed_study                          # all combinations, with a report in HTML
//!     cargo run --release --features rtl --example feed_study -- --mode program --depth 1024 --chunk 512 --json
//!     cargo run --release --features rtl --example feed_study -- --core real --mode program --chunk 512 --depth 1024
//!
//! Each line of output is one run:
//!
//! ```text
//! chunked     depth 1024, chunk  512, latency 30 us, core 16: 30.69 cycles per pair, core idle 47.873 %
//! program     depth 1024, chunk  512, latency 30 us, core 16: 16.00 cycles per pair, core idle 0.000 %
//! ```
//!
//! `core 16` means that the core can consume a pair every 16 cycles. It is idle when it could consume a pair but a FIFO is empty.
//!
//! The design is the RTL in `hdl/`, simulated cycle by cycle. The host is a model: each transfer starts one latency after the
//! previous one has ended. The figures come from this simulation only, and are the same on every machine.

mod host;
mod levels;
mod report;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use host::{Data, Run, RunConfig};
use indicatif::ProgressIterator;
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use xdma_examples::human::{cannot, help_width};

/// Simulates the MSM design with different hosts, chunks and FIFOs.
#[derive(Parser)]
#[command(term_width = help_width())]
struct Args {
    /// How to send the data.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "chunked,two-channel,program")]
    mode: Vec<FeedMode>,
    /// Pairs per chunk, an even number.
    #[arg(long, value_delimiter = ',', default_value = "256,512,1024,2048,4096,8192")]
    chunk: Vec<usize>,
    /// Depth of both FIFOs, in elements: 1024 or 4096.
    #[arg(long, value_delimiter = ',', default_value = "1024,4096")]
    depth: Vec<usize>,
    /// The host's latency before each transfer, in microseconds. The design runs at 250 MHz.
    #[arg(long, value_delimiter = ',', default_value = "0,2,10,30,50")]
    latency_us: Vec<f64>,
    /// Busy host: the mean additional latency, as a multiple of the latency, with an exponential distribution.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    jitter: Vec<f64>,
    /// Cycles that the stub core takes per pair.
    #[arg(long, value_delimiter = ',', default_value = "16")]
    core_cycles: Vec<u32>,
    /// Use host buffers that do not start at a page boundary: two bursts per page instead of one.
    #[arg(long)]
    unaligned: bool,
    /// The core to simulate.
    #[arg(long, value_enum, default_value = "stub")]
    core: Core,
    /// Pairs per run.
    #[arg(long, default_value_t = 1 << 16)]
    pairs: usize,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
    /// File for the report.
    #[arg(long, default_value = "target/feed_study.html")]
    html: PathBuf,
}

/// Ways of sending an MSM's data to the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FeedMode {
    /// One transfer after the other: the scalars of a chunk, then its points.
    Chunked,
    /// Two channels: scalars and points of a chunk at the same time, the next chunk when both have ended.
    TwoChannel,
    /// One chain of descriptors for all chunks, started once by the host.
    Program,
}

impl FeedMode {
    fn name(self) -> &'static str {
        match self {
            Self::Chunked => "chunked",
            Self::TwoChannel => "two-channel",
            Self::Program => "program",
        }
    }
}

/// The core of the design, which consumes the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Core {
    /// Consumes a pair every `--core-cycles` cycles, and computes checksums.
    Stub,
    /// The MSM core with windows of 13 bits: consumes a pair every 20 cycles. Its FIFOs have a depth of 1,024.
    Real,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let cannot_write = || cannot("write the report", &args.html);
    // Create the file before the simulations, which take a while.
    let file = if args.json { None } else { Some(File::create(&args.html).with_context(cannot_write)?) };
    let data = Data::random(args.pairs, args.core);
    let mut runs = vec![];
    // The bar appears on a terminal only.
    for config in configs(&args).iter().progress() {
        runs.push(host::run(config, &data, &mut |_| ())?);
    }
    let Some(mut file) = file else {
        println!("{}", serde_json::to_string(&runs.iter().map(to_json).collect::<Vec<_>>())?);
        return Ok(());
    };
    runs.iter().for_each(|run| println!("{}", to_text(run)));
    let command: Vec<_> = std::env::args().skip(1).collect();
    let html = report::html(&runs, &data, &format!("feed_study {}", command.join(" ")))?;
    file.write_all(html.as_bytes()).with_context(cannot_write)?;
    println!("wrote the report to {}", args.html.display());
    Ok(())
}

fn configs(args: &Args) -> Vec<RunConfig> {
    let mut configs = vec![];
    for &mode in &args.mode {
        for &depth in &args.depth {
            for &latency_us in &args.latency_us {
                for &jitter in &args.jitter {
                    for &core_cycles in &args.core_cycles {
                        configs.extend(args.chunk.iter().map(|&chunk| RunConfig {
                            mode,
                            chunk: chunk.max(2) / 2 * 2,
                            depth,
                            latency_us,
                            jitter,
                            core: args.core,
                            core_cycles: if args.core == Core::Real { 20 } else { core_cycles.max(1) },
                            aligned: !args.unaligned,
                        }));
                    }
                }
            }
        }
    }
    configs
}

fn to_json(run: &Run) -> serde_json::Value {
    let config = &run.config;
    json!({
        "mode": config.mode.name(),
        "chunk": config.chunk,
        "depth": config.depth,
        "latency_us": config.latency_us,
        "jitter": config.jitter,
        "aligned": config.aligned,
        "core": if config.core == Core::Real { "real" } else { "stub" },
        "core_cycles_per_pair": config.core_cycles,
        "pairs": run.pairs,
        "cycles": run.cycles,
        "core_idle": run.core_idle,
        "deadlock": run.deadlock,
        "verified": run.verified,
    })
}

fn to_text(run: &Run) -> String {
    let RunConfig { mode, chunk, depth, latency_us, jitter, core_cycles, .. } = run.config;
    let jitter = if jitter > 0.0 { format!(" x{:.1}", 1.0 + jitter) } else { String::new() };
    let config = format!(
        "{:<11} depth {depth:>4}, chunk {chunk:>4}, latency {latency_us:>2} us{jitter}, core {core_cycles}",
        mode.name()
    );
    if run.deadlock {
        return format!("{config}: deadlock");
    }
    let verified = if run.verified { "" } else { ", WRONG RESULT" };
    let cycles = run.cycles as f64 / run.pairs as f64;
    format!("{config}: {cycles:.2} cycles per pair, core idle {:.3} %{verified}", 100.0 * run.core_idle)
}
