//! The founding experiment, repeated in simulation: how a host's latency, its chunks and the card's FIFOs decide how long the core
//! waits.
//!
//!     cargo run --release --features rtl --example feed_study                          # the sweep, and a report
//!     cargo run --release --features rtl --example feed_study -- --mode program --depth 1024 --chunk 512 --json
//!     cargo run --release --features rtl --example feed_study -- --core real --mode program --chunk 512 --depth 1024
//!
//! The design is the RTL of `hdl/`, cycle by cycle; the host is a model: a transfer begins a latency after the last one ended. All
//! figures are of this simulation, and the same on every machine.

mod host;
mod report;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use host::{Data, Run, Setup};
use serde_json::json;
use std::path::PathBuf;

/// Sweeps how the MSM design is fed.
#[derive(Parser)]
struct Options {
    /// Who starts transfers, and when.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "chunked,two-channel,program")]
    mode: Vec<Mode>,
    /// Pairs a chunk, even.
    #[arg(long, value_delimiter = ',', default_value = "256,512,1024,2048,4096,8192")]
    chunk: Vec<usize>,
    /// Depth of both FIFOs, in elements; the simulation has 1024 and 4096.
    #[arg(long, value_delimiter = ',', default_value = "1024,4096")]
    depth: Vec<usize>,
    /// The host's latency for each transfer, in microseconds at 250 MHz.
    #[arg(long, value_delimiter = ',', default_value = "0,2,10,30,50")]
    latency_us: Vec<f64>,
    /// A busy host: a latency is this much longer on average, by an exponential distribution.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    jitter: Vec<f64>,
    /// Cycles a pair of the core that only takes pairs.
    #[arg(long, value_delimiter = ',', default_value = "16")]
    core_cycles: Vec<u32>,
    /// Host buffers that lie across pages: two bursts a page instead of one.
    #[arg(long)]
    unaligned: bool,
    /// The core.
    #[arg(long, value_enum, default_value = "stub")]
    core: Core,
    /// Pairs of each run.
    #[arg(long, default_value_t = 1 << 16)]
    pairs: usize,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Where the report goes.
    #[arg(long, default_value = "target/feed_study.html")]
    html: PathBuf,
}

/// Who starts transfers, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Scalars and points of a chunk in turn, each when the last transfer ended.
    Chunked,
    /// Scalars and points of a chunk on two channels at once; the next chunk when both ended.
    TwoChannel,
    /// One chain of descriptors for all chunks: the host starts it, and that is all.
    Program,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Chunked => "chunked",
            Self::TwoChannel => "two-channel",
            Self::Program => "program",
        }
    }
}

/// What takes the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Core {
    /// A pair each `--core-cycles`, and checksums.
    Stub,
    /// The MSM core with windows of 13 bits, a pair each 20 cycles; FIFOs of 1,024.
    Real,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let data = Data::random(options.pairs, options.core);
    let mut runs = vec![];
    let setups = setups(&options);
    for (number, setup) in setups.iter().enumerate() {
        eprint!("\r{} of {} runs", number + 1, setups.len());
        runs.push(host::run(setup, &data, &mut |_| ())?);
    }
    eprintln!();
    if options.json {
        println!("{}", serde_json::to_string(&runs.iter().map(object).collect::<Vec<_>>())?);
        return Ok(());
    }
    runs.iter().for_each(|run| println!("{}", line(run)));
    let html = report::html(&runs, &data)?;
    std::fs::write(&options.html, html).with_context(|| options.html.display().to_string())?;
    println!("the report is {}", options.html.display());
    Ok(())
}

fn setups(options: &Options) -> Vec<Setup> {
    let mut setups = vec![];
    for &mode in &options.mode {
        for &depth in &options.depth {
            for &latency_us in &options.latency_us {
                for &jitter in &options.jitter {
                    for &core_cycles in &options.core_cycles {
                        setups.extend(options.chunk.iter().map(|&chunk| Setup {
                            mode,
                            chunk: chunk.max(2) / 2 * 2,
                            depth,
                            latency_us,
                            jitter,
                            core: options.core,
                            core_cycles: if options.core == Core::Real { 20 } else { core_cycles.max(1) },
                            aligned: !options.unaligned,
                        }));
                    }
                }
            }
        }
    }
    setups
}

fn object(run: &Run) -> serde_json::Value {
    let setup = &run.setup;
    json!({
        "mode": setup.mode.name(),
        "chunk": setup.chunk,
        "depth": setup.depth,
        "latency_us": setup.latency_us,
        "jitter": setup.jitter,
        "aligned": setup.aligned,
        "core": if setup.core == Core::Real { "real" } else { "stub" },
        "core_cycles_per_pair": setup.core_cycles,
        "pairs": run.pairs,
        "cycles": run.cycles,
        "core_idle": run.core_idle,
        "deadlock": run.deadlock,
        "verified": run.verified,
    })
}

fn line(run: &Run) -> String {
    let Setup { mode, chunk, depth, latency_us, jitter, core_cycles, .. } = run.setup;
    let jitter = if jitter > 0.0 { format!(" x{:.1}", 1.0 + jitter) } else { String::new() };
    let setup = format!(
        "{:<11} depth {depth:>4}, chunk {chunk:>4}, latency {latency_us:>2} us{jitter}, core {core_cycles}",
        mode.name()
    );
    if run.deadlock {
        return format!("{setup}: deadlock");
    }
    let verified = if run.verified { "" } else { ", WRONG RESULT" };
    let a_pair = run.cycles as f64 / run.pairs as f64;
    format!("{setup}: {a_pair:.2} cycles a pair, core idle {:.3} %{verified}", 100.0 * run.core_idle)
}
