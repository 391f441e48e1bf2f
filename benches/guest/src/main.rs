//! Counts instructions in a virtual machine whose clock is its instruction count (`-icount shift=0`): there, a difference of
//! two readings of the time-stamp counter is the number of instructions between them.
//!
//! What is counted are the public calls that `examples/loopback` makes: from before `submit` to the return of `wait`, whose
//! first poll finds the transfer done, as the card finishes it before the doorbell's write returns.
//! `wait` reads no clock before its 1,024th poll. The same calls are then shown to report what goes wrong.
//!
//! `xdma-guest BDF CONTROL` prints one line of JSON; CONTROL is the line to the emulated card's `--control`.

mod control;
mod count;
mod faults;

use anyhow::{Context, Result, ensure};
use control::Control;
use serde_json::{Value, json};
use xdma::card::{Card, CardOptions};

const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("which card? give its PCI address")?.parse()?;
    let mut control = Control::open(&arguments.next().context("where is the line to the card's control?")?)?;
    let clock = std::fs::read_to_string(CLOCK).context(CLOCK)?;
    ensure!(clock.trim() == "tsc", "the clock is {}, not tsc: its readings are no counts", clock.trim());
    let open = || Card::open(address, CardOptions::default());
    control.load(synchronous, json!("Memory"))?;
    let transfers = count::transfers(&open()?)?;
    control.load(synchronous, count::design())?;
    let program = count::program(&open()?)?;
    faults::are_reported(&mut control, &open)?;
    println!("{}", json!({ "transfers": transfers, "program": program }));
    Ok(())
}

/// The card finishes what a register write starts before the write returns.
fn synchronous(options: &mut Value) {
    options["synchronous"] = true.into();
}
