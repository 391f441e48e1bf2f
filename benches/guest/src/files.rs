//! The counted calls of a program that uses the kernel module's device files. This program is both sides: it starts itself with
//! `xdma run`.

use crate::count::{SAMPLES, SIZES, counted};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::Command;

/// The argument that selects the program under `xdma run`.
pub const ROLE: &str = "files";
/// Where the data lies in the card's memory.
const CARD: u64 = 0x1000;

/// Runs this program with `xdma run` and returns its counts.
pub fn counts(card: &str) -> Result<Value> {
    let this = std::env::current_exe()?;
    let output = Command::new("xdma").args(["run", "--card", card, "--"]).arg(this).arg(ROLE).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the counts are not JSON")
}

/// Counts calls of each size, and compares the data.
pub fn count() -> Result<Value> {
    let open = |name: &str| OpenOptions::new().read(true).write(true).open(name).with_context(|| name.to_owned());
    let (h2c, c2h) = (open("/dev/xdma0_h2c_0")?, open("/dev/xdma0_c2h_0")?);
    let mut figures = json!({});
    for size in SIZES {
        let (mut writes, mut reads, mut back) = (vec![], vec![], vec![0; size as usize]);
        let mut data = back.clone();
        for sample in 0..SAMPLES as u64 {
            data.iter_mut().zip(0..).for_each(|(byte, at): (_, u64)| {
                *byte = (at ^ at >> 8 ^ sample).wrapping_mul(0x9d) as u8;
            });
            let (written, count) = counted(|| h2c.write_at(&data, CARD));
            ensure!(written? == data.len(), "a write was short");
            writes.push(count);
            let (read, count) = counted(|| c2h.read_at(&mut back, CARD));
            ensure!(read? == back.len(), "a read was short");
            reads.push(count);
            ensure!(back == data, "the bytes read from the card differ from those written");
        }
        figures[format!("write {size}")] = median(writes).into();
        figures[format!("read {size}")] = median(reads).into();
    }
    Ok(figures)
}

/// Returns the median. These calls run kernel code, whose counts vary.
fn median(mut samples: Vec<u64>) -> u64 {
    samples.sort_unstable();
    samples[samples.len() / 2]
}
