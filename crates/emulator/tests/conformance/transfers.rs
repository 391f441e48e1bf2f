//! Memory-mapped transfers: byte alignment, AXI limits, fixed addresses, concurrent channels.

use crate::fabric::SINK;
use crate::host::{COMPLETED, Host, STOP, descriptor, pattern};
use crate::rig::{Channel, DATA, LIST, Piece, RTL, Rig, both_times, c2h, channels, h2c, pieces, synchronous};
use std::time::Duration;
use xdma_emulator::{EmulatorOptions, Latency};

/// Returns the card addresses that a transfer of `len` bytes at `at` accesses. AXI4 has strobes for writes only, and the engine of
/// `hdl/rtl/dma` reads whole beats.
fn accessed(channel: Channel, at: u64, len: u64) -> std::ops::Range<u64> {
    let beat = if RTL && !channel.to_card { 64 } else { 1 };
    at / beat * beat..(at + len).next_multiple_of(beat)
}

/// PG195 alignment table: incrementing memory-mapped transfers support any address and any length.
#[test]
fn any_address_and_any_length() {
    for options in both_times() {
        let mut rig = Rig::new(options);
        for channel in [h2c(0), c2h(0)] {
            let cases = [
                (0, 0, 1),
                (1, 0, 1),
                (3, 5, 2),
                (63, 1, 64),
                (0, 4095, 2),
                (4095, 0, 4097),
                (7, 4090, 12345),
            ];
            let list: Vec<Piece> = cases
                .iter()
                .enumerate()
                .map(|(i, &(host, card, len))| Piece {
                    host: DATA + 0x8000 * i + host,
                    card: 0x8000 * i as u64 + card,
                    len,
                })
                .collect();
            let expected = rig.fill(channel, &list, 1);
            let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
            rig.run(channel, LIST, adjacent, 0x1e);
            assert_eq!(
                (rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)),
                (0x06, cases.len() as u32)
            );
            rig.check(channel, &list, &expected);
        }
    }
}

/// No byte outside the destination is touched.
#[test]
fn neighbours_of_the_destination_are_untouched() {
    let mut rig = Rig::new(synchronous());
    for len in [1, 3, 64, 100, 4096] {
        rig.host.write(DATA, &vec![0xaa; 0x3000]);
        rig.fabric.poke(0x1_0000, &vec![0xbb; 0x3000]);
        for channel in [c2h(0), h2c(0)] {
            let piece = Piece { host: DATA + 0x7ff, card: 0x1_07fd, len };
            rig.host.put(LIST, piece.descriptor(&rig.host, channel, STOP, 0, 0));
            rig.run(channel, LIST, 0, 0);
            assert_eq!(rig.read(channel.base + 0x48), 1);
        }
        assert!(rig.host.read(DATA, 0x7ff).iter().all(|byte| *byte == 0xaa));
        assert!(rig.host.read(DATA + 0x7ff, len as usize).iter().all(|byte| *byte == 0xbb));
        assert!(rig.host.read(DATA + 0x7ff + len as usize, 0x1000).iter().all(|byte| *byte == 0xaa));
        assert!(rig.fabric.peek(0x1_0000, 0x3000).iter().all(|byte| *byte == 0xbb));
    }
}

/// AXI bursts do not cross 4 KiB, are in order, cover everything exactly once, and carry the channel number as their ID.
#[test]
fn axi_transfers_are_in_order_and_within_4_kib() {
    let mut rig = Rig::new(synchronous());
    for channel in channels() {
        let piece = Piece { host: DATA + 5, card: 0x7_0000_0f00, len: 20_000 };
        rig.host.put(LIST, piece.descriptor(&rig.host, channel, STOP, 0, 0));
        let before = rig.fabric.calls().len();
        rig.run(channel, LIST, 0, 0x1e);
        let std::ops::Range { start: mut at, end } = accessed(channel, piece.card, 20_000);
        for call in &rig.fabric.calls()[before..] {
            assert_eq!((call.channel, call.write, call.fixed), (channel.number, channel.to_card, false));
            assert_eq!(call.address, at);
            assert!(call.len > 0 && (call.address & 0xfff) + call.len as u64 <= 4096, "{call:x?}");
            at += call.len as u64;
        }
        assert_eq!(at, end);
    }
}

/// Control bit 25: every beat goes to the same card address, in both directions.
#[test]
fn fixed_addresses_do_not_move() {
    let mut rig = Rig::new(synchronous());
    for channel in [h2c(0), c2h(0)] {
        let list: Vec<Piece> =
            (0..3).map(|i| Piece { host: DATA + 0x1000 * i, card: 0x4_0000, len: 512 }).collect();
        let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
        let before = rig.fabric.calls().len();
        rig.run(channel, LIST, adjacent, 0x0200_001e);
        assert_eq!((rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)), (0x06, 3));
        let calls = rig.fabric.calls().split_off(before);
        assert!(calls.iter().all(|call| call.fixed && call.address == 0x4_0000), "{calls:x?}");
        assert_eq!(calls.iter().map(|call| call.len).sum::<usize>(), 3 * 512);
        // Without the bit, the address increments again.
        rig.run(channel, LIST, adjacent, 0x1e);
        assert!(rig.fabric.calls().last().is_some_and(|call| !call.fixed));
    }
}

#[test]
fn card_addresses_have_64_bits() {
    let mut rig = Rig::new(synchronous());
    for card in [0x1f_ffff_f000u64, 0xffff_ffff_0000, 0x8000_0000_0000_0000] {
        let piece = Piece { host: DATA, card, len: 3000 };
        for channel in [h2c(0), c2h(0)] {
            let expected = rig.fill(channel, &[piece], card);
            rig.host.put(LIST, piece.descriptor(&rig.host, channel, STOP, 0, 0));
            rig.run(channel, LIST, 0, 0x1e);
            rig.check(channel, &[piece], &expected);
        }
    }
}

/// The vendor driver's longest run: 2048 descriptors.
#[test]
fn a_run_of_2048_descriptors() {
    for options in both_times() {
        let mut rig = Rig::new(options);
        for channel in [h2c(0), c2h(0)] {
            let list = pieces(2048, 700);
            let expected = rig.fill(channel, &list, 5);
            let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED | 0x10);
            rig.run(channel, LIST, adjacent, 0x1e);
            assert_eq!((rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)), (0x06, 2048));
            rig.check(channel, &list, &expected);
        }
    }
}

/// One descriptor moves a megabyte.
#[test]
fn one_descriptor_moves_a_megabyte() {
    let mut rig = Rig::new(EmulatorOptions::default());
    for channel in [h2c(0), c2h(0)] {
        let piece = Piece { host: DATA + 1, card: 0x10_0001, len: 1 << 20 };
        let expected = rig.fill(channel, &[piece], 5);
        rig.host.put(LIST, piece.descriptor(&rig.host, channel, STOP | COMPLETED, 0, 0));
        rig.run(channel, LIST, 0, 0x1e);
        rig.check(channel, &[piece], &expected);
    }
}

/// Four channels in each direction at the same time, each with its own list and data.
#[test]
fn all_channels_run_at_once() {
    for seed in 0..3 {
        let mut rig = Rig::new(EmulatorOptions { seed, ..EmulatorOptions::default() });
        let lists: Vec<(Channel, usize, Vec<Piece>)> = channels()
            .into_iter()
            .enumerate()
            .map(|(n, channel)| {
                let piece = |i: usize| Piece {
                    host: DATA + 0x3_0000 * n + 1500 * i,
                    card: 0x100_0000 * (n as u64 + 1) + 1700 * i as u64,
                    len: 1400,
                };
                (channel, LIST + 0x2000 * n, (0..100).map(piece).collect())
            })
            .collect();
        let expected: Vec<_> =
            lists.iter().map(|(channel, _, list)| rig.fill(*channel, list, seed + channel.base)).collect();
        rig.write(0x6014, 0x000f_000f);
        for (channel, at, list) in &lists {
            let adjacent = rig.lay(*channel, *at, list, 0, STOP | COMPLETED);
            rig.go(*channel, *at, adjacent, 0x1e);
        }
        rig.write(0x6018, 0x000f_000f);
        for ((channel, _, list), expected) in lists.iter().zip(&expected) {
            rig.until("the list is done", |rig| rig.read(channel.base + 0x48) == 100);
            rig.idle(*channel);
            assert_eq!(rig.read(channel.base + 0x44), 0x06);
            rig.check(*channel, list, expected);
        }
    }
}

/// Data is written to the card and read back through another channel.
#[test]
fn data_round_trips() {
    let mut rig = Rig::new(EmulatorOptions::default());
    let bytes = pattern(9, 100_000);
    rig.host.write(DATA, &bytes);
    rig.host.put(LIST, descriptor(STOP, 0, 100_000, rig.host.at(DATA), 0x77_0001, 0));
    rig.run(h2c(2), LIST, 0, 0x1e);
    rig.host.put(LIST, descriptor(STOP, 0, 100_000, 0x77_0001, rig.host.at(DATA + 0x4_0003), 0));
    rig.run(c2h(1), LIST, 0, 0x1e);
    assert!(rig.host.read(DATA + 0x4_0003, 100_000) == bytes);
}

/// The maximum length of 28 bits, 256 MiB minus one byte, in one descriptor. On the host side, the same memory is mapped
/// repeatedly.
#[test]
fn the_longest_descriptor() {
    const LONGEST: u32 = 0x0fff_ffff;
    // With few channels, the simulation of an engine is faster.
    let options = EmulatorOptions { latency: Latency::NONE, ..EmulatorOptions::default() };
    let mut rig = Rig::new(options.with_channels(1, 1));
    let (base, len) = (0x40_0000_0000, rig.host.len() as u64);
    for i in 0..64 {
        rig.client.dma_map(0, base + i * len, len, rig.host.fd()).expect("memory is mapped");
    }
    for (channel, from, to) in [(h2c(0), base, SINK + 1), (c2h(0), SINK + 1, base)] {
        // C2H overwrites the whole host memory, so the list is in separate memory.
        let list = Host::new(0x9000_0000, 0x1000);
        rig.client.dma_map(0, list.iova, 0x1000, list.fd()).expect("memory is mapped");
        list.put(0, descriptor(STOP | COMPLETED, 0, LONGEST, from, to, 0));
        let before = rig.fabric.calls().len();
        rig.write(channel.base + 0x04, 0);
        rig.first(channel, list.iova, 0);
        rig.write(channel.base + 0x04, 0x1f);
        rig.until_within(Duration::from_secs(110), "it is done", |rig| rig.read(channel.base + 0x48) == 1);
        rig.idle(channel);
        assert_eq!(rig.read(channel.base + 0x44), 0x06);
        let calls = rig.fabric.calls().split_off(before);
        let expected = accessed(channel, SINK + 1, LONGEST.into());
        let total = calls.iter().map(|call| call.len as u64).sum::<u64>();
        assert_eq!(total, expected.end - expected.start);
        assert_eq!(calls.last().map(|call| call.address + call.len as u64), Some(expected.end));
        rig.client.dma_unmap(list.iova, 0x1000).expect("memory is unmapped");
    }
}

/// Adjacent maps are contiguous for the card: payload, descriptors and fetched blocks may span them.
#[test]
fn payload_and_lists_may_span_maps() {
    let mut rig = Rig::new(synchronous());
    let [low, high] = [0x8000_0000, 0x8000_1000].map(|iova| Host::new(iova, 0x1000));
    for host in [&low, &high] {
        rig.client.dma_map(0, host.iova, 0x1000, host.fd()).expect("memory is mapped");
    }
    low.write(0xf00, &pattern(1, 0x100));
    high.write(0, &pattern(2, 0x100));
    rig.host.put(LIST, descriptor(STOP, 0, 0x200, low.at(0xf00), 0x4_0000, 0));
    rig.run(h2c(0), LIST, 0, 0x1e);
    assert_eq!(rig.read(0x48), 1);
    assert!(rig.fabric.peek(0x4_0000, 0x200) == [pattern(1, 0x100), pattern(2, 0x100)].concat());
    rig.host.put(LIST, descriptor(STOP, 0, 0x200, 0x4_0000, low.at(0xe80), 0));
    rig.run(c2h(0), LIST, 0, 0x1e);
    assert!([low.read(0xe80, 0x180), high.read(0, 0x80)].concat() == rig.fabric.peek(0x4_0000, 0x200));
}

/// Unmapped memory is inaccessible until it is mapped again.
#[test]
fn unmapped_memory_is_inaccessible() {
    let mut rig = Rig::new(synchronous());
    let memory = Host::new(0x8000_0000, 0x1000);
    rig.host.put(LIST, descriptor(STOP, 0, 64, memory.iova, 0x100, 0));
    for _ in 0..3 {
        rig.client.dma_map(0, memory.iova, 0x1000, memory.fd()).expect("memory is mapped");
        rig.run(h2c(0), LIST, 0, 0x00ff_fe7e);
        assert_eq!(rig.read(0x40), 0x02);
        rig.client.dma_unmap(memory.iova, 0x1000).expect("memory is unmapped");
        rig.run(h2c(0), LIST, 0, 0x00ff_fe7e);
        assert_eq!(rig.read(0x40), 0x200);
    }
}
