//! Receives interrupts of the user logic: sleeps until an interrupt arrives, or polls for it, and acknowledges it. The MSM design
//! asserts line 0 when a result is available.
//!
//!     cargo run --release --example user_interrupt
//!
//! Typical output:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//!   slept for 5.23188ms; cause: Irq(RESULT)
//!   polled for 369.76µs; cause: Irq(RESULT)
//!   slept for 295.832µs; cause: Irq(RESULT)
//!   polled for 318.484µs; cause: Irq(RESULT)
//! ```
//!
//! Each line is one MSM job: how the program waited, the time from submitting the job to its interrupt, and the bits of the
//! design's interrupt status register.

use anyhow::{Result, ensure};
use clap::Parser;
use std::time::{Duration, Instant};
use xdma::card::{Interrupt, Source};
use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::msm::{IRQ_ENABLE, IRQ_STATUS, Irq};
use xdma_examples::card::CardArgs;

const LIMIT: Duration = Duration::from_secs(10);

/// Waits for interrupts of the MSM design.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    card: CardArgs,
    /// Number of jobs, each of which causes one interrupt.
    #[arg(long, default_value_t = 4)]
    rounds: u32,
}

fn main() -> Result<()> {
    run(&Args::parse())
}

pub fn run(args: &Args) -> Result<()> {
    let card = args.card.open()?;
    println!("{}", args.card.describe(&card)?);
    let mut msm = Msm::open(&card, MsmOptions::default())?;
    let points = Points::allocate(&card, 100)?;
    let job = msm.prepare(&points, &Scalars::allocate(&card, 100, ScalarForm::Canonical)?)?;
    // `interrupt` enables the line in the core and creates an eventfd for it. The design has its own enable register.
    let (user, interrupt) = (card.user()?, card.interrupt(Source::User(0))?);
    user.write(IRQ_ENABLE, !0)?;
    for round in 0..args.rounds {
        let begin = Instant::now();
        let ticket = msm.submit(&job)?;
        let asleep = round % 2 == 0;
        let count = if asleep { interrupt.wait(LIMIT)? } else { poll(&interrupt) };
        ensure!(count > 0, "no interrupt arrived within {LIMIT:?}");
        let took = begin.elapsed();
        let cause = Irq::from_bits_retain(user.read(IRQ_STATUS)?);
        // The line stays asserted until the design is acknowledged, and only then can it interrupt again. Acknowledge first, then
        // collect all finished work: work that finishes in between is either collected or causes another interrupt.
        user.write(IRQ_STATUS, cause.bits())?;
        msm.wait(ticket, LIMIT)?;
        let how = if asleep { "slept" } else { "polled" };
        println!("  {how} for {took:?}; cause: {cause:?}");
    }
    user.write(IRQ_ENABLE, 0)?;
    Ok(())
}

/// Polls without sleeping, as a loop with other work would. Returns the number of interrupts, or 0 at the limit.
fn poll(interrupt: &Interrupt) -> u64 {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        match interrupt.take() {
            0 => std::thread::yield_now(),
            count => return count,
        }
    }
    0
}
