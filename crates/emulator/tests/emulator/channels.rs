//! Memory-mapped channels: chains, credits, stopping, counters.

use crate::host::{Bench, CREDIT_RING, Desc, List, chain};
use xdma_emulator::{CardFile, EmulatorOptions};

const H2C: u64 = 0x0000;
const C2H: u64 = 0x1000;

#[test]
fn f1_shows_its_identifiers() {
    let mut bench = Bench::new(EmulatorOptions::default());
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
fn a_chain_of_adjacent_blocks_round_trips() {
    for seed in 0..8 {
        let mut bench = Bench::new(EmulatorOptions { seed, ..EmulatorOptions::default() });
        round_trip(&mut bench, 150, 4000);
        bench.clean();
    }
}

#[test]
fn a_synchronous_doorbell_write_completes_a_chain() {
    let mut bench = Bench::new(EmulatorOptions { synchronous: true, ..EmulatorOptions::default() });
    let list = chain(0x1000, &[Desc::h2c(0x8_0000, 0, 0x1_0000)]);
    bench.start(H2C, &list, 0x0400_0001);
    assert_eq!(bench.wait_word(0x100, 1), 1);
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
    let mut bench = Bench::new(EmulatorOptions::default());
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
    bench.wait_register(0x40, 0x1, 0);
    let mut seen = [0; 512];
    bench.memory().peek(0, &mut seen);
    assert!(seen.chunks(64).zip(1..).all(|(chunk, value)| chunk.iter().all(|&byte| byte == value)));
    bench.write(0x0c, 1);
    bench.wait_register(0x40, 0x41, 0x40);
    bench.clean();
}

#[test]
fn alveo_has_its_registers_in_the_other_bar() {
    let mut bench = Bench::new(EmulatorOptions { card: CardFile::alveo(), ..EmulatorOptions::default() });
    assert_eq!(bench.read(0x2000), 0x1fc2_0006);
    assert_eq!(bench.config(0), 0x903f_10ee);
    round_trip(&mut bench, 3, 100);
    bench.clean();
}

#[test]
fn absent_channels_read_as_zero() {
    let mut bench = Bench::new(EmulatorOptions::default().with_channels(1, 2));
    assert_eq!([bench.read(0x0), bench.read(0x100), bench.read(0x4100)], [0x1fc0_0006, 0, 0]);
    assert_eq!([bench.read(0x1100), bench.read(0x1200)], [0x1fc1_0106, 0]);
    bench.write(0x2014, !0);
    assert_eq!(bench.read(0x2010), 0x7, "one bit for each channel");
    bench.write(0x6020, !0);
    assert_eq!(bench.read(0x6020), 0x0003_0001);
}

#[test]
fn payload_may_span_maps_at_any_byte_offset() {
    let mut bench = Bench::new(EmulatorOptions::default());
    // Map the host's pages in reverse order, each with its own map.
    for page in 0..8u64 {
        let iova = 0x4000_0000 + page * 0x1000;
        bench.map(iova, 0x1000, 0x40_0000 + (7 - page) * 0x1000);
    }
    let data: Vec<u8> = (0..20_000u32).map(|i| (i * 13 + i / 256) as u8).collect();
    let scattered = |bench: &mut Bench, base: u64, data: Option<&[u8]>| {
        let mut seen = vec![0; 20_000];
        for (i, byte) in seen.iter_mut().enumerate() {
            let at = base + i as u64;
            let file = 0x40_0000 + (7 - (at >> 12 & 7)) * 0x1000 + (at & 0xfff);
            match data {
                Some(data) => bench.put(file, &data[i..=i]),
                None => *byte = bench.get(file, 1)[0],
            }
        }
        seen
    };
    scattered(&mut bench, 0x4000_0123, Some(&data));
    bench.start(H2C, &chain(0x1000, &[Desc::h2c(0x4000_0123, 0xfff, 20_000)]), 0x0400_0001);
    assert_eq!(bench.wait_word(0x100, 1), 1);
    let mut seen = vec![0; 20_000];
    bench.memory().peek(0xfff, &mut seen);
    assert_eq!(seen, data);
    bench.start(C2H, &chain(0x1000, &[Desc::c2h(0xfff, 0x4000_0777, 20_000)]), 0x0400_0001);
    assert_eq!(bench.wait_word(0x140, 1), 1);
    assert_eq!(scattered(&mut bench, 0x4000_0777, None), data);
    bench.clean();
}

#[test]
fn an_endless_list_runs_until_run_is_cleared() {
    for synchronous in [false, true] {
        let mut bench = Bench::new(EmulatorOptions { synchronous, ..EmulatorOptions::default() });
        let ring = [0x1000, 0x1020].map(|at| Desc::h2c(0x8000, 0, 64).bytes(0, 0, 0x2020 - at));
        assert_eq!(ring[0][24..28], 0x1020u32.to_le_bytes());
        let list = List { base: 0x1000, bytes: ring.concat(), adjacent: 0 };
        bench.write(0xc0, 0x2);
        bench.write(0xc0, 0x5);
        bench.start(H2C, &list, 0x0000_0041);
        bench.wait_register(0x40, 0x1, 0x1);
        while bench.read(0x48) < 100 {}
        bench.write(0x04, 0x0000_0040);
        bench.wait_register(0x40, 0x41, 0x40);
        let count = bench.read(0x48);
        assert_eq!(bench.read(0x48), count);
        let (clocks, data) = (bench.read(0xc4), bench.read(0xcc));
        assert_eq!(data, count, "a beat a descriptor");
        assert!(clocks >= data);
        bench.clean();
    }
}

#[test]
fn a_fixed_address_receives_every_beat() {
    let mut bench = Bench::new(EmulatorOptions::default());
    let data: Vec<u8> = (0..256u32).map(|i| i as u8).collect();
    bench.put(0x8000, &data);
    bench.start(H2C, &chain(0x1000, &[Desc::h2c(0x8000, 0x40, 256)]), 0x0600_0009);
    assert_eq!(bench.wait_word(0x100, 1), 1);
    let mut seen = [0; 128];
    bench.memory().peek(0x40, &mut seen);
    assert_eq!((&seen[..64], &seen[64..]), (&data[192..], &[0; 64][..]));
    bench.start(C2H, &chain(0x1000, &[Desc::c2h(0x40, 0x9000, 128)]), 0x0600_0009);
    assert_eq!(bench.wait_word(0x140, 1), 1);
    assert_eq!(bench.get(0x9000, 128), [&data[192..], &data[192..]].concat());
    bench.start(H2C, &chain(0x1000, &[Desc::h2c(0x8001, 0x40, 64)]), 0x0600_0009);
    bench.wait_register(0x40, 0x9, 0x8);
    bench.clean();
}

#[test]
fn all_channels_run_at_once() {
    let mut bench = Bench::new(EmulatorOptions::default());
    for channel in 0..4u64 {
        let list = chain(0x1_0000 + channel * 0x1000, &[Desc::h2c(0x10_0000, channel << 20, 1 << 20)]);
        bench.start(channel * 0x100, &list, 0x0400_0001);
        let list = chain(0x2_0000 + channel * 0x1000, &[Desc::c2h(0, 0x20_0000 + (channel << 20), 1 << 20)]);
        bench.start(C2H + channel * 0x100, &list, 0x0400_0001);
    }
    for channel in 0..4 {
        assert_eq!(bench.wait_word(0x100 + channel * 16, 1), 1);
        assert_eq!(bench.wait_word(0x140 + channel * 16, 1), 1);
    }
    let counters = bench.card.counters();
    assert_eq!((counters.h2c_bytes, counters.c2h_bytes), (4 << 20, 4 << 20));
    assert_eq!((counters.doorbells, counters.descriptors_completed, counters.write_backs), (8, 8, 8));
    bench.clean();
}

#[test]
fn registers_read_back_what_was_written() {
    let mut bench = Bench::new(EmulatorOptions::default());
    for (address, written, read) in [
        (0x88, 0x1234_5678, 0x1234_5678),
        (0x8c, 0x9, 0x9),
        (0x90, 0x00f8_3e1e, 0x00f8_3e1e),
        (0x04, 0x02f8_3e1e, 0x02f8_3e1e),
        (0x4080, 0xdead_bee0, 0xdead_bee0),
        (0x5388, 0xff, 0x3f),
        (0x301c, 0, 0),
        (0x3044, 0x3, 0x3),
        (0x20a0, 0xffff_ffff, 0x1f1f_1f1f),
        (0x6010, 0xffff_ffff, 0x000f_000f),
    ] {
        bench.write(address, written);
        assert_eq!(bench.read(address), read, "{address:#x}");
    }
    bench.write(0x94, 0x20);
    bench.write(0x98, 0x10);
    assert_eq!(bench.read(0x90), 0x00f8_3e2e);
    bench.write(0x08, 1 << 26);
    bench.write(0x0c, 0x2);
    assert_eq!(bench.read(0x04), 0x06f8_3e1c);
    bench.write(0x408c, 9);
    assert_eq!(bench.read(0x408c), 0, "not in credit mode");
    bench.clean();
}

/// Without credits BUSY reads 0. After Run falls it must read 1 until the channel has stopped, so that a driver that waits for it
/// can safely restart.
#[test]
fn a_starved_channel_is_busy_until_it_has_stopped() {
    let mut bench = Bench::new(EmulatorOptions::default());
    bench.write(0x6024, 1);
    let list = List { base: 0x1000, bytes: Desc::h2c(0x8000, 0, 64).bytes(2, 0, 0x1000).into(), adjacent: 0 };
    bench.start(0, &list, 0x0400_0041);
    for round in 0..300 {
        bench.put(0x100, &[0; 4]);
        bench.write(0x0c, 1);
        bench.wait_register(0x40, 0x1, 0);
        bench.write(0x08, 1);
        bench.write(0x408c, 1 + round % 3);
        assert_eq!(bench.wait_word(0x100, 1 + round % 3), 1 + round % 3);
        bench.wait_register(0x40, 0x1, 0);
    }
    bench.clean();
}

#[test]
fn disabling_credit_mode_clears_credits() {
    let mut bench = Bench::new(EmulatorOptions::default());
    bench.write(0x6014, 1);
    bench.write(0x6024, 1);
    for _ in 0..3 {
        bench.write(0x408c, 341);
    }
    assert_eq!(bench.read(0x408c), 1023);
    bench.write(0x6028, 1);
    assert_eq!(bench.read(0x408c), 0);
    bench.clean();
    bench.write(0x6024, 1);
    bench.write(0x408c, 1023);
    bench.write(0x408c, 1);
    assert_eq!(bench.read(0x408c), 1023);
    assert_eq!(bench.violations(), ["more than 1023 credits at 0x408c (H2C 0)"]);
}

#[test]
fn user_bars_and_the_axi_port_reach_the_logic() {
    let mut bench = Bench::new(EmulatorOptions::default());
    bench.client.region_write(0, 0x500, &7u32.to_le_bytes()).unwrap();
    bench.client.region_write(1, 0x500, &8u32.to_le_bytes()).unwrap();
    let mut word = [0; 4];
    bench.client.region_read(0, 0x500, &mut word).unwrap();
    assert_eq!(word, 7u32.to_le_bytes());
    let data: Vec<u8> = (0..9000u32).map(|i| (i * 3) as u8).collect();
    bench.client.region_write(4, 0x1_2345, &data).unwrap();
    let mut seen = vec![0; 9000];
    bench.memory().peek(0x1_2345, &mut seen);
    assert_eq!(seen, data);
    bench.client.region_read(4, 0x1_2344, &mut seen).unwrap();
    assert_eq!((seen[0], &seen[1..]), (0, &data[..8999]));
    bench.client.region_read(4, 127 << 30, &mut word).unwrap();
    assert_eq!(word, [0xff; 4], "the reserved top");
    bench.clean();
}
