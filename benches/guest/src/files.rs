//! The counted calls of a program that uses the kernel module's device files. This program is both sides: it starts itself with
//! `xdma run`.

use crate::count::{SAMPLES, SIZES, counted};
use anyhow::{Context, Result, ensure};
use memmap2::MmapMut;
use serde_json::{Value, json};
use std::alloc::{Layout, alloc_zeroed};
use std::fs::OpenOptions;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::ptr::NonNull;

/// The argument that selects the program under `xdma run`.
pub const ROLE: &str = "files";
/// Instructions of a write with a kernel module, polled: Xilinx's for 4 KiB, the lower of Xilinx's and AWS's for the other sizes. These
/// are medians, so the medians of writes are compared with them, and the least of reads. `docs/migration.md` has the figures.
const LIMITS: [(&str, u64); 6] = [
    ("write 4096", 18_414),
    ("read 4096, at least", 18_414),
    ("write 65536", 10_345),
    ("read 65536, at least", 10_345),
    ("write 1048576", 106_386),
    ("read 1048576, at least", 106_386),
];
/// Number of first samples that the ranges leave out, since the first calls set up shared memory.
const FIRST: usize = 2;
/// Where the data lies in the card's memory.
const CARD: u64 = 0x1000;

/// Runs this program with `xdma run` and `options`, and returns its counts.
pub fn counts(card: &str, options: &[&str]) -> Result<Value> {
    let this = std::env::current_exe()?;
    let mut run = Command::new("xdma");
    let output = run.args(["run", "--card", card]).args(options).arg("--").arg(this).arg(ROLE).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the counts are not JSON")
}

/// Checks that calls through the broker take fewer instructions than `LIMITS`.
pub fn check(counts: &Value) -> Result<()> {
    for buffer in ["allocated", "mapped"] {
        for (call, limit) in LIMITS {
            let count = counts[buffer][call].as_u64().with_context(|| format!("no count of {call}"))?;
            ensure!(
                count < limit,
                "{call}: {count} instructions through the broker, and {limit} with a kernel module ({buffer} memory)"
            );
        }
    }
    Ok(())
}

/// Counts calls of each size, and compares the data. `allocated` buffers come from `malloc`, others from `mmap`.
pub fn count() -> Result<Value> {
    Ok(json!({ "allocated": count_with(Buffer::allocate)?, "mapped": count_with(Buffer::map)? }))
}

fn count_with(buffer: fn(usize) -> Result<Buffer>) -> Result<Value> {
    let open =
        |name: &str| OpenOptions::new().read(true).write(true).open(name).with_context(|| name.to_owned());
    let (h2c, c2h) = (open("/dev/xdma0_h2c_0")?, open("/dev/xdma0_c2h_0")?);
    let mut figures = json!({});
    for size in SIZES {
        let (mut writes, mut reads) = (vec![], vec![]);
        let (mut data, mut back) = (buffer(size as usize)?, buffer(size as usize)?);
        for sample in 0..SAMPLES as u64 {
            fill(&mut data, sample);
            let (written, count) = counted(|| h2c.write_at(&data, CARD));
            ensure!(written? == data.len(), "a write was short");
            writes.push(count);
            // The program also computes before this call. A call just after another takes another yield in most samples, because the
            // kernel then runs the same process again: the broker has yielded more often than the program has used its time.
            fill(&mut back, !sample);
            let (read, count) = counted(|| c2h.read_at(&mut back, CARD));
            ensure!(read? == back.len(), "a read was short");
            reads.push(count);
            ensure!(*back == *data, "the bytes read from the card differ from those written");
        }
        for (call, samples) in [("write", writes), ("read", reads)] {
            let (least, most) = (samples[FIRST..].iter().min(), samples[FIRST..].iter().max());
            figures[format!("{call} {size}, at least")] = least.copied().into();
            figures[format!("{call} {size}, at most")] = most.copied().into();
            figures[format!("{call} {size}")] = median(samples).into();
        }
    }
    Ok(figures)
}

/// Fills a buffer with bytes that depend on `seed`.
fn fill(buffer: &mut [u8], seed: u64) {
    for (byte, at) in buffer.iter_mut().zip(0u64..) {
        *byte = (at ^ at >> 8 ^ seed).wrapping_mul(0x9d) as u8;
    }
}

/// A buffer of whole pages.
enum Buffer {
    Allocated(NonNull<[u8]>),
    Mapped(MmapMut),
}

impl Buffer {
    fn allocate(size: usize) -> Result<Self> {
        let layout = Layout::from_size_align(size, 4096)?;
        // SAFETY: the size is not zero. The memory is never freed.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).context("out of memory")?;
        Ok(Self::Allocated(NonNull::slice_from_raw_parts(start, size)))
    }

    fn map(size: usize) -> Result<Self> {
        Ok(Self::Mapped(MmapMut::map_anon(size)?))
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            // SAFETY: the buffer has no other reference.
            Self::Allocated(memory) => unsafe { memory.as_ref() },
            Self::Mapped(memory) => memory,
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            // SAFETY: as above.
            Self::Allocated(memory) => unsafe { memory.as_mut() },
            Self::Mapped(memory) => memory,
        }
    }
}

/// Returns the median. These calls run kernel code, whose counts vary.
pub fn median(mut samples: Vec<u64>) -> u64 {
    samples.sort_unstable();
    samples[samples.len() / 2]
}
