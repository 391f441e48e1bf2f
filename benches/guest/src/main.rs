//! Counts instructions in a virtual machine whose clock is its instruction count (`-icount shift=0`). In it, the difference between
//! two values of the time-stamp counter is the number of instructions between them.
//!
//! The counted calls are those of `examples/loopback`: from `submit` to the return of `wait`. The card finishes a transfer before
//! the doorbell's write returns, so the first poll of `wait` succeeds. `wait` reads no clock before its 1,024th poll. Afterwards,
//! the program checks that the same calls report errors.
//!
//! `xdma-guest BDF CONTROL` prints one line of JSON. CONTROL is the serial line to the `--control` of the emulated card.

mod control;
mod count;
mod faults;
mod files;
mod switches;

use anyhow::{Context, Result, ensure};
use control::Control;
use serde_json::{Value, json};
use xdma::card::{Card, CardOptions};

const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let card = arguments.next().context("missing argument: the PCI address of the card")?;
    if card == files::ROLE {
        println!("{}", files::count()?);
        return Ok(());
    }
    if card == switches::ROLE {
        return switches::answer();
    }
    let address = card.parse()?;
    let mut control =
        Control::open(&arguments.next().context("missing argument: the serial line to the card's control")?)?;
    let clock = std::fs::read_to_string(CLOCK).context(CLOCK)?;
    ensure!(
        clock.trim() == "tsc",
        "the clock source is {}, not tsc: its values are not instruction counts",
        clock.trim()
    );
    let open = || Card::open(address, CardOptions::default());
    control.load(synchronous, json!("Memory"))?;
    let transfers = count::transfers(&open()?)?;
    control.load(synchronous, count::design())?;
    let program = count::program(&open()?)?;
    faults::are_reported(&mut control, &open)?;
    control.load(synchronous, json!("Memory"))?;
    let files = files::counts(&card, &[])?;
    files::check(&files)?;
    let exclusive = files::counts(&card, &["--exclusive"])?;
    println!(
        "{}",
        json!({
            "transfers": transfers, "program": program, "files": files, "exclusive files": exclusive,
            "two switches": switches::count()?,
        })
    );
    Ok(())
}

/// Makes the card execute everything that a register write starts before the write returns.
fn synchronous(options: &mut Value) {
    options["synchronous"] = true.into();
}
