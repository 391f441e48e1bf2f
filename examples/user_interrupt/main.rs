//! An interrupt of the user logic: slept for, polled, and acknowledged. The MSM design raises line 0 when a result is there.
//!
//!     cargo run --example user_interrupt

use anyhow::{Result, ensure};
use clap::Parser;
use std::time::{Duration, Instant};
use xdma::card::{Interrupt, Source};
use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::msm::{IRQ_ENABLE, IRQ_STATUS, Irq};
use xdma_examples::card::CardArgs;

const LIMIT: Duration = Duration::from_secs(10);

/// Waits for the MSM design's interrupt.
#[derive(Parser)]
pub struct Options {
    #[command(flatten)]
    card: CardArgs,
    /// How often.
    #[arg(long, default_value_t = 4)]
    rounds: u32,
}

fn main() -> Result<()> {
    run(&Options::parse())
}

pub fn run(options: &Options) -> Result<()> {
    let card = options.card.open()?;
    println!("{}", options.card.describe(&card)?);
    let mut msm = Msm::open(&card, MsmOptions::default())?;
    let points = Points::allocate(&card, 100)?;
    let job = msm.prepare(&points, &Scalars::allocate(&card, 100, ScalarForm::Canonical)?)?;
    // The line's eventfd, and its bit in the core; then the design's own enable.
    let (user, fired) = (card.user()?, card.interrupt(Source::User(0))?);
    user.write(IRQ_ENABLE, !0)?;
    for round in 0..options.rounds {
        let begin = Instant::now();
        let ticket = msm.submit(&job)?;
        let asleep = round % 2 == 0;
        let times = if asleep { fired.wait(LIMIT)? } else { poll(&fired) };
        ensure!(times > 0, "no interrupt within {LIMIT:?}");
        let took = begin.elapsed();
        let cause = Irq::from_bits_retain(user.read(IRQ_STATUS)?);
        // The line is a level: the design is told that it was seen, and only then is there a next one. Work that comes before
        // this is found by looking for all of it afterwards.
        user.write(IRQ_STATUS, cause.bits())?;
        msm.wait(ticket, LIMIT)?;
        let how = if asleep { "slept" } else { "polled" };
        println!("  {how} for {took:?}, and it was {cause:?}");
    }
    user.write(IRQ_ENABLE, 0)?;
    Ok(())
}

/// Looks without sleeping: for a loop that has other things to do as well.
fn poll(fired: &Interrupt) -> u64 {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        match fired.take() {
            0 => std::thread::yield_now(),
            times => return times,
        }
    }
    0
}
