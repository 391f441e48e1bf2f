//! How fast the card takes data, against a plain copy of the same bytes in the same run.
//!
//! `cargo test --release --test emulator -- --ignored --nocapture throughput`

use crate::host::{Bench, Desc, chain};
use memmap2::MmapMut;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vm_memory::VolatileSlice;
use xdma::emulator::Options;
use xdma::emulator::logic::{Answer, Burst, Logic, Shell};

/// The bytes of 2^20 pairs of a scalar and a point.
const BYTES: usize = 96 << 20;
/// Chunks of 1,024 scalars and 1,024 points.
const CHUNKS: [usize; 2] = [32 << 10, 64 << 10];
const REPETITIONS: usize = 5;

/// Takes everything and copies it to memory of its own.
struct Sink(Mutex<(MmapMut, usize)>);

impl Logic for Sink {
    fn attach(&self, _: Arc<dyn Shell>) {}

    fn write(&self, _: usize, _: u64, _: Burst, data: &VolatileSlice) -> Answer {
        let mut sink = self.0.lock().unwrap();
        let (memory, at) = &mut *sink;
        let n = data.copy_to(&mut memory[*at..*at + data.len()]);
        *at = (*at + n) % BYTES;
        Answer::Okay(n)
    }

    fn read(&self, _: usize, _: u64, _: Burst, _: &VolatileSlice) -> Answer {
        Answer::SlaveError
    }

    fn user_read(&self, _: usize, _: u64) -> u32 {
        0
    }

    fn user_write(&self, _: usize, _: u64, _: u32) {}

    fn reset(&self) {}
}

fn memory(bytes: usize) -> MmapMut {
    let mut memory = MmapMut::map_anon(bytes).unwrap();
    memory.fill(1);
    memory
}

fn best(mut run: impl FnMut()) -> Duration {
    let time = |_| {
        let begin = Instant::now();
        run();
        begin.elapsed()
    };
    (0..REPETITIONS).map(time).min().unwrap()
}

#[test]
#[ignore = "a measurement"]
fn throughput() {
    let sink = Arc::new(Sink(Mutex::new((memory(BYTES), 0))));
    let mut bench = Bench::with_logic(Options::default(), sink.clone());
    let source = tempfile::tempfile().unwrap();
    source.set_len(BYTES as u64).unwrap();
    // SAFETY: the file is this test's own, and the card only reads it.
    let mut source_memory = unsafe { MmapMut::map_mut(&source).unwrap() };
    for (i, byte) in source_memory.iter_mut().enumerate() {
        *byte = (i * 31 + i / 4096) as u8;
    }
    use std::os::fd::AsRawFd;
    bench.client.dma_map(0, 1 << 32, BYTES as u64, source.as_raw_fd()).unwrap();

    let mut at = 0;
    let mut program = Vec::new();
    while at < BYTES {
        for length in CHUNKS {
            program.push(Desc::h2c((1 << 32) + at as u64, at as u64, length as u32));
            at += length;
        }
    }
    let list = chain(0x1_0000, &program);

    let mut copy = memory(BYTES);
    let plain = best(|| copy.copy_from_slice(&source_memory));
    let fed = best(|| {
        bench.start(0, &list, 0x0400_0001);
        assert_eq!(bench.wait_word(0x100, program.len() as u32), program.len() as u32);
    });
    assert!(sink.0.lock().unwrap().0[..] == source_memory[..]);
    bench.clean();
    let rate = |time: Duration| BYTES as f64 / time.as_secs_f64() / 1e9;
    println!(
        "{} descriptors: card {:.2} GB/s, copy {:.2} GB/s, ratio {:.2}",
        program.len(),
        rate(fed),
        rate(plain),
        plain.as_secs_f64() / fed.as_secs_f64()
    );
    let begin = Instant::now();
    for _ in 0..10_000 {
        bench.read(0);
    }
    println!("register read {:.1} us", begin.elapsed().as_secs_f64() * 100.0);
}
