//! Performance monitors, as the vendor driver's `performance` ioctl uses them (XIL `xdma_performance_submit`).

use crate::host::descriptor;
use crate::rig::{LIST, Rig, c2h, h2c};
use xdma_emulator::EmulatorOptions;

#[test]
fn an_endless_list_is_counted_and_stops_cleanly() {
    for channel in [h2c(0), c2h(0), h2c(2), c2h(3)] {
        let mut rig = Rig::new(EmulatorOptions::default());
        let base = channel.base;
        for i in 0..16 {
            let next = rig.host.at(LIST + 32 * ((i + 1) % 16));
            let (host, card) = (rig.host.at(0x20_0000 + 4096 * i), 0x1000 * i as u64);
            let (from, to) = if channel.to_card { (host, card) } else { (card, host) };
            rig.host.put(LIST + 32 * i, descriptor(0, 0, 4096, from, to, next));
        }
        rig.write(base + 0xc0, 0x2);
        rig.write(base + 0xc0, 0x5);
        assert_eq!(rig.read(base + 0xc4), 0, "counting begins with Run");
        rig.write(base + 0x90, 0x00f8_3e5e);
        rig.go(channel, LIST, 0, 0x00f8_3e5e);
        let mut last = 0;
        for _ in 0..5 {
            rig.until("more data has moved", |rig| rig.read(base + 0x48) > last + 20);
            last = rig.read(base + 0x48);
            // The driver reads the upper half first.
            let [data_hi, data_lo] = [0xd0, 0xcc].map(|at| u64::from(rig.read(base + at)));
            let [clock_hi, clock_lo] = [0xc8, 0xc4].map(|at| u64::from(rig.read(base + at)));
            assert_eq!((data_hi | clock_hi) & !0x1_03ff, 0, "41:32 in 9:0, the maximum in 16");
            let (data, clock) = ((data_hi & 0x3ff) << 32 | data_lo, (clock_hi & 0x3ff) << 32 | clock_lo);
            assert!(data > 0 && clock > 0 && data <= clock, "{data} beats in {clock} clocks");
            assert_eq!((rig.read(base + 0xd4), rig.read(base + 0xd8)), (0, 0));
        }
        rig.stop(channel);
        let count = rig.read(base + 0x48);
        assert_eq!(rig.read(base + 0x40), 0x40);
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert_eq!(rig.read(base + 0x48), count);
    }
}

#[test]
fn clear_resets_the_counters() {
    let mut rig = Rig::new(EmulatorOptions::default());
    let channel = h2c(0);
    let list = crate::rig::pieces(8, 4096);
    let adjacent = rig.lay(channel, LIST, &list, 0, 0x3);
    rig.write(0xc0, 0x2);
    rig.write(0xc0, 0x5);
    rig.run(channel, LIST, adjacent, 0x1e);
    assert!(rig.read(0xc4) > 0 && rig.read(0xcc) > 0);
    // Auto: a descriptor with Stop ended counting.
    let clocks = rig.read(0xc4);
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert_eq!(rig.read(0xc4), clocks);
    rig.write(0xc0, 0x2);
    assert_eq!([0xc4, 0xc8, 0xcc, 0xd0].map(|at| rig.read(at)), [0; 4]);
}

#[test]
fn a_monitor_that_was_not_armed_counts_nothing() {
    let mut rig = Rig::new(EmulatorOptions::default());
    let list = crate::rig::pieces(8, 4096);
    let adjacent = rig.lay(h2c(0), LIST, &list, 0, 0x3);
    rig.run(h2c(0), LIST, adjacent, 0x1e);
    assert_eq!([0xc4, 0xc8, 0xcc, 0xd0].map(|at| rig.read(at)), [0; 4]);
}

/// The counter counts beats of the data path, whose width is in 0x3018.
#[test]
fn data_is_counted_in_beats() {
    let mut rig = Rig::new(EmulatorOptions::default());
    let width = 8u64 << rig.read(0x3018);
    let list = crate::rig::pieces(8, 4096);
    let adjacent = rig.lay(h2c(1), LIST, &list, 0, 0x3);
    rig.write(0x1c0, 0x2);
    rig.write(0x1c0, 0x5);
    rig.run(h2c(1), LIST, adjacent, 0x1e);
    let beats = u64::from(rig.read(0x1cc));
    // An unaligned piece may take one beat more.
    let least = 8 * 4096 / width;
    assert!((least..=least + 8).contains(&beats), "{beats} beats of {width} bytes");
}
