//! Every shipped description: what the card shows in configuration space and registers is what the description states, and all its
//! channels move data.

use crate::host::{COMPLETED, STOP};
use crate::rig::{DATA, LIST, Piece, Rig, c2h, exists, h2c, pieces, synchronous};
use xdma_emulator::card_file::{Alignment, Holds, Intx, Msix, SHIPPED};
use xdma_emulator::{CardFile, EmulatorOptions};

fn each(test: impl Fn(&CardFile, &mut Rig)) {
    for (name, _) in SHIPPED {
        let card = CardFile::shipped(name).unwrap();
        if !exists(&card) {
            continue;
        }
        println!("{name}");
        let mut rig = Rig::exactly(EmulatorOptions { card, ..synchronous() });
        // The engine of `hdl/rtl/dma` replaces the core in the description.
        let card = rig.card.options().card;
        test(&card, &mut rig);
    }
}

/// PCI Local Bus Specification, "Configuration Space Organization", "Base Addresses".
#[test]
fn configuration_space_is_as_described() {
    each(|card, rig| {
        let function = &card.function;
        assert_eq!((rig.config16(0x00), rig.config16(0x02)), (function.vendor, function.device));
        assert_eq!((rig.config16(0x2c), rig.config16(0x2e)), (function.subsystem_vendor, function.subsystem));
        assert_eq!(rig.config32(0x08), function.class << 8 | u32::from(function.revision));
        let pin = [Intx::None, Intx::A, Intx::B, Intx::C, Intx::D][usize::from(rig.config8(0x3d))];
        assert_eq!(pin, function.intx);
        rig.config_write(0x10, &[0xff; 24]);
        let words: Vec<u32> = (0..6).map(|index| rig.config32(0x10 + 4 * index)).collect();
        let mut expected = vec![0; 6];
        for bar in &card.bars {
            let mask = !(bar.size - 1);
            let flags = u32::from(bar.width == 64) << 2 | u32::from(bar.prefetchable) << 3;
            expected[bar.index] = mask as u32 | flags;
            if bar.width == 64 {
                expected[bar.index + 1] = (mask >> 32) as u32;
            }
            assert_eq!(rig.client.region(bar.index as u32).unwrap().size, bar.size);
        }
        assert_eq!(words, expected, "{words:x?}");
    });
}

/// PCI Local Bus Specification, "MSI Capability", "MSI-X Capability"; PCI Express Base Specification, "PCI Express Capability".
#[test]
fn capabilities_are_as_described() {
    each(|card, rig| {
        let function = &card.function;
        let msi = rig.capability(0x05).map(|at| 1 << (rig.config16(at + 2) >> 1 & 7));
        assert_eq!(msi.unwrap_or(0), function.msi_vectors);
        let msix = rig
            .capability(0x11)
            .map(|at| (rig.config16(at + 2) & 0x7ff, rig.config32(at + 4), rig.config32(at + 8)));
        let expected = function.msix.map(|msix| {
            let bar = msix.bar as u32;
            (msix.vectors - 1, msix.table | bar, msix.pending | bar)
        });
        assert_eq!(msix, expected);
        let express = rig.capability(0x10).unwrap();
        let device = rig.config32(express + 4);
        assert_eq!((128 << (device & 7), device >> 28 & 1 != 0), (function.max_payload, function.reset));
        let (most, now) = (rig.config32(express + 0x0c), rig.config16(express + 0x12));
        let link = function.link;
        assert_eq!((most & 0xf, most >> 4 & 0x3f), (link.max_generation.into(), link.max_lanes.into()));
        assert_eq!((now & 0xf, now >> 4 & 0x3f), (link.generation.into(), link.lanes.into()));
        let counts = [0, 1, 2].map(|index| rig.client.get_irq_info(index).unwrap().count);
        let vectors = function.msix.map_or(0, |msix| msix.vectors.into());
        assert_eq!(counts, [u32::from(function.intx != Intx::None), function.msi_vectors.into(), vectors]);
    });
}

/// PG195, "Config Block Identifier", "Data Path Width" and the identifiers of all blocks.
#[test]
fn registers_are_as_described() {
    each(|card, rig| {
        let (channels, versions) = (card.channels, card.core.versions);
        let stream = if card.is_stream() { 0x8000 } else { 0 };
        for (base, count, version, sgdma) in [
            (0x1fc0_0000, channels.h2c, versions.h2c, versions.h2c_sgdma),
            (0x1fc1_0000, channels.c2h, versions.c2h, versions.c2h_sgdma),
        ] {
            for channel in 0..4u32 {
                let at = u64::from(base >> 4 & 0x1000 | channel << 8);
                let present = (channel as usize) < count;
                let identifier = |base: u32, version: u8| match present {
                    true => base | stream | channel << 8 | u32::from(version),
                    false => 0,
                };
                assert_eq!(rig.read(at), identifier(base, version));
                assert_eq!(rig.read(0x4000 + at), identifier(base + 0x4_0000, sgdma));
                if present {
                    let rule = channels.alignment;
                    let alignments = u32::from(rule.address) << 16
                        | u32::from(rule.length) << 8
                        | u32::from(channels.address_bits);
                    assert_eq!(rig.read(at + 0x4c), alignments);
                }
            }
        }
        assert_eq!(rig.read(0x2000), 0x1fc2_0000 | u32::from(versions.irq));
        assert_eq!(rig.read(0x3000), 0x1fc3_0000 | u32::from(versions.config));
        assert_eq!(rig.read(0x6000), 0x1fc6_0000 | u32::from(versions.sgdma_common));
        assert_eq!(64 << rig.read(0x3018), card.core.data_width);
        assert_eq!(rig.read(0x3010) & 0xffff, u32::from(card.core.system_id));
    });
}

#[test]
fn every_memory_mapped_channel_moves_data() {
    each(|card, rig| {
        if card.is_stream() {
            return;
        }
        let all = (0..card.channels.h2c as u32).map(h2c).chain((0..card.channels.c2h as u32).map(c2h));
        for channel in all {
            let list = pieces(5, 700);
            let expected = rig.fill(channel, &list, 9);
            let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
            rig.run(channel, LIST, adjacent, 0x1e);
            assert_eq!((rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)), (0x06, 5));
            rig.check(channel, &list, &expected);
        }
    });
}

/// A BAR of which nothing is known answers with all ones.
#[test]
fn a_bar_holds_what_is_described() {
    let mut card = CardFile::shipped("three-and-one").unwrap();
    card.bars[2].holds = Default::default();
    let mut rig = Rig::exactly(EmulatorOptions { card: card.clone(), ..synchronous() });
    rig.bar_write(4, 0x1000, 5);
    assert_eq!(rig.bar_read(4, 0x1000), !0);
    card.bars[2].holds = Holds::Memory.into();
    let mut rig = Rig::exactly(EmulatorOptions { card, ..synchronous() });
    rig.bar_write(4, 0x1000, 5);
    assert_eq!(rig.bar_read(4, 0x1000), 5);
}

/// The MSI-X structures are where the capability says, in any BAR.
#[test]
fn the_vector_table_is_where_it_is_described() {
    for bar in [1, 0] {
        let mut card = CardFile::alveo();
        card.function.msix = Some(Msix { vectors: 5, bar, table: 0x9000, pending: 0xa000 });
        let mut rig = Rig::exactly(EmulatorOptions { card, ..synchronous() });
        let mut word = |offset: u64| {
            let mut data = [0; 4];
            rig.client.region_read(bar as u32, offset, &mut data).unwrap();
            u32::from_le_bytes(data)
        };
        assert_eq!(
            [0x9000, 0x900c, 0x904c].map(|offset| word(offset) & 1),
            [0, 1, 1],
            "vectors start masked"
        );
        // Behind the last vector, and where other cards have the table.
        assert_eq!([0x905c, 0x800c].map(&mut word), [0, 0]);
        assert_eq!(word(0xa000), 0);
    }
}

/// PG195, "Alignment": a descriptor that does not keep to the stated alignment ends with an error.
#[test]
fn stated_alignments_are_enforced() {
    let mut card = CardFile::alveo();
    card.channels.alignment = Alignment { address: 64, length: 32 };
    for (piece, fails) in [
        (Piece { host: DATA, card: 0, len: 96 }, false),
        (Piece { host: DATA + 32, card: 0, len: 96 }, true),
        (Piece { host: DATA, card: 1, len: 96 }, true),
        (Piece { host: DATA, card: 0, len: 31 }, true),
    ] {
        let mut rig = Rig::exactly(EmulatorOptions { card: card.clone(), ..synchronous() });
        let adjacent = rig.lay(h2c(0), LIST, &[piece], 0, STOP | COMPLETED);
        rig.write(0x04, 0x00ff_fe7e);
        rig.first(h2c(0), rig.host.at(LIST), adjacent);
        rig.write(0x04, 0x00ff_fe7f);
        assert_eq!(rig.read(0x40) >> 3 & 1 != 0, fails, "{piece:?}");
        assert_eq!(rig.read(0x48), u32::from(!fails));
    }
}
