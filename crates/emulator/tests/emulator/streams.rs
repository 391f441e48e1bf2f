//! AXI-Stream channels with the loopback.

use crate::host::{Bench, Desc, List, chain};
use std::sync::Arc;
use xdma_emulator::logic::Loopback;
use xdma_emulator::{EmulatorOptions, Switches};

const OUT: u32 = 0x04ff_fe7f;
const BACK: u32 = 0x04f8_3e7f;

fn bench(depth: usize) -> Bench {
    let options = EmulatorOptions::default().with_streams();
    Bench::with_logic(options, Arc::new(Loopback::with_depth(depth)))
}

/// Builds consecutive descriptors, each with Completed, the last one with Stop.
fn list(base: u64, descriptors: &[(Desc, u32)]) -> List {
    let mut bytes = Vec::new();
    for (&(desc, flags), next) in descriptors.iter().zip(1..) {
        let stop = u32::from(next == descriptors.len() as u64);
        bytes.extend(desc.bytes(2 | stop | flags, 0, base + 32 * next));
    }
    List { base, bytes, adjacent: 0 }
}

#[test]
fn identifiers_have_the_stream_bit() {
    let mut bench = bench(64);
    assert_eq!([bench.read(0x0), bench.read(0x1300)], [0x1fc0_8006, 0x1fc1_8306]);
}

#[test]
fn packets_return_with_their_lengths() {
    // The smaller FIFO is shallower than a packet, so the sender has to wait.
    for depth in [100, 1 << 16] {
        let mut bench = bench(depth);
        let data: Vec<u8> = (0..3000u32).map(|i| (i * 11) as u8).collect();
        bench.put(0x8000, &data);
        // A packet of two descriptors, then a packet of one.
        let out = [
            (Desc::h2c(0x8000, 0, 1000), 0),
            (Desc::h2c(0x8000 + 1000, 0, 500), 0x10),
            (Desc::h2c(0x8000 + 1500, 0, 1500), 0x10),
        ];
        let back: Vec<_> = (0..4u64)
            .map(|i| (Desc { source: 0x600 + 32 * i, destination: 0x1_0000 + 1024 * i, length: 1024 }, 0))
            .collect();
        bench.start(0x1100, &list(0x3000, &back), BACK);
        bench.start(0x100, &list(0x1000, &out), OUT);
        assert_eq!(bench.wait_word(0x150, 4), 4);
        assert_eq!(bench.wait_word(0x110, 3), 3);
        let metadata: Vec<_> =
            (0..4).map(|i| (bench.word(0x600 + 32 * i), bench.word(0x604 + 32 * i))).collect();
        assert_eq!(
            metadata,
            [(0x52b4_0000, 1024), (0x52b4_0001, 476), (0x52b4_0000, 1024), (0x52b4_0001, 476)]
        );
        let packet = |at: u64| [bench.get(at, 1024), bench.get(at + 1024, 476)].concat();
        assert_eq!([packet(0x1_0000), packet(0x1_0800)].concat(), data);
        bench.clean();
    }
}

#[test]
fn metadata_can_be_switched_off() {
    let mut bench = bench(4096);
    bench.put(0x8000, &[9; 64]);
    bench.put(0x600, &[0xee; 8]);
    bench.start(0, &list(0x1000, &[(Desc::h2c(0x8000, 0, 64), 0x10)]), OUT);
    let back = Desc { source: 0x600, destination: 0x9000, length: 128 };
    bench.start(0x1000, &list(0x2000, &[(back, 0)]), BACK | 1 << 27);
    assert_eq!(bench.wait_word(0x140, 1), 1);
    assert_eq!((bench.get(0x600, 8), bench.get(0x9000, 64)), (vec![0xee; 8], vec![9; 64]));
}

#[test]
fn unaligned_lengths_are_logged_if_enabled() {
    let mut bench = bench(4096);
    let back = Desc { source: 0x600, destination: 0x9000, length: 100 };
    bench.start(0x1000, &list(0x1000, &[(back, 0)]), BACK);
    bench.wait_register(0x1040, 0xffff_ffff, 0x20);
}

#[test]
fn credits_keep_a_receiver_running() {
    let mut bench = bench(4096);
    let ring: Vec<u8> = (0..4u64)
        .flat_map(|i| {
            let desc = Desc { source: 0x600 + 32 * i, destination: 0x9000 + 64 * i, length: 64 };
            desc.bytes(2, 0, 0x2000 + (i + 1) % 4 * 32)
        })
        .collect();
    bench.write(0x6024, 1 << 16);
    bench.start(0x1000, &List { base: 0x2000, bytes: ring, adjacent: 0 }, BACK);
    bench.write(0x508c, 4);
    for packet in 1..=20u32 {
        bench.put(0x8000, &[packet as u8; 32]);
        bench.start(0, &chain(0x1000, &[Desc::h2c(0x8000, 0, 32)]), OUT);
        assert_eq!(bench.wait_word(0x100, 1), 1);
        // Without EOP, the descriptor is filled up with the next packet.
        assert_eq!(bench.wait_word(0x140, packet / 2), packet / 2);
        bench.wait_register(0x40, 1, 0);
        if packet % 2 == 0 {
            bench.write(0x508c, 1);
        }
    }
    bench.clean();
}

#[test]
fn stopping_an_idle_receiver_follows_the_switch() {
    for stop_ends_idle_stream in [false, true] {
        let switches =
            Switches { stop_ends_idle_stream: stop_ends_idle_stream.into(), ..Switches::default() };
        let options = EmulatorOptions::default().with_streams().with_switches(switches);
        let mut bench = Bench::with_logic(options, Arc::new(Loopback::new()));
        let back = Desc { source: 0x600, destination: 0x9000, length: 64 };
        bench.start(0x1000, &list(0x2000, &[(back, 0)]), BACK);
        std::thread::sleep(std::time::Duration::from_millis(5));
        bench.write(0x100c, 1);
        if stop_ends_idle_stream {
            bench.wait_register(0x1040, 0x41, 0x40);
        } else {
            std::thread::sleep(std::time::Duration::from_millis(5));
            assert_eq!(bench.read(0x1040), 1);
            bench.start(0, &list(0x1000, &[(Desc::h2c(0x8000, 0, 64), 0x10)]), OUT);
            bench.wait_register(0x1040, 0x47, 0x46);
        }
        bench.clean();
    }
}
