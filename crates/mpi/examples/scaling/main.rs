//! A model of proving hosts: how long a sum takes over cards and hosts, and what limits a service. `docs/scaling.md` explains
//! it, and contains its tables.
//!
//!     cargo run --package xdma-mpi --example scaling
//!     cargo run --package xdma-mpi --example scaling -- --memory 150 --network 100 --cpu 0.05
//!
//! It needs no MPI. The cycles are those of the design (`CoreCycles`), everything else is an input.

mod model;

use clap::Parser;
use model::{Inputs, tables};

/// Prints the tables of `docs/scaling.md` for other inputs.
#[derive(Parser)]
struct Args {
    /// Clock of the design in MHz.
    #[arg(long, default_value_t = Inputs::default().clock / 1e6)]
    clock: f64,
    /// Bandwidth of a card's link in GB/s.
    #[arg(long, default_value_t = Inputs::default().link / 1e9)]
    link: f64,
    /// Bandwidth of the uplink that the cards behind a PCIe switch share, in GB/s.
    #[arg(long, default_value_t = Inputs::default().uplink / 1e9)]
    uplink: f64,
    /// Memory bandwidth of a NUMA node in GB/s.
    #[arg(long, default_value_t = Inputs::default().memory / 1e9)]
    memory: f64,
    /// Bandwidth of a host's network in Gbit/s.
    #[arg(long, default_value_t = Inputs::default().network * 8.0 / 1e9)]
    network: f64,
    /// Milliseconds of one level of a reduction.
    #[arg(long, default_value_t = Inputs::default().level * 1e3)]
    level: f64,
    /// Processor seconds of a proof of the example `prove`, apart from its sums.
    #[arg(long, default_value_t = Inputs::default().cpu)]
    cpu: f64,
    /// Check each part by tags, which doubles the work of the cards.
    #[arg(long)]
    check: bool,
}

fn main() {
    let Args { clock, link, uplink, memory, network, level, cpu, check } = Args::parse();
    let inputs = Inputs {
        clock: clock * 1e6,
        link: link * 1e9,
        uplink: uplink * 1e9,
        memory: memory * 1e9,
        network: network / 8.0 * 1e9,
        level: level / 1e3,
        cpu,
        check,
    };
    print!("{}", tables(&inputs));
}
