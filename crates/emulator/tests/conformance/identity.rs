//! Identifiers (PG195, register 0x00 of every target).

use crate::rig::{Rig, exists, synchronous};
use xdma_emulator::{CardFile, EmulatorOptions};

fn counts(h2c: usize, c2h: usize, stream: bool) -> EmulatorOptions {
    let options = synchronous().with_channels(h2c, c2h);
    if stream { options.with_streams() } else { options }
}

#[test]
fn every_block_of_a_memory_mapped_card_identifies_itself() {
    for card in [CardFile::f1(), CardFile::alveo()] {
        let mut rig = Rig::exactly(EmulatorOptions { card, ..synchronous() });
        for (channel, expected) in [(0, 0x1fc0_0006), (1, 0x1fc0_0106), (2, 0x1fc0_0206), (3, 0x1fc0_0306)]
            .map(|(c, id)| (c * 0x100, id))
        {
            assert_eq!(rig.read(channel), expected);
            assert_eq!(rig.read(0x1000 + channel), expected + 0x1_0000);
            assert_eq!(rig.read(0x4000 + channel), expected + 0x4_0000);
            assert_eq!(rig.read(0x5000 + channel), expected + 0x5_0000);
        }
        assert_eq!(rig.read(0x2000), 0x1fc2_0006);
        assert_eq!(rig.read(0x3000), 0x1fc3_0006);
        assert_eq!(rig.read(0x6000), 0x1fc6_0006);
    }
}

#[test]
fn bit_15_marks_stream_channels() {
    let mut rig = Rig::exactly(counts(2, 2, true));
    assert_eq!(rig.read(0x0000), 0x1fc0_8006);
    assert_eq!(rig.read(0x0100), 0x1fc0_8106);
    assert_eq!(rig.read(0x1000), 0x1fc1_8006);
    assert_eq!(rig.read(0x1100), 0x1fc1_8106);
    assert_eq!(rig.read(0x4000), 0x1fc4_8006);
    assert_eq!(rig.read(0x5100), 0x1fc5_8106);
    assert_eq!(rig.read(0x2000), 0x1fc2_0006);
    assert_eq!(rig.read(0x3000), 0x1fc3_0006);
    assert_eq!(rig.read(0x6000), 0x1fc6_0006);
}

/// XIL `probe_engines`: counts as long as the upper half and the channel number match.
fn count(rig: &mut Rig, target: u64) -> usize {
    let is = |rig: &mut Rig, channel: u64| {
        let id = rig.read(target << 12 | channel << 8);
        u64::from(id >> 16) == 0x1fc0 | target && u64::from(id >> 8 & 0xf) == channel
    };
    (0..4).take_while(|channel| is(rig, *channel)).count()
}

#[test]
fn the_vendor_driver_finds_all_channels() {
    for (h2c, c2h) in [(4, 4), (1, 1), (3, 1), (0, 3), (4, 0)] {
        let options = counts(h2c, c2h, false);
        if !exists(&options.card) {
            continue;
        }
        let mut rig = Rig::exactly(options);
        assert_eq!((count(&mut rig, 0), count(&mut rig, 1)), (h2c, c2h));
    }
}

#[test]
fn absent_channels_have_no_identifier() {
    let mut rig = Rig::exactly(counts(3, 1, false));
    for target in [0, 1, 4, 5] {
        let present = if matches!(target, 0 | 4) { 3 } else { 1 };
        for channel in present..16 {
            let id = rig.read(target << 12 | channel << 8);
            assert_ne!(id >> 20, 0x1fc, "target {target} channel {channel} reads {id:#x}");
        }
    }
}

#[test]
fn undefined_targets_have_no_identifier() {
    let mut rig = Rig::exactly(synchronous());
    assert_ne!(rig.read(0x7000) >> 20, 0x1fc);
}

#[test]
fn identifiers_are_read_only() {
    let mut rig = Rig::exactly(synchronous());
    for at in [0x0000, 0x0300, 0x1000, 0x1300, 0x2000, 0x3000, 0x4000, 0x5200, 0x6000] {
        let id = rig.read(at);
        rig.write(at, 0xffff_ffff);
        rig.write(at, 0);
        assert_eq!(rig.read(at), id, "at {at:#x}");
    }
}

/// Offsets defined by PG195 or by a published driver, for each target.
fn is_defined(at: u64) -> bool {
    let offset = at & 0xff;
    let channel = at >> 8 & 0xf;
    match at >> 12 {
        0 | 1 if channel < 4 => matches!(
            offset,
            0x00 | 0x04 | 0x08 | 0x0c | 0x40 | 0x44 | 0x48 | 0x4c | 0x88 | 0x8c | 0x90 | 0x94 | 0x98 | 0xc0
                ..=0xd8
        ),
        2 if channel == 0 => {
            matches!(offset, 0x00..=0x18 | 0x40..=0x4c | 0x80..=0x8c | 0xa0 | 0xa4)
        }
        3 if channel == 0 => matches!(offset, 0x00..=0x1c | 0x40 | 0x44 | 0x60),
        4 | 5 if channel < 4 => matches!(offset, 0x00 | 0x80..=0x8c),
        6 if channel == 0 => matches!(offset, 0x00 | 0x10..=0x18 | 0x20..=0x28),
        _ => false,
    }
}

/// In the whole register space, undefined registers read 0 and ignore writes, and writing them does not change defined ones.
#[test]
fn undefined_registers_read_zero_and_ignore_writes() {
    let mut rig = Rig::exactly(synchronous());
    let (defined, other): (Vec<u64>, Vec<u64>) = (0..0x8000).step_by(4).partition(|at| is_defined(*at));
    let before: Vec<u32> = defined.iter().map(|at| rig.read(*at)).collect();
    for at in other {
        rig.write(at, 0xffff_ffff);
        assert_eq!(rig.read(at), 0, "at {at:#x}");
    }
    let after: Vec<u32> = defined.iter().map(|at| rig.read(*at)).collect();
    assert_eq!(before, after);
    assert_eq!(defined.len(), 8 * 20 + 7 + 4 + 4 + 2 + 8 + 3 + 8 * 5 + 7);
}
