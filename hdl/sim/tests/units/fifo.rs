//! The FIFO, compared to a queue.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::collections::VecDeque;
use xdma_rtl::{Top, Unit};

/// `D` in the test top.
const DEPTH: usize = 5;

#[test]
fn fifo_behaves_like_a_queue() {
    let mut random = StdRng::seed_from_u64(3);
    let mut unit = Unit::new(Top::Parts);
    let mut queue = VecDeque::new();
    let (mut full, mut popped, mut flushed) = (0, 0, 0);
    for round in 0..20_000u32 {
        // Phases in which one side is faster, or both run at full rate.
        let (push, pop) = match round / 100 % 3 {
            0 => (0.9, 0.3),
            1 => (0.3, 0.9),
            _ => (1.0, 1.0),
        };
        let [push, pop, flush] = [push, pop, 0.01].map(|share| random.random_bool(share));
        let data: u8 = random.random();
        unit.input[3] = data;
        unit.input[4] = push as u8 | (pop as u8) << 1 | (flush as u8) << 2;
        unit.step();
        let output = &unit.output[12..];
        let (valid, ready, level) = (output[1] & 1 != 0, output[1] & 2 != 0, (output[1] >> 2 & 7) as usize);
        assert_eq!(level, queue.len());
        assert_eq!(ready, level < DEPTH);
        full += !ready as u32;
        if valid {
            assert_eq!(output[0], *queue.front().expect("valid implies a queued word"));
        }
        if flush {
            queue.clear();
            flushed += 1;
            continue;
        }
        if valid && pop {
            queue.pop_front();
            popped += 1;
        }
        if push && ready {
            queue.push_back(data);
        }
    }
    assert!(full > 1000 && popped > 5000 && flushed > 100, "{full} {popped} {flushed}");
}
