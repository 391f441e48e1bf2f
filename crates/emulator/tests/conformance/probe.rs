//! The probe sequence of the vendor's kernel driver (XIL `xdma_device_open`, `probe_one`).

use crate::rig::{Rig, exists, synchronous};
use xdma_emulator::{CardFile, EmulatorOptions};

struct Card {
    options: EmulatorOptions,
    /// The BAR in which the driver finds the registers.
    config_bar: u32,
    h2c: u64,
    c2h: u64,
}

fn cards() -> Vec<Card> {
    let card = |card: CardFile, h2c: usize, c2h: usize, stream| {
        let config_bar = card.register_bar().expect("a card has registers") as u32;
        let options = EmulatorOptions { card, ..synchronous() }.with_channels(h2c, c2h);
        let options = if stream { options.with_streams() } else { options };
        Card { options, config_bar, h2c: h2c as u64, c2h: c2h as u64 }
    };
    vec![
        card(CardFile::f1(), 4, 4, false),
        card(CardFile::alveo(), 4, 4, false),
        card(CardFile::alveo(), 1, 1, false),
        card(CardFile::alveo(), 2, 2, true),
        card(CardFile::alveo(), 1, 3, false),
        #[cfg(not(feature = "rtl-dma"))]
        card(CardFile::f2(), 1, 1, false),
    ]
}

/// `is_config_bar`: finds the first BAR of at least 32 KiB that has both identifiers. On the way, it reads registers of the custom logic.
pub fn find_config_bar(rig: &mut Rig) -> Option<u32> {
    (0..6).find(|bar| {
        let size = rig.client.region(*bar).map_or(0, |region| region.size);
        size >= 0x8000
            && rig.bar_read(*bar, 0x2000) >> 16 == 0x1fc2
            && rig.bar_read(*bar, 0x3000) >> 16 == 0x1fc3
    })
}

/// Configures the function as the vendor's module does in its probe: `pci_keep_intx_enabled`, relaxed ordering, extended tags,
/// `pcie_set_readrq(512)`, bus mastering.
fn set_up_function(rig: &mut Rig) {
    let pcie = rig.capability(0x10).expect("PCI Express capability");
    rig.config_write(0x04, &0x0002u16.to_le_bytes());
    let control = rig.config16(pcie + 8);
    rig.config_write(pcie + 8, &(control | 0x0110).to_le_bytes());
    let control = rig.config16(pcie + 8) & !0x7000;
    rig.config_write(pcie + 8, &(control | 0x2000).to_le_bytes());
    assert_eq!(rig.config16(pcie + 8) & 0x7110, 0x2110, "relaxed ordering, extended tags, 512-byte reads");
    rig.config_write(0x04, &0x0006u16.to_le_bytes());
    assert_eq!(rig.config16(0x04) & 0x0006, 0x0006);
    assert_eq!(rig.read(0x300c), 2);
}

/// `probe_engines`, `engine_init_regs`.
fn probe_engine(rig: &mut Rig, target: u64, channel: u64, mask: u32) {
    let base = target << 12 | channel << 8;
    rig.write(base + 0x0c, 1 << 25);
    assert_eq!(rig.read(base + 0x04), 0);
    let alignments = rig.read(base + 0x4c);
    assert!(alignments == 0 || alignments & 0xff == 0x40, "{alignments:#x}");
    rig.write(base + 0x90, mask);
    assert_eq!(rig.read(base + 0x90) & 0x00f8_3e16, mask & 0x00f8_3e16);
}

#[test]
fn the_vendors_probe_finds_everything() {
    for Card { options, config_bar, h2c, c2h } in cards() {
        if !exists(&options.card) {
            continue;
        }
        let mut rig = Rig::exactly(options);
        set_up_function(&mut rig);
        assert_eq!(find_config_bar(&mut rig), Some(config_bar));
        for at in [0x2004, 0x2010, 0x2040, 0x2044, 0x2048, 0x204c] {
            assert_eq!(rig.read(at), 0);
        }
        rig.write(0x2018, 0xffff_ffff);
        rig.write(0x200c, 0xffff_ffff);
        assert_eq!((rig.read(0x2040), rig.read(0x2044)), (0, 0));
        for (target, present) in [(0, h2c), (1, c2h)] {
            let found = (0..4u64).take_while(|channel| {
                let id = u64::from(rig.read(target << 12 | channel << 8));
                id >> 16 == 0x1fc0 + target && id >> 8 & 0xf == *channel
            });
            assert_eq!(found.count() as u64, present);
            (0..present).for_each(|channel| probe_engine(&mut rig, target, channel, 0x00f8_3e1e));
        }
        // The driver uses exactly h2c + c2h + 16 MSI-X vectors, so the table must have at least as many.
        let msix = rig.capability(0x11).expect("MSI-X capability");
        let vectors = u64::from(rig.config16(msix + 2) & 0x7ff) + 1;
        assert!(vectors >= h2c + c2h + 16);
        rig.config_write(msix + 2, &0x8000u16.to_le_bytes());
        rig.config_write(0x04, &0x0006u16.to_le_bytes());
        program_vectors(&mut rig, (h2c + c2h) as u32);
        rig.write(0x2014, 0xffff_ffff);
        assert_eq!((rig.read(0x2040), rig.read(0x2044)), (0, 0));
        rig.write(0x2008, 0x0001_ffff);
        assert_eq!(rig.read(0x2004), 0xffff);
        assert_eq!(rig.read(0x2010), (1 << (h2c + c2h)) - 1);
    }
}

/// `prog_irq_msix_channel`, `prog_irq_msix_user`: channel vectors first, then user vectors.
fn program_vectors(rig: &mut Rig, channels: u32) {
    let pack = |first: u32, count: u32| {
        (0..4).filter(|i| *i < count).fold(0, |value, i| value | (first + i) << (8 * i))
    };
    for i in 0..channels.div_ceil(4) {
        let value = pack(4 * i, channels - 4 * i);
        rig.write(0x20a0 + u64::from(4 * i), value);
        assert_eq!(rig.read(0x20a0 + u64::from(4 * i)), value);
    }
    for i in 0..4 {
        let value = pack(channels + 4 * i, 4);
        rig.write(0x2080 + u64::from(4 * i), value);
        assert_eq!(rig.read(0x2080 + u64::from(4 * i)), value);
    }
}

#[test]
fn vectors_are_packed_as_published() {
    let mut rig = Rig::exactly(synchronous());
    program_vectors(&mut rig, 8);
    let seen = [0x20a0, 0x20a4, 0x2080, 0x2084, 0x2088, 0x208c].map(|at| rig.read(at));
    assert_eq!(seen, [0x0302_0100, 0x0706_0504, 0x0b0a_0908, 0x0f0e_0d0c, 0x1312_1110, 0x1716_1514]);
    let mut rig = Rig::exactly(synchronous().with_channels(1, 1));
    program_vectors(&mut rig, 2);
    assert_eq!((rig.read(0x20a0), rig.read(0x2080), rig.read(0x208c)), (0x0100, 0x0504_0302, 0x1110_0f0e));
}

/// The driver is unloaded and probes the card again. State from the first time must not interfere.
#[test]
fn a_second_probe_finds_the_same() {
    let mut rig = Rig::exactly(synchronous());
    for _ in 0..2 {
        set_up_function(&mut rig);
        for (target, channel) in [(0, 0), (0, 3), (1, 0), (1, 3)] {
            probe_engine(&mut rig, target, channel, 0x00f8_3e1e);
        }
        rig.write(0x2014, 0xffff_ffff);
        rig.write(0x2008, 0x0001_ffff);
        // `remove_one`: disables the interrupts and resets the vectors to 0.
        rig.write(0x2018, 0xffff_ffff);
        rig.write(0x200c, 0xffff_ffff);
        for at in [0x20a0, 0x20a4, 0x2080, 0x2084, 0x2088, 0x208c] {
            rig.write(at, 0);
        }
        rig.config_write(0x04, &0x0002u16.to_le_bytes());
        assert_eq!((rig.read(0x2004), rig.read(0x2010)), (0, 0));
    }
}
