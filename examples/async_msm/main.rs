//! MSMs as tasks of tokio: one thread waits for the card, computes on the CPU and does other things meanwhile.
//!
//!     cargo run --release --example async_msm -- --pairs 65536
//!
//! In a program of your own: `xdma = { features = ["tokio"] }`.

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

/// Computes MSMs on the card without keeping a thread.
#[derive(Parser)]
pub struct Options {
    #[command(flatten)]
    card: CardArgs,
    /// Pairs of made-up points and scalars.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pairs: u32,
}

fn main() -> Result<()> {
    run(&Options::parse())
}

pub fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(compute(options))
}

async fn compute(options: &Options) -> Result<()> {
    let card = options.card.open()?;
    println!("{}", options.card.describe(&card)?);
    let pairs = options.pairs as usize;
    let (points, scalars) = (data::random_points(pairs, 1), data::random_scalars(pairs, 2));
    let mut on_card =
        (Points::allocate(&card, pairs)?, Scalars::allocate(&card, pairs, ScalarForm::Montgomery)?);
    on_card.0.fill(|bytes| curve::points_to_bytes(&points, bytes))??;
    on_card.1.fill(|bytes| curve::scalars_to_bytes(&scalars, bytes))??;
    // Tasks sleep on the eventfds of the channel and of the design, so the client needs a way of waiting that sleeps.
    let channel = ChannelOptions { wait: Wait::Interrupt, ..ChannelOptions::default() };
    let mut msm = Msm::open(&card, MsmOptions { channel, ..MsmOptions::default() })?;
    let job = msm.prepare(&on_card.0, &on_card.1)?;

    let begin = Instant::now();
    let ticket = msm.submit(&job)?;
    let on_cpu = spawn_blocking(move || data::cpu_msm(&points, &scalars));
    let (output, ticks) = ticking(&mut msm, ticket).await?;
    println!(
        "  {} pairs on the card in {}; the same thread ticked {ticks} times meanwhile",
        human::count(pairs as u64),
        human::seconds(begin.elapsed().as_secs_f64())
    );
    let expected = on_cpu.await??;
    ensure!(curve::result_to_point(&output.bytes)? == expected, "the card's sum is not the CPU's");

    // Whoever loses patience loses nothing: the job goes on, and its ticket is as good as before.
    let ticket = msm.submit(&job)?;
    let impatient = timeout(Duration::from_millis(1), msm.wait_async(ticket, LIMIT)).await;
    let output = match impatient {
        Ok(output) => output?,
        Err(_) => {
            println!("  gave the wait up after a millisecond, and waited again");
            msm.wait_async(ticket, LIMIT).await?
        }
    };
    ensure!(curve::result_to_point(&output.bytes)? == expected, "the card's second sum is not the CPU's");
    println!("  both sums are the CPU's");
    Ok(())
}

/// Waits for a result, and counts milliseconds on the same thread.
async fn ticking(msm: &mut Msm, ticket: JobTicket) -> Result<(Output, u32)> {
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
