//! The least that a call through another process costs on a single processor: two processes that take turns, and do nothing else.

use crate::count::{SAMPLES, counted};
use crate::files::median;
use anyhow::{Context, Result};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::yield_now;

/// The argument that selects the other process.
pub const ROLE: &str = "switches";
/// The file with the word that both processes map.
const FILE: &str = "/tmp/switches";
/// The values of the word.
const FIRST: u32 = 0;
const OTHER: u32 = 1;
const END: u32 = 2;
/// Number of rounds of a loop between two samples, which take about as many instructions as to fill a buffer of 64 KiB.
const ROUNDS: u32 = 100_000;

fn map() -> Result<MmapRaw> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(FILE)?;
    file.set_len(4096)?;
    MmapOptions::new().len(4096).map_raw(&file).context(FILE)
}

fn word(page: &MmapRaw) -> &AtomicU32 {
    // SAFETY: the mapping is aligned and long enough, and both processes access the word only atomically.
    unsafe { &*page.as_ptr().cast() }
}

/// Counts the instructions from the change of the word until the other process has changed it back: two switches.
pub fn count() -> Result<u64> {
    let page = map()?;
    let word = word(&page);
    word.store(FIRST, Ordering::Release);
    let mut other = Command::new(std::env::current_exe()?).arg(ROLE).spawn()?;
    let mut samples = vec![];
    for _ in 0..SAMPLES {
        (0..ROUNDS).for_each(|_| std::hint::spin_loop());
        let ((), count) = counted(|| {
            word.store(OTHER, Ordering::Release);
            while word.load(Ordering::Acquire) != FIRST {
                yield_now();
            }
        });
        samples.push(count);
    }
    word.store(END, Ordering::Release);
    other.wait()?;
    Ok(median(samples))
}

/// The other process: gives each turn back.
pub fn answer() -> Result<()> {
    let page = map()?;
    let word = word(&page);
    loop {
        match word.load(Ordering::Acquire) {
            OTHER => word.store(FIRST, Ordering::Release),
            END => return Ok(()),
            _ => yield_now(),
        }
    }
}
