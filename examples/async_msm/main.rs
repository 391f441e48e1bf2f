//! Computes MSMs on the card in a tokio task. A single thread waits for the card and runs other tasks in the meantime.
//!
//!     cargo run --release --example async_msm -- --pairs 20000
//!
//! Typical output:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//!   20,000 pairs on the card in 823.67ms; the same thread counted 823 timer ticks meanwhile
//!   cancelled the wait after a millisecond, and waited again
//!   the CPU computes the same sum for both
//! ```
//!
//! A program needs the feature `tokio` of the library: `xdma = { features = ["tokio"] }`.

use anyhow::{Result, ensure};
use clap::Parser;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use tokio::time::{interval, timeout};
use xdma::channel::{ChannelOptions, Wait};
use xdma::msm::curve::arkworks as curve;
use xdma::msm::{JobTicket, Msm, MsmOptions, Output, Points, ScalarForm, Scalars};
use xdma_examples::card::CardArgs;
use xdma_examples::{data, human};

const LIMIT: Duration = Duration::from_secs(60);

/// Computes MSMs on the card without blocking a thread.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    card: CardArgs,
    /// Number of generated points and scalars.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pairs: u32,
}

fn main() -> Result<()> {
    run(&Args::parse())
}

pub fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(compute(args))
}

async fn compute(args: &Args) -> Result<()> {
    let card = args.card.open()?;
    println!("{}", args.card.describe(&card)?);
    let pairs = args.pairs as usize;
    let (points, scalars) = (data::random_points(pairs, 1), data::random_scalars(pairs, 2));
    let mut points_on_card = Points::allocate(&card, pairs)?;
    points_on_card.fill(|bytes| curve::points_to_bytes(&points, bytes))??;
    let mut scalars_on_card = Scalars::allocate(&card, pairs, ScalarForm::Montgomery)?;
    scalars_on_card.fill(|bytes| curve::scalars_to_bytes(&scalars, bytes))??;
    // Tasks sleep on the eventfds of the channel and of the design, so the client must wait by interrupt (or `Wait::Hybrid`).
    let channel = ChannelOptions { wait: Wait::Interrupt, ..ChannelOptions::default() };
    let mut msm = Msm::open(&card, MsmOptions { channel, ..MsmOptions::default() })?;
    let job = msm.prepare(&points_on_card, &scalars_on_card)?;

    let begin = Instant::now();
    let ticket = msm.submit(&job)?;
    let on_cpu = spawn_blocking(move || data::cpu_msm(&points, &scalars));
    let (output, ticks) = wait_and_count(&mut msm, ticket).await?;
    println!(
        "  {} pairs on the card in {}; the same thread counted {ticks} timer ticks meanwhile",
        human::count(pairs as u64),
        human::seconds(begin.elapsed().as_secs_f64())
    );
    let expected = on_cpu.await??;
    ensure!(curve::result_to_point(&output.bytes)? == expected, "the card's sum differs from the CPU's");

    // Cancelling a wait loses nothing: the job continues, and its ticket stays valid.
    let ticket = msm.submit(&job)?;
    let output = match timeout(Duration::from_millis(1), msm.wait_async(ticket, LIMIT)).await {
        Ok(output) => output?,
        Err(_) => {
            println!("  cancelled the wait after a millisecond, and waited again");
            msm.wait_async(ticket, LIMIT).await?
        }
    };
    ensure!(
        curve::result_to_point(&output.bytes)? == expected,
        "the card's second sum differs from the CPU's"
    );
    println!("  the CPU computes the same sum for both");
    Ok(())
}

/// Waits for a result, and counts timer ticks of a millisecond on the same thread.
async fn wait_and_count(msm: &mut Msm, ticket: JobTicket) -> Result<(Output, u32)> {
    let (mut clock, mut ticks) = (interval(Duration::from_millis(1)), 0);
    let wait = msm.wait_async(ticket, LIMIT);
    tokio::pin!(wait);
    loop {
        tokio::select! {
            output = &mut wait => return Ok((output?, ticks)),
            _ = clock.tick() => ticks += 1,
        }
    }
}
