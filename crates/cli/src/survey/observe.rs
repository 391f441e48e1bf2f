//! What a card states about itself: config space and read-only registers.

use crate::card::is_emulated;
use anyhow::{Context, Result};
use xdma::card::{Card, ChannelReport, Report};
use xdma::regs::channel::Alignments;
use xdma::regs::{Direction, IDENTIFIER, Identifier, Target, config};
use xdma::unstable::card::{capability, config_read, registers};
use xdma_emulator::CardFile;
use xdma_emulator::card_file::{
    Alignment, Bar, Bytes, Channels, Core, FORMAT, Function, Holds, Interface, Intx, Link, Logic, Msix,
    Setting, Shell, Switches, Versions,
};

const MSI: u8 = 0x05;
const MSIX: u8 = 0x11;
const PCI_EXPRESS: u8 = 0x10;
/// Describes a card, without side effects on it.
pub fn observe(card: &Card) -> Result<CardFile> {
    let report = card.report()?;
    let function = function(card)?;
    let name = format!("Surveyed card {:04x}:{:04x}", function.vendor, function.device);
    let emulated = if is_emulated(&report) { " from an emulated card" } else { "" };
    let mut file = CardFile {
        format: FORMAT,
        name,
        notes: vec![format!("written by `xdma survey` {}{emulated}", env!("CARGO_PKG_VERSION"))],
        function,
        bars: bars(card, &report)?,
        core: core(card, &report)?,
        channels: channels(&report)?,
        switches: Switches::default(),
        shell: Shell::default(),
        logic: Logic::default(),
    };
    file.notes.extend(inexpressible(card, &report)?);
    if let Err(error) = file.check() {
        // The file is still useful to a reader.
        file.notes.push(format!("the format has no such card: {error}"));
    }
    Ok(file)
}

/// Returns what the format cannot express.
fn inexpressible(card: &Card, report: &Report) -> Result<Vec<String>> {
    let mut notes = vec![];
    if capability(card, PCI_EXPRESS)?.is_none() {
        notes.push("the function has no PCI Express capability".to_owned());
    }
    if let Some(at) = capability(card, MSIX)? {
        let (table, pending) = (config_read(card, at + 4, 4)? & 7, config_read(card, at + 8, 4)? & 7);
        if table != pending {
            notes.push(format!("the pending bits are in BAR{pending}, the MSI-X table is in BAR{table}"));
        }
    }
    let rules = |channel: &ChannelReport| (channel.identifier.is_stream(), channel.alignments);
    for channel in report.channels.iter().filter(|channel| rules(channel) != rules(&report.channels[0])) {
        let (stream, alignments) = rules(channel);
        let kind = if stream { "stream" } else { "memory-mapped" };
        let (direction, index) = (channel.direction, channel.index);
        notes.push(format!("{direction} channel {index} is {kind}, with the alignments {:#x}", alignments.0));
    }
    Ok(notes)
}

fn function(card: &Card) -> Result<Function> {
    let read16 = |offset| config_read(card, offset, 2).map(|value| value as u16);
    let class = config_read(card, 8, 4)?;
    let express = capability(card, PCI_EXPRESS)?;
    let device = express.map_or(Ok(0), |at| config_read(card, at + 4, 4))?;
    let msi_vectors = match capability(card, MSI)? {
        Some(at) => 1 << (config_read(card, at + 2, 2)? >> 1 & 7).min(5),
        None => 0,
    };
    Ok(Function {
        vendor: read16(0)?,
        device: read16(2)?,
        subsystem_vendor: read16(0x2c)?,
        subsystem: read16(0x2e)?,
        class: class >> 8,
        revision: class as u8,
        reset: device >> 28 & 1 != 0,
        intx: Intx::of(config_read(card, 0x3d, 1)? as u8),
        msi_vectors,
        msix: msix(card)?,
        max_payload: 128 << (device & 7).min(5),
        link: link(card, express)?,
    })
}

fn msix(card: &Card) -> Result<Option<Msix>> {
    let Some(at) = capability(card, MSIX)? else { return Ok(None) };
    let vectors = (config_read(card, at + 2, 2)? & 0x7ff) as u16 + 1;
    let (table, pending) = (config_read(card, at + 4, 4)?, config_read(card, at + 8, 4)?);
    Ok(Some(Msix { vectors, bar: (table & 7) as usize, table: table & !7, pending: pending & !7 }))
}

fn link(card: &Card, express: Option<u16>) -> Result<Link> {
    let Some(express) = express else {
        return Ok(Link { generation: 0, lanes: 0, max_generation: 0, max_lanes: 0 });
    };
    let (most, now) = (config_read(card, express + 0x0c, 4)?, config_read(card, express + 0x12, 2)?);
    let (generation, lanes) = (|word: u32| (word & 0xf) as u8, |word: u32| (word >> 4 & 0x3f) as u8);
    Ok(Link {
        generation: generation(now),
        lanes: lanes(now),
        max_generation: generation(most),
        max_lanes: lanes(most),
    })
}

fn bars(card: &Card, report: &Report) -> Result<Vec<Bar>> {
    let mut found = vec![];
    for (index, &size) in report.bus.bars.iter().enumerate().filter(|(_, size)| **size > 0) {
        let low = config_read(card, 0x10 + 4 * index as u16, 4)?;
        found.push(Bar {
            index,
            size,
            width: if low >> 1 & 3 == 2 { 64 } else { 32 },
            prefetchable: low & 8 != 0,
            holds: match index {
                _ if index == report.register_bar => Holds::Registers.into(),
                _ if Some(index) == report.interrupt_bar => Holds::Interrupts.into(),
                _ => Setting::Unknown,
            },
            user_offset: (Some(index) == report.user_bar && report.user_offset > 0)
                .then_some(Bytes(report.user_offset)),
            reserved: Setting::Unknown,
        });
    }
    Ok(found)
}

fn core(card: &Card, report: &Report) -> Result<Core> {
    let bar = registers(card);
    let read = |address: u32| bar.read32(address.into());
    let version = |target: Target| read(target.base(0) + IDENTIFIER).map(|id| Identifier(id).version());
    // An absent channel has no identifier.
    let of = |direction, target| if report.count(direction) > 0 { version(target) } else { Ok(0) };
    Ok(Core {
        data_width: report.data_width * 8,
        system_id: read(Target::Config.base(0) + config::SYSTEM_ID)? as u16,
        versions: Versions {
            h2c: of(Direction::H2C, Target::H2C)?,
            c2h: of(Direction::C2H, Target::C2H)?,
            irq: version(Target::Irq)?,
            config: version(Target::Config)?,
            h2c_sgdma: of(Direction::H2C, Target::H2CSgdma)?,
            c2h_sgdma: of(Direction::C2H, Target::C2HSgdma)?,
            sgdma_common: version(Target::SgdmaCommon)?,
        },
    })
}

fn channels(report: &Report) -> Result<Channels> {
    let first = report.channels.first().context("the core has no channels")?;
    Ok(Channels {
        h2c: report.count(Direction::H2C),
        c2h: report.count(Direction::C2H),
        interface: if first.identifier.is_stream() { Interface::Stream } else { Interface::MemoryMapped },
        address_bits: first.alignments.address_bits() as u8,
        alignment: alignment(first.alignments),
        fixed_address: Setting::Unknown,
        credits: Setting::Unknown,
    })
}

pub fn alignment(register: Alignments) -> Alignment {
    Alignment { address: register.address() as u8, length: register.length() as u8 }
}
