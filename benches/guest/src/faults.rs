//! Checks that the counted calls report errors.

use crate::control::Control;
use anyhow::{Result, bail, ensure};
use serde_json::json;
use std::time::{Duration, Instant};
use xdma::card::{Card, CardError};
use xdma::channel::{ChannelOptions, EngineError, PollError, Ring, WaitError};
use xdma::regs::Direction;
use xdma::regs::msm::{CTRL, Ctrl, SCALAR_WINDOW};

type Open<'a> = &'a dyn Fn() -> Result<Card, CardError>;

pub fn are_reported(control: &mut Control, open: Open) -> Result<()> {
    deadline(control, open)?;
    error_write_back(control, open)?;
    all_ones(control, open)
}

/// Sends scalars without points: the FIFO fills up, and the engine waits forever.
fn deadline(control: &mut Control, open: Open) -> Result<()> {
    control.load(|_| (), json!({ "Msm": { "watchdog": 0 } }))?;
    let card = open()?;
    let mut h2c = card.h2c(0)?;
    let buffer = card.allocate(1 << 20, Direction::H2C)?;
    let ticket = h2c.submit(&buffer, 0..1 << 20, SCALAR_WINDOW)?;
    let (start, limit) = (Instant::now(), Duration::from_millis(20));
    match h2c.wait(ticket, limit) {
        Err(WaitError::Deadline { .. }) => {
            ensure!(start.elapsed() >= limit, "the wait ended before its limit")
        }
        other => bail!("a hanging transfer ended with {other:?}"),
    }
    let user = card.user()?;
    h2c.recover_with(&mut || drop(user.write(CTRL, (Ctrl::ABORT | Ctrl::FLUSH).bits())))?;
    Ok(())
}

/// Makes a descriptor fetch fail, on a core that reports errors in bit 31 of the write-back.
fn error_write_back(control: &mut Control, open: Open) -> Result<()> {
    control.load(|options| options["switches"]["error_write_back"] = true.into(), json!("Memory"))?;
    let card = open()?;
    let buffer = card.allocate(4096, Direction::H2C)?;
    let options = ChannelOptions { ring: Some(Ring::Chain), ..ChannelOptions::default() };
    let mut h2c = card.channel(Direction::H2C, 0, options)?;
    control.inject(
        json!({ "fault": { "Fetch": "UnsupportedRequest" }, "on": { "direction": "H2C", "index": 0 } }),
    )?;
    let ticket = h2c.submit(&buffer, 0..4096, 0)?;
    match h2c.poll(ticket) {
        Err(PollError::Engine(EngineError::Failed { snapshot }))
            if snapshot.ring.is_some_and(|ring| ring.write_back.is_error()) => {}
        other => bail!("a write-back with the error bit ended with {other:?}"),
    }
    h2c.recover()?;
    Ok(h2c.transfer(&buffer, 0..4096, 0, crate::count::LIMIT)?)
}

/// Takes the link down: registers of a card that is gone read all ones.
fn all_ones(control: &mut Control, open: Open) -> Result<()> {
    let card = open()?;
    let (mut h2c, buffer) = (card.h2c(0)?, card.allocate(4096, Direction::H2C)?);
    control.inject(json!({ "fault": "LinkDown" }))?;
    let ended = h2c.transfer(&buffer, 0..4096, 0, crate::count::LIMIT);
    match ended {
        Err(error) if matches!(error.engine(), Some(EngineError::Gone { .. })) => {}
        other => bail!("a transfer to a card that is gone ended with {other:?}"),
    }
    control.inject(json!({ "fault": "LinkUp" }))
}
