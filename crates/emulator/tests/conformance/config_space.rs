//! Configuration space of both profiles (PCI Local Bus 3.0 chapter 6, PCI Express Base "PCI Express Capability Structure").

use crate::rig::{Rig, synchronous};
use xdma_emulator::{CardFile, EmulatorOptions};

fn f1() -> Rig {
    Rig::exactly(synchronous())
}

fn alveo() -> Rig {
    Rig::exactly(EmulatorOptions { card: CardFile::alveo(), ..synchronous() })
}

/// Writes all ones to a BAR, and returns the value read back: its size and type.
fn probe_bar(rig: &mut Rig, bar: u64) -> u32 {
    let at = 0x10 + 4 * bar;
    let before = rig.config32(at);
    rig.config_write(at, &0xffff_ffffu32.to_le_bytes());
    let answer = rig.config32(at);
    rig.config_write(at, &before.to_le_bytes());
    assert_eq!(rig.config32(at), before, "BAR {bar} accepts its address again");
    answer
}

fn region_size(rig: &Rig, bar: u32) -> u64 {
    rig.client.region(bar).map_or(0, |region| region.size)
}

#[test]
fn f1_identifies_itself_as_the_dram_dma_example() {
    let mut rig = f1();
    assert_eq!(rig.config32(0x00), 0xf001_1d0f);
    assert_eq!(rig.config32(0x2c), 0x1d51_fedc, "subsystem");
    assert_eq!(rig.config32(0x08) >> 16, 0x0580, "memory controller");
    assert_eq!(rig.config8(0x0e) & 0x7f, 0, "header type");
}

#[test]
fn alveo_identifies_itself_as_the_vendors_script_expects() {
    let mut rig = alveo();
    assert_eq!(rig.config32(0x00), 0x903f_10ee);
    let class = rig.config32(0x08) >> 8;
    assert!(class == 0x058000 || class == 0x070001, "{class:#x}");
    assert_eq!(rig.config8(0x0e) & 0x7f, 0, "header type");
}

/// AWS "FPGA PCIe Memory Address Map".
#[test]
fn f1_has_four_bars() {
    let mut rig = f1();
    assert_eq!(probe_bar(&mut rig, 0), 0xfe00_0000, "BAR0: 32 MiB, 32-bit");
    assert_eq!(probe_bar(&mut rig, 1), 0xffe0_0000, "BAR1: 2 MiB, 32-bit");
    assert_eq!(probe_bar(&mut rig, 2), 0xffff_000c, "BAR2: 64 KiB, 64-bit, prefetchable");
    assert_eq!(probe_bar(&mut rig, 3), 0xffff_ffff, "BAR2's upper half");
    assert_eq!(probe_bar(&mut rig, 4), 0x0000_000c, "BAR4: 128 GiB, 64-bit, prefetchable");
    assert_eq!(probe_bar(&mut rig, 5), 0xffff_ffe0, "BAR4's upper half");
    let sizes: Vec<u64> = (0..6).map(|bar| region_size(&rig, bar)).collect();
    assert_eq!(sizes, [32 << 20, 2 << 20, 64 << 10, 0, 128 << 30, 0]);
}

/// XIL: if a card has two BARs and the registers are in the second one, the first one is the user BAR.
#[test]
fn alveo_has_the_registers_in_its_second_bar() {
    let mut rig = alveo();
    assert_eq!(probe_bar(&mut rig, 0), 0xfff0_0000, "BAR0: 1 MiB, 32-bit");
    assert_eq!(probe_bar(&mut rig, 1), 0xffff_0000, "BAR1: 64 KiB, 32-bit");
    for bar in 2..6 {
        assert_eq!(probe_bar(&mut rig, bar), 0, "BAR{bar} is absent");
    }
    let sizes: Vec<u64> = (0..6).map(|bar| region_size(&rig, bar)).collect();
    assert_eq!(sizes, [1 << 20, 64 << 10, 0, 0, 0, 0]);
}

#[test]
fn capabilities_are_a_chain_that_ends() {
    for mut rig in [f1(), alveo()] {
        assert_eq!(rig.config16(0x06) & 0x10, 0x10, "Capabilities List");
        let (mut at, mut found) = (rig.config8(0x34), vec![]);
        while at != 0 {
            assert!(at >= 0x40 && at.is_multiple_of(4), "capability at {at:#x}");
            found.push(rig.config8(u64::from(at)));
            assert!(found.len() < 48, "the chain is a loop");
            at = rig.config8(u64::from(at) + 1);
        }
        found.sort_unstable();
        assert_eq!(found, [0x01, 0x05, 0x10, 0x11], "power management, MSI, PCI Express, MSI-X");
    }
}

#[test]
fn power_management_keeps_state_through_d3() {
    for mut rig in [f1(), alveo()] {
        let at = rig.capability(0x01).unwrap();
        assert_eq!(rig.config16(at + 4) & 0x8, 0x8, "No_Soft_Reset, as every lspci of such a card shows");
        assert_eq!(rig.config16(at + 4) & 0x3, 0, "in D0");
    }
}

#[test]
fn msi_is_one_64_bit_message() {
    for mut rig in [f1(), alveo()] {
        let at = rig.capability(0x05).unwrap();
        let control = rig.config16(at + 2);
        assert_eq!(control & 0x80, 0x80, "64-bit");
        assert_eq!(control & 0x0e, 0, "one message");
        assert_eq!(control & 0x01, 0, "disabled");
        for (offset, value) in [(4, 0xfee0_1000u32), (8, 0x12), (12, 0x4021)] {
            rig.config_write(at + offset, &value.to_le_bytes());
            assert_eq!(rig.config32(at + offset) & 0xffff, value & 0xffff);
        }
    }
}

#[test]
fn the_msi_x_table_follows_the_registers() {
    for (mut rig, vectors, bar) in [(f1(), 33, 2), (alveo(), 32, 1)] {
        let at = rig.capability(0x11).unwrap();
        assert_eq!(rig.config16(at + 2), vectors - 1, "Table Size, disabled, not masked");
        assert_eq!(rig.config32(at + 4), 0x8000 | bar, "table");
        assert_eq!(rig.config32(at + 8), 0x8fe0 | bar, "pending bits");
        rig.config_write(at + 2, &0xffffu16.to_le_bytes());
        assert_eq!(
            rig.config16(at + 2),
            0xc000 | (vectors - 1),
            "only Enable and Function Mask can be written"
        );
        for (index, count) in [(0, 1), (1, 1), (2, u32::from(vectors))] {
            assert_eq!(rig.client.get_irq_info(index).unwrap().count, count, "interrupt index {index}");
        }
    }
}

#[test]
fn the_function_is_a_pci_express_endpoint() {
    for mut rig in [f1(), alveo()] {
        let at = rig.capability(0x10).unwrap();
        let flags = rig.config16(at + 2);
        assert_eq!(flags >> 4 & 0xf, 0, "endpoint");
        assert_eq!(flags & 0xf, 2, "version");
        assert_eq!(rig.config32(at + 4) & 0x20, 0x20, "extended tags");
        let link = rig.config32(at + 12);
        assert!((1..=5).contains(&(link & 0xf)) && (link >> 4 & 0x3f) > 0, "link {link:#x}");
        let status = rig.config16(at + 18);
        assert!(u32::from(status) & 0xf <= link & 0xf, "the link speed is supported");
        assert!(u32::from(status) >> 4 & 0x3f <= link >> 4 & 0x3f, "the link width is supported");
    }
    let mut rig = f1();
    let at = rig.capability(0x10).unwrap();
    assert_eq!(rig.config32(at + 4) & 0x7, 3, "1024-byte payload, as reported by F1");
}

#[test]
fn function_reset_is_advertised_if_supported() {
    for card in [CardFile::f1(), CardFile::alveo()] {
        for function_reset in [false, true] {
            let mut rig = Rig::exactly(
                EmulatorOptions { card: card.clone(), ..synchronous() }.with_function_reset(function_reset),
            );
            let at = rig.capability(0x10).unwrap();
            assert_eq!(rig.config32(at + 4) >> 28 & 1, u32::from(function_reset), "DevCap");
            // DevCtl bit 15 starts the reset and always reads 0.
            assert_eq!(rig.config16(at + 8) & 0x8000, 0);
        }
    }
}

#[test]
fn the_command_register_keeps_what_software_sets() {
    for mut rig in [f1(), alveo()] {
        for value in [0x0002u16, 0x0006, 0x0406, 0x0000] {
            rig.config_write(0x04, &value.to_le_bytes());
            assert_eq!(rig.config16(0x04) & 0x0407, value);
        }
    }
}

#[test]
fn device_control_keeps_what_software_sets() {
    for mut rig in [f1(), alveo()] {
        let at = rig.capability(0x10).unwrap() + 8;
        for value in [0x0000u16, 0x0010, 0x0100, 0x2110, 0x5110, 0x2830] {
            rig.config_write(at, &value.to_le_bytes());
            assert_eq!(
                rig.config16(at) & 0x7130,
                value & 0x7130,
                "relaxed ordering, extended tags, MPS, MRRS"
            );
        }
    }
}

#[test]
fn read_only_registers_ignore_writes() {
    for mut rig in [f1(), alveo()] {
        for at in [0x00, 0x08, 0x0c, 0x2c, 0x34, 0x3d] {
            let before = rig.config32(at & !3);
            let bytes = (!before).to_le_bytes();
            // The read-only halves of 0x0c and 0x3c are header type and pin. Cache line size and interrupt line belong to
            // software.
            match at {
                0x0c => rig.config_write(0x0e, &bytes[2..4]),
                0x3d => rig.config_write(0x3d, &bytes[1..2]),
                _ => rig.config_write(at, &bytes),
            }
            assert_eq!(rig.config32(at & !3), before, "at {at:#x}");
        }
        assert_eq!(rig.config8(0x3d), 1, "INTA");
        rig.config_write(0x3c, &[11]);
        assert_eq!(rig.config8(0x3c), 11, "Interrupt Line belongs to software");
    }
}

#[test]
fn bytes_and_words_of_configuration_space_agree() {
    let mut rig = f1();
    for at in 0..64 {
        let word = rig.config32(at * 4).to_le_bytes();
        let bytes: Vec<u8> = (0..4).map(|i| rig.config8(at * 4 + i)).collect();
        assert_eq!(word[..], bytes[..], "at {:#x}", at * 4);
    }
    let size = region_size(&rig, 7);
    assert!(size == 256 || size == 4096, "{size}");
}
