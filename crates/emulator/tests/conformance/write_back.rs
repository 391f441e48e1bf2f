//! The completed count in host memory (PG195 "Poll Mode").

use crate::host::{COMPLETED, STOP, descriptor};
use crate::rig::{Channel, IOVA, LIST, Rig, WORD, both_times, c2h, h2c, pieces, synchronous};
use xdma_emulator::{EmulatorOptions, Latency, Switches};

fn point_at(rig: &mut Rig, channel: Channel, address: u64) {
    rig.write(channel.base + 0x88, address as u32);
    rig.write(channel.base + 0x8c, (address >> 32) as u32);
}

#[test]
fn the_write_back_is_a_four_byte_count() {
    for options in both_times() {
        let mut rig = Rig::new(options);
        for channel in [h2c(0), c2h(0), h2c(3), c2h(3)] {
            rig.host.write(WORD - 32, &[0xee; 64]);
            point_at(&mut rig, channel, IOVA + WORD as u64);
            let list = pieces(6, 100);
            let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
            rig.go(channel, LIST, adjacent, 0x0400_0000);
            rig.until("it is written", |rig| rig.host.word(WORD) != 0xeeee_eeee);
            assert_eq!(rig.host.word(WORD), 6, "counts all descriptors, not only those with Completed");
            assert_eq!(rig.host.read(WORD - 32, 32), [0xee; 32]);
            assert_eq!(rig.host.read(WORD + 4, 28), [0xee; 28]);
            rig.idle(channel);
            assert_eq!(rig.read(channel.base + 0x40), 0, "no status bit is needed");
        }
    }
}

#[test]
fn a_write_back_requires_the_control_bit_and_completed() {
    let mut rig = Rig::new(synchronous());
    let channel = h2c(0);
    point_at(&mut rig, channel, IOVA + WORD as u64);
    let list = pieces(3, 100);
    for (last, control, written) in [
        (STOP | COMPLETED, 0x0000_001e, false),
        (STOP, 0x0400_001e, false),
        (STOP | COMPLETED, 0x0400_001e, true),
        (STOP | COMPLETED, 0x0400_0000, true),
    ] {
        rig.host.set_word(WORD, 0x1234_5678);
        let adjacent = rig.lay(channel, LIST, &list, 0, last);
        rig.run(channel, LIST, adjacent, control);
        let expected = if written { 3 } else { 0x1234_5678 };
        assert_eq!(rig.host.word(WORD), expected, "last {last:#x}, control {control:#x}");
    }
}

/// The word is written only for Completed descriptors; a new run leaves it unchanged until the next one.
#[test]
fn every_completed_descriptor_writes_and_a_new_run_restarts_the_count() {
    let mut rig = Rig::new(synchronous());
    let channel = c2h(1);
    point_at(&mut rig, channel, IOVA + WORD as u64);
    rig.write(0x6024, channel.common);
    let list = pieces(5, 64);
    for round in 0..2 {
        rig.lay(channel, LIST, &list, 0, STOP);
        for i in [1, 2, 4] {
            rig.host.set_word(LIST + 32 * i, rig.host.word(LIST + 32 * i) | COMPLETED);
        }
        rig.go(channel, LIST, 0, 0x0400_0000);
        let before = if round == 0 { 0 } else { 5 };
        let mut seen = vec![];
        for _ in 0..5 {
            rig.write(channel.sgdma + 0x8c, 1);
            seen.push(rig.host.word(WORD));
        }
        assert_eq!(seen, [before, 2, 3, 3, 5]);
    }
}

/// Payload, then count, then write-back: a host that sees the word may read the data and the register.
#[test]
fn data_is_visible_before_the_count() {
    for seed in 0..6 {
        let mut rig = Rig::new(EmulatorOptions { seed, ..EmulatorOptions::default() });
        let channel = c2h(0);
        point_at(&mut rig, channel, IOVA + WORD as u64);
        let list = pieces(40, 9000);
        let expected = rig.fill(channel, &list, seed);
        let adjacent = rig.lay(channel, LIST, &list, COMPLETED, STOP);
        rig.go(channel, LIST, adjacent, 0x0400_0000);
        let mut checked = 0;
        while checked < 40 {
            let count = rig.host.word(WORD) as usize;
            assert!(count <= 40);
            rig.check(channel, &list[checked..count.max(checked)], &expected[checked..count.max(checked)]);
            assert!(rig.read(channel.base + 0x48) as usize >= count);
            checked = checked.max(count);
        }
        rig.idle(channel);
    }
}

/// Bits 23:0 wrap while the register continues (PG195 "Poll Mode": `Compl_descriptor_count`, 24 bits).
#[test]
fn the_count_wraps_at_24_bits_and_the_register_does_not() {
    let mut rig = Rig::new(EmulatorOptions { latency: Latency::NONE, ..EmulatorOptions::default() });
    let channel = h2c(0);
    point_at(&mut rig, channel, IOVA + WORD as u64);
    for i in 0..64 {
        let (next, adjacent) = if i == 63 { (LIST, 63) } else { (LIST + 32 * (i + 1), 62 - i) };
        let control = if i % 8 == 0 { COMPLETED } else { 0 };
        rig.host.put(
            LIST + 32 * i,
            descriptor(control, adjacent as u32, 1, rig.host.at(0), 0, rig.host.at(next)),
        );
    }
    rig.go(channel, LIST, 63, 0x0400_0000);
    rig.until_within(std::time::Duration::from_secs(200), "the count exceeds 24 bits", |rig| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        rig.read(channel.base + 0x48) > 0x100_0100
    });
    rig.stop(channel);
    let (count, word) = (rig.read(channel.base + 0x48), rig.host.word(WORD));
    assert!(count > 0x100_0100, "{count:#x}");
    assert_eq!(word >> 24, 0, "no error, and 30:24 are zero");
    assert!((count & 0xff_ffff) - word < 8, "{word:#x} is the last of every eight of {count:#x}");
}

/// Observed on hardware: a refused descriptor fetch did not write back. PG195 documents bit 31. Therefore it is a switch.
#[test]
fn an_error_writes_bit_31_according_to_the_switch() {
    for write in [false, true] {
        let switches = Switches { error_write_back: write.into(), ..Switches::default() };
        let mut rig = Rig::new(synchronous().with_switches(switches));
        let channel = h2c(0);
        point_at(&mut rig, channel, IOVA + WORD as u64);
        let list = pieces(2, 64);
        rig.lay(channel, LIST, &list, 0, 0);
        rig.host.put(LIST + 64, [0; 8]);
        rig.host.set_word(LIST + 32 + 24, rig.host.at(LIST + 64) as u32);
        rig.host.set_word(LIST + 32 + 28, (rig.host.at(LIST + 64) >> 32) as u32);
        rig.run(channel, LIST, 1, 0x04f8_3e18);
        assert_eq!(rig.read(channel.base + 0x40), 0x10);
        assert_eq!(
            rig.host.word(WORD),
            if rig.switches().error_write_back.or(false) { 0x8000_0002 } else { 0 }
        );
    }
}

/// A posted write to an unmapped address is lost silently.
#[test]
fn a_write_back_to_an_unmapped_address_is_lost_silently() {
    let mut rig = Rig::new(synchronous());
    let channel = h2c(0);
    point_at(&mut rig, channel, 0xdead_0000);
    let list = pieces(2, 64);
    let expected = rig.fill(channel, &list, 3);
    let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
    rig.run(channel, LIST, adjacent, 0x04ff_fe7e);
    assert_eq!((rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)), (0x06, 2));
    rig.check(channel, &list, &expected);
}
