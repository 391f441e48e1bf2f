//! The counted calls.

use anyhow::{Context, Result, ensure};
use halo2curves::bn256::{Fr, G1, G1Affine};
use serde_json::{Value, json};
use std::time::Duration;
use xdma::card::Card;
use xdma::channel::{Channel, TransferError};
use xdma::memory::Buffer;
use xdma::msm::{Job, Msm, MsmOptions, Output, Points, ScalarForm, Scalars, curve};
use xdma::regs::Direction;

pub const LIMIT: Duration = Duration::from_secs(60);
pub const SIZES: [u64; 3] = [4 << 10, 64 << 10, 1 << 20];
pub const SAMPLES: usize = 20;
const PAIRS: usize = 1 << 20;
/// Number of iterations of the delay loop between two polls. They take at least 50 ms, in which the card completes a step of the job
/// even on a busy machine. If it did not, another poll would be counted.
const DELAY_ROUNDS: u32 = 20_000_000;

/// Returns the time-stamp counter, which counts instructions in this virtual machine.
fn now() -> u64 {
    // SAFETY: every x86-64 processor supports this instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Returns the result of a call and its number of instructions, without those of the measurement.
pub fn counted<R>(call: impl FnOnce() -> R) -> (R, u64) {
    let empty = now();
    let start = now();
    let result = call();
    let end = now();
    (result, (end - start).saturating_sub(start - empty))
}

/// Returns the count of most samples, which must be the lowest one. The others may include a timer interrupt.
fn common(mut samples: Vec<u64>) -> Result<u64> {
    samples.sort_unstable();
    let (least, median) = (samples[0], samples[samples.len() / 2]);
    ensure!(least == median, "the counts vary: {samples:?}");
    Ok(median)
}

/// Counts one transfer of each size, made as in `examples/loopback`.
pub fn transfers(card: &Card) -> Result<Value> {
    let (mut h2c, mut c2h) = (card.h2c(0)?, card.c2h(0)?);
    let mut figures = json!({});
    for size in SIZES {
        let mut source = card.allocate(size, Direction::H2C)?;
        let sink = card.allocate(size, Direction::C2H)?;
        let mut samples = vec![];
        for sample in 0..SAMPLES as u64 {
            let data: Vec<u8> =
                (0..size).map(|at| (at ^ at >> 8 ^ sample).wrapping_mul(0x9d) as u8).collect();
            source.write(0, &data)?;
            let (sent, count) = counted(|| send(&mut h2c, &source, size));
            sent?;
            samples.push(count);
            c2h.transfer(&sink, 0..size, 0x1000, LIMIT)?;
            let mut seen = vec![0; data.len()];
            sink.read(0, &mut seen)?;
            ensure!(seen == data, "the bytes read from the card differ from those written");
        }
        figures[size.to_string()] = common(samples.split_off(2)).context(size)?.into();
    }
    Ok(figures)
}

#[inline(never)]
fn send(h2c: &mut Channel, source: &Buffer, size: u64) -> Result<(), TransferError> {
    let ticket = h2c.submit(source, 0..size, 0x1000)?;
    Ok(h2c.wait(ticket, LIMIT)?)
}

/// Returns the MSM design.
pub fn design() -> Value {
    json!({ "Msm": {} })
}

/// Counts the instructions of building, running and rerunning the program of an MSM.
pub fn program(card: &Card) -> Result<Value> {
    let mut msm = Msm::open(card, MsmOptions::default())?;
    let mut points = Points::allocate(card, PAIRS)?;
    let mut scalars = Scalars::allocate(card, PAIRS, ScalarForm::Canonical)?;
    // All other points are points at infinity, which the core skips. Otherwise the emulated card would compute for minutes.
    let last = PAIRS - 1;
    points.fill(|bytes| {
        for at in [0, last] {
            curve::halo2curves::points_to_bytes(&[G1Affine::generator()], &mut bytes[64 * at..64 * at + 64])?;
        }
        anyhow::Ok(())
    })??;
    scalars.fill(|bytes| {
        (bytes[0], bytes[32 * last]) = (3, 4);
    })?;
    let (job, built) = counted(|| msm.prepare(&points, &scalars));
    let job = job?;
    let first = built + run(&mut msm, &job)?.iter().sum::<u64>();
    let reruns = (0..5).map(|_| run(&mut msm, &job)).collect::<Result<Vec<_>>>()?;
    let submit = common(reruns.iter().map(|[submit, _]| *submit).collect())?;
    let polls = common(reruns.iter().map(|[_, polls]| *polls).collect())?;
    Ok(
        json!({ "pairs": PAIRS, "first": first, "rerun": submit + polls, "rerun, submit": submit, "rerun, polls": polls }),
    )
}

/// Counts the instructions from `submit` to the poll that returns the result, without waiting: of `submit`, and of the polls. The delays
/// between polls are not counted, nor is a poll with the same count as the previous one: it found nothing new.
fn run(msm: &mut Msm, job: &Job) -> Result<[u64; 2]> {
    let (ticket, submit) = counted(|| msm.submit(job));
    let (ticket, mut polls, mut before) = (ticket?, 0, 0);
    let output: Output = loop {
        (0..DELAY_ROUNDS).for_each(|_| std::hint::spin_loop());
        let (polled, count) = counted(|| msm.poll(ticket));
        if count != before {
            polls += count;
        }
        before = count;
        if let Some(output) = polled? {
            break output;
        }
    };
    let seen = curve::halo2curves::result_to_projective(&output.bytes)?;
    ensure!(seen == G1::generator() * Fr::from(7), "the card computed a wrong point");
    Ok([submit, polls])
}
