//! The emulated card, end to end: the `vfio_user` crate's client, a memory file, raw register accesses.

mod emulator {
    pub mod host;
}

use emulator::host::{Bench, CREDIT_RING, Desc, chain};
use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma::emulator::logic::{Loopback, Memory};
use xdma::emulator::{Options, Profile, Switches};

const H2C: u64 = 0x0000;
const C2H: u64 = 0x1000;

#[test]
fn f1_shows_its_identifiers() {
    let mut bench = Bench::new(Options::default());
    let seen: Vec<_> = [0x0, 0x300, 0x1000, 0x1300, 0x2000, 0x3000, 0x4200, 0x5100, 0x6000]
        .map(|address| bench.read(address))
        .into();
    let expected = [
        0x1fc0_0006,
        0x1fc0_0306,
        0x1fc1_0006,
        0x1fc1_0306,
        0x1fc2_0006,
        0x1fc3_0006,
        0x1fc4_0206,
        0x1fc5_0106,
        0x1fc6_0006,
    ];
    assert_eq!(seen, expected);
    assert_eq!(bench.read(0x400), 0);
    assert_eq!(bench.read(0x4c), 0x0001_0140);
    bench.clean();
}

#[test]
fn a_chain_of_adjacent_blocks_goes_there_and_back() {
    for seed in 0..8 {
        let mut bench = Bench::new(Options { seed, ..Options::default() });
        round_trip(&mut bench, 150, 4000);
        bench.clean();
    }
}

#[test]
fn synchronously_a_chain_is_done_with_its_doorbell() {
    let mut bench = Bench::new(Options { synchronous: true, ..Options::default() });
    let list = chain(0x1000, &[Desc::h2c(0x8_0000, 0, 0x1_0000)]);
    bench.start(H2C, &list, 0x0400_0001);
    assert_eq!(bench.word(0x100), 1);
    assert_eq!(bench.read(H2C + 0x40), 0);
    bench.clean();
}

fn round_trip(bench: &mut Bench, descriptors: u64, length: u64) {
    let (from, to, card) = (0x10_0000, 0x20_0000, 0x1234_5678);
    let data: Vec<u8> = (0..descriptors * length).map(|i| (i * 7 + i / 251) as u8).collect();
    bench.put(from, &data);
    let out: Vec<_> =
        (0..descriptors).map(|i| Desc::h2c(from + i * length, card + i * length, length as u32)).collect();
    let back: Vec<_> =
        (0..descriptors).map(|i| Desc::c2h(card + i * length, to + i * length, length as u32)).collect();
    bench.start(H2C + 0x100, &chain(0x1000, &out), 0x04ff_fe7f);
    assert_eq!(bench.wait_word(0x110, descriptors as u32), descriptors as u32);
    bench.start(C2H + 0x200, &chain(0x1000, &back), 0x04f8_3e7f);
    assert_eq!(bench.wait_word(0x160, descriptors as u32), descriptors as u32);
    assert_eq!(bench.get(to, data.len()), data);
    assert_eq!(bench.read(H2C + 0x148), descriptors as u32);
    assert_eq!(bench.read(H2C + 0x140), 0x6);
    assert_eq!(bench.read(H2C + 0x144), 0x6);
    assert_eq!(bench.read(H2C + 0x144), 0);
}

#[test]
fn credits_drive_a_closed_ring() {
    let mut bench = Bench::new(Options::default());
    let ring = CREDIT_RING;
    for slot in 0..ring.slots {
        let next = ring.base + (slot + 1) % ring.slots * 32;
        let from = 0x10_0000 + slot * 64;
        bench.put(ring.base + slot * 32, &Desc::h2c(from, slot * 64, 64).bytes(0x2, 0, next));
        bench.put(from, &[slot as u8 + 1; 64]);
    }
    bench.write(0x6014, 0x1);
    bench.write(0x6024, 0x1);
    bench.write(0x88, 0x100);
    bench.write(0x4080, ring.base as u32);
    bench.write(0x4088, 0);
    bench.write(0x04, 0x04ff_fe7f);
    bench.write(0x408c, 5);
    assert_eq!(bench.read(0x408c), 5, "fetch is halted");
    bench.write(0x6018, 0x1);
    assert_eq!(bench.wait_word(0x100, 5), 5);
    assert_eq!(bench.read(0x408c), 0);
    for more in [1, 7, 3] {
        bench.write(0x408c, more);
    }
    assert_eq!(bench.wait_word(0x100, 16), 16);
    let mut seen = [0; 512];
    bench.memory().peek(0, &mut seen);
    assert!(seen.chunks(64).zip(1..).all(|(chunk, value)| chunk.iter().all(|&byte| byte == value)));
    bench.write(0x0c, 1);
    bench.wait_register(0x40, 0x41, 0x40);
    bench.clean();
}
