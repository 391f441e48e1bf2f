//! Reset values, masks and aliases of every register (PG195 "Register Space").

use crate::rig::{Channel, Rig, channels, synchronous};
use xdma_emulator::{CardFile, EmulatorOptions};

/// The address of a register, its reset value, and the mask of documented writable bits.
type Register = (u64, u32, u32);

fn channel_registers(channel: Channel) -> Vec<Register> {
    // The control register without Run, which starts the channel. C2H defines no write errors (18:14).
    let control = if channel.to_card { 0x06ff_fe7e } else { 0x06f8_3e7e };
    let irq_enable = if channel.to_card { 0x00ff_fe7e } else { 0x00f8_3e56 };
    let (base, sgdma) = (channel.base, channel.sgdma);
    vec![
        (base + 0x04, 0, control),
        (base + 0x40, 0, 0),
        (base + 0x44, 0, 0),
        (base + 0x48, 0, 0),
        // Byte-aligned addresses and lengths, 64 address bits: the value seen on memory-mapped cards.
        (base + 0x4c, 0x0001_0140, 0),
        (base + 0x88, 0, 0xffff_fffc),
        (base + 0x8c, 0, 0xffff_ffff),
        (base + 0x90, 0, irq_enable),
        (base + 0xc4, 0, 0),
        (base + 0xc8, 0, 0),
        (base + 0xcc, 0, 0),
        (base + 0xd0, 0, 0),
        (base + 0xd4, 0, 0),
        (base + 0xd8, 0, 0),
        (sgdma + 0x80, 0, 0xffff_ffe0),
        (sgdma + 0x84, 0, 0xffff_ffff),
        (sgdma + 0x88, 0, 0x3f),
    ]
}

fn irq_registers() -> Vec<Register> {
    let mut registers = vec![
        (0x2004, 0, 0xffff),
        (0x2010, 0, 0xff),
        (0x2040, 0, 0),
        (0x2044, 0, 0),
        (0x2048, 0, 0),
        (0x204c, 0, 0),
    ];
    registers.extend([0x2080, 0x2084, 0x2088, 0x208c, 0x20a0, 0x20a4].map(|at| (at, 0, 0x1f1f_1f1f)));
    registers
}

fn other_registers() -> Vec<Register> {
    vec![
        (0x3010, 0xff01, 0),
        (0x3014, 0, 0),
        (0x301c, 1, 1),
        (0x3060, 0, 0x1f),
        (0x6010, 0, 0x000f_000f),
        (0x6020, 0, 0x000f_000f),
    ]
}

fn all_registers() -> Vec<Register> {
    let mut registers: Vec<Register> = channels().into_iter().flat_map(channel_registers).collect();
    registers.extend(irq_registers());
    registers.extend(other_registers());
    registers
}

#[test]
fn registers_start_as_documented() {
    for card in [CardFile::f1(), CardFile::alveo()] {
        let mut rig = Rig::new(EmulatorOptions { card, ..synchronous() });
        for (at, reset, _) in all_registers() {
            assert_eq!(rig.read(at), reset, "at {at:#x}");
        }
    }
}

#[test]
fn documented_bits_are_writable() {
    let mut rig = Rig::new(synchronous());
    for (at, reset, mask) in all_registers() {
        for value in [0xffff_ffff, 0xa5a5_a5a5, 0x5a5a_5a5a, 0] {
            // Keep Run clear, because setting it starts the channel.
            let value = if at & 0xff == 0x04 && at < 0x2000 { value & !1 } else { value };
            rig.write(at, value);
            let expected = if mask == 0 { reset } else { value & mask };
            let kept = if mask == 0 { u32::MAX } else { mask };
            assert_eq!(rig.read(at) & kept, expected, "at {at:#x} after {value:#x}");
        }
    }
}

#[test]
fn registers_are_independent() {
    let mut rig = Rig::new(synchronous());
    let writable: Vec<Register> = all_registers().into_iter().filter(|(_, _, mask)| *mask != 0).collect();
    let value = |at: u64, mask: u32| (at as u32).wrapping_mul(0x9e37_79b9) & mask & !1;
    for &(at, _, mask) in &writable {
        rig.write(at, value(at, mask));
    }
    for &(at, _, mask) in &writable {
        assert_eq!(rig.read(at) & mask, value(at, mask), "at {at:#x}");
    }
}

#[test]
fn reserved_bits_of_masks_and_vectors_read_zero() {
    let mut rig = Rig::new(synchronous());
    for (at, mask) in
        [(0x2004, 0xffff), (0x2010, 0xff), (0x2084, 0x1f1f_1f1f), (0x20a4, 0x1f1f_1f1f), (0x3060, 0x1f)]
            .into_iter()
            .chain(channels().into_iter().map(|channel| (channel.sgdma + 0x88, 0x3f)))
            .chain([(0x6010, 0x000f_000f), (0x6020, 0x000f_000f), (0x301c, 1)])
    {
        rig.write(at, 0xffff_ffff);
        assert_eq!(rig.read(at), mask, "at {at:#x}");
    }
}

/// Registers with W1S and W1C aliases, and bits to test.
fn aliased() -> Vec<(u64, u64, u64, [u32; 2])> {
    let mut all = vec![
        (0x2004, 0x2008, 0x200c, [0x8001, 0x0110]),
        (0x2010, 0x2014, 0x2018, [0x81, 0x24]),
        (0x6010, 0x6014, 0x6018, [0x0008_0001, 0x0001_0004]),
        (0x6020, 0x6024, 0x6028, [0x0008_0001, 0x0001_0004]),
    ];
    for channel in channels() {
        let base = channel.base;
        all.push((base + 0x04, base + 0x08, base + 0x0c, [0x0208_0202, 0x0410_0418]));
        all.push((base + 0x90, base + 0x94, base + 0x98, [0x0008_0202, 0x0010_0410]));
    }
    all
}

#[test]
fn one_alias_sets_bits_and_one_clears_them() {
    let mut rig = Rig::new(synchronous());
    for (at, set, clear, [some, others]) in aliased() {
        rig.write(set, some);
        assert_eq!(rig.read(at), some, "at {at:#x}, set");
        rig.write(set, others);
        assert_eq!(rig.read(at), some | others, "at {at:#x}, more set");
        rig.write(set, 0);
        rig.write(clear, 0);
        assert_eq!(rig.read(at), some | others, "at {at:#x}, zeros change nothing");
        rig.write(clear, some);
        assert_eq!(rig.read(at), others, "at {at:#x}, cleared");
        rig.write(at, some);
        assert_eq!(rig.read(at), some, "at {at:#x}, overwritten");
        rig.write(clear, 0xffff_ffff);
        assert_eq!(rig.read(at), 0, "at {at:#x}, all cleared");
    }
}

#[test]
fn channel_interrupt_bits_are_packed_behind_the_last_h2c_channel() {
    for (h2c, c2h) in [(1, 1), (3, 1), (1, 3), (4, 4)] {
        let mut rig = Rig::new(synchronous().with_channels(h2c, c2h));
        rig.write(0x2014, 0xffff_ffff);
        assert_eq!(rig.read(0x2010), (1 << (h2c + c2h)) - 1, "{h2c} + {c2h}");
    }
}

#[test]
fn a_read_only_register_ignores_writes() {
    let mut rig = Rig::new(synchronous());
    for at in [0x3004, 0x3008, 0x300c, 0x3018] {
        let before = rig.read(at);
        rig.write(at, !before);
        assert_eq!(rig.read(at), before, "at {at:#x}");
    }
}

#[test]
fn the_config_block_reports_the_link() {
    let mut rig = Rig::new(synchronous());
    // PCI Express capability: DevCtl at +8, MPS in 7:5, MRRS in 14:12.
    let pcie = rig.capability(0x10).expect("an endpoint has a PCI Express capability");
    for code in [0u16, 2, 5] {
        let control = rig.config16(pcie + 8) & !0x7000;
        rig.config_write(pcie + 8, &(control | code << 12).to_le_bytes());
        assert_eq!(rig.read(0x300c), u32::from(code), "maximum read request");
    }
    let payload = u32::from(rig.config16(pcie + 8) >> 5 & 7);
    assert_eq!(rig.read(0x3008), payload);
    assert!(rig.read(0x3018) <= 3, "data path of 64, 128, 256 or 512 bits");
}

#[test]
fn software_limits_are_writable() {
    let mut rig = Rig::new(synchronous());
    for (at, value) in [(0x3040, 1), (0x3044, 2), (0x3040, 2), (0x3044, 5)] {
        rig.write(at, value);
        assert_eq!(rig.read(at), value);
    }
}

#[test]
fn msi_enables_are_reported() {
    let mut rig = Rig::exactly(synchronous());
    let msi = rig.capability(0x05).expect("MSI capability");
    let msix = rig.capability(0x11).expect("MSI-X capability");
    assert_eq!(rig.read(0x3014), 0);
    rig.config_write(msi + 2, &1u16.to_le_bytes());
    assert_eq!(rig.read(0x3014), 1);
    rig.config_write(msi + 2, &0u16.to_le_bytes());
    rig.config_write(msix + 2, &0x8000u16.to_le_bytes());
    assert_eq!(rig.read(0x3014), 2);
    rig.config_write(msix + 2, &0u16.to_le_bytes());
    assert_eq!(rig.read(0x3014), 0);
}

#[test]
fn performance_control_is_readable_except_for_clear() {
    let mut rig = Rig::new(synchronous());
    for channel in channels() {
        rig.write(channel.base + 0xc0, 0x5);
        assert_eq!(rig.read(channel.base + 0xc0) & 0x5, 0x5);
        // Clear is write-only (PG195 "Performance Monitor Control").
        rig.write(channel.base + 0xc0, 0x2);
        assert_eq!(rig.read(channel.base + 0xc0), 0);
    }
}

#[test]
fn channels_have_separate_registers() {
    let mut rig = Rig::new(synchronous());
    for (n, channel) in channels().into_iter().enumerate() {
        rig.write(channel.base + 0x88, 0x1000 * (n as u32 + 1));
        rig.write(channel.sgdma + 0x80, 0x2000 * (n as u32 + 1));
    }
    for (n, channel) in channels().into_iter().enumerate() {
        assert_eq!(rig.read(channel.base + 0x88), 0x1000 * (n as u32 + 1));
        assert_eq!(rig.read(channel.sgdma + 0x80), 0x2000 * (n as u32 + 1));
    }
}
