//! The register space of the XDMA BAR: effects of register reads and writes. PG195, "Register Space".

use super::card::{CardModel, masked, words};
use super::channel::{ChannelModel, Registers};
use super::log::{Rule, add};
use std::sync::atomic::{AtomicU32, Ordering};
use xdma_card_file::Versions;
use xdma_regs::channel as chan;
use xdma_regs::{Direction, IDENTIFIER, Identifier, MAX_CHANNELS, Target, config, sgdma};

/// The implemented bits of the control register; bits 24 and 8:7 are reserved.
const CONTROL: u32 = 0x0eff_fe7f;
/// The implemented bits of the channel's interrupt mask.
const IRQ_ENABLE: u32 = 0x00ff_fe7e;
/// The registers of the configuration block that hold a written value.
#[derive(Debug)]
pub(super) struct ConfigBlock {
    pcie_control: AtomicU32,
    flush_timeout: AtomicU32,
}

impl Default for ConfigBlock {
    fn default() -> Self {
        Self { pcie_control: AtomicU32::new(1), flush_timeout: AtomicU32::new(0) }
    }
}

impl ConfigBlock {
    pub fn reset(&self) {
        self.pcie_control.store(1, Ordering::Relaxed);
        self.flush_timeout.store(0, Ordering::Relaxed);
    }
}

impl CardModel {
    /// Reads registers. A narrower access than a word returns its bytes of the word.
    pub(super) fn xdma_read(&self, offset: u64, data: &mut [u8]) {
        add(&self.shared.log.count.register_reads, 1);
        self.check_width(offset, data.len());
        if self.shared.faults.all_ones() {
            data.fill(0xff);
            return;
        }
        for (word, range, first) in words(offset, data.len()) {
            let simulated = self.simulated_register(word as u32);
            let value = simulated.unwrap_or_else(|| self.register(word as u32)).to_le_bytes();
            let len = range.len();
            data[range].copy_from_slice(&value[first..first + len]);
        }
    }

    /// Writes registers. The byte enables of a narrower access than a word select its bytes of the word.
    pub(super) fn xdma_write(&self, offset: u64, data: &[u8]) {
        add(&self.shared.log.count.register_writes, 1);
        self.check_width(offset, data.len());
        for (word, range, first) in words(offset, data.len()) {
            let (value, mask) = masked(&data[range], first);
            if self.set_simulated_register(word as u32, value, mask) {
                continue;
            }
            let kept = if mask == u32::MAX { 0 } else { self.kept(word as u32) & !mask };
            self.set_register(word as u32, kept | value);
        }
    }

    /// Reads a register of a simulated engine, if the card has one.
    fn simulated_register(&self, address: u32) -> Option<u32> {
        #[cfg(feature = "rtl-dma")]
        if let Some(engine) = &self.rtl_dma {
            return Some(engine.read(address));
        }
        #[cfg(feature = "rtl-f2")]
        if let Some(image) = &self.f2 {
            return Some(image.read(address));
        }
        let _ = address;
        None
    }

    /// Writes the bytes of a register of a simulated engine that `mask` covers. Returns whether the card has such an engine.
    fn set_simulated_register(&self, address: u32, value: u32, mask: u32) -> bool {
        let strobes = (0..4).map(|byte| (mask >> (8 * byte) & 1) << byte).sum::<u32>() as u8;
        #[cfg(feature = "rtl-dma")]
        if let Some(engine) = &self.rtl_dma {
            engine.write(address, value, strobes);
            return true;
        }
        #[cfg(feature = "rtl-f2")]
        if let Some(image) = &self.f2 {
            image.write(address, value, strobes);
            return true;
        }
        let _ = (address, value, strobes);
        false
    }

    /// Reads the user logic's registers behind those of a simulated engine. Returns whether the card has one.
    pub(super) fn simulated_user_read(&self, offset: u64, data: &mut [u8]) -> bool {
        words(offset, data.len()).all(|(word, range, first)| {
            let Some(value) = self.simulated_register(word as u32) else { return false };
            let len = range.len();
            data[range].copy_from_slice(&value.to_le_bytes()[first..first + len]);
            true
        })
    }

    /// Writes the user logic's registers behind those of a simulated engine. Returns whether the card has one.
    pub(super) fn simulated_user_write(&self, offset: u64, data: &[u8]) -> bool {
        words(offset, data.len()).all(|(word, range, first)| {
            let (value, mask) = masked(&data[range], first);
            self.set_simulated_register(word as u32, value, mask)
        })
    }

    /// Reads the block that only delivers interrupts.
    pub(super) fn interrupt_block_read(&self, offset: u64, data: &mut [u8]) {
        self.check_width(offset, data.len());
        for (word, range, first) in words(offset, data.len()) {
            let value = self.shared.irq.block_read(word as u32).to_le_bytes();
            let len = range.len();
            data[range].copy_from_slice(&value[first..first + len]);
        }
    }

    /// Writes the block that only delivers interrupts. Partial words are ignored.
    pub(super) fn interrupt_block_write(&self, offset: u64, data: &[u8]) {
        self.check_width(offset, data.len());
        for (word, range, first) in words(offset, data.len()) {
            if let (value, u32::MAX) = masked(&data[range], first) {
                self.shared.irq.block_write(word as u32, value);
            }
        }
    }

    /// Reads the MSI-X table or the pending bits.
    pub(super) fn msix_read(&self, bar: usize, offset: u64, data: &mut [u8]) {
        self.check_msix_width(offset, data.len());
        for (word, range, first) in words(offset, data.len()) {
            let place = self.shared.irq.msix_place(bar, word);
            let value = place.map_or(0, |place| self.shared.irq.msix_read(place)).to_le_bytes();
            let len = range.len();
            data[range].copy_from_slice(&value[first..first + len]);
        }
    }

    /// Writes the MSI-X table.
    pub(super) fn msix_write(&self, bar: usize, offset: u64, data: &[u8]) {
        self.check_msix_width(offset, data.len());
        for (word, range, first) in words(offset, data.len()) {
            let Some(place) = self.shared.irq.msix_place(bar, word) else { continue };
            let (value, mask) = masked(&data[range], first);
            let kept = self.shared.irq.msix_read(place) & !mask;
            self.shared.irq.msix_write(place, kept | value);
        }
    }

    /// Records accesses to the table that are not allowed: all but aligned 32-bit and 64-bit ones (PCI, "MSI-X Table Structure").
    fn check_msix_width(&self, offset: u64, len: usize) {
        if !(offset.is_multiple_of(4) && matches!(len, 4 | 8)) {
            self.shared.log.violation(Rule::AccessWidth, offset, None);
        }
    }

    /// Records accesses that PG195 forbids: all but aligned 32-bit ones.
    fn check_width(&self, offset: u64, len: usize) {
        if !(offset.is_multiple_of(4) && len == 4) {
            self.shared.log.violation(Rule::AccessWidth, offset, None);
        }
    }

    /// Returns the value of a register that a narrow write is merged into. It is 0 for registers in which writing 1 to a bit has an
    /// effect, so that the bytes that are not written have none.
    fn kept(&self, address: u32) -> u32 {
        let (target, _, offset) = split(address);
        let acts = match target {
            0 | 1 => matches!(
                offset,
                chan::CONTROL_W1S
                    | chan::CONTROL_W1C
                    | chan::STATUS
                    | chan::STATUS_RC
                    | chan::IRQ_ENABLE_W1S
                    | chan::IRQ_ENABLE_W1C
            ),
            4 | 5 => offset == sgdma::CREDITS,
            _ => false,
        };
        // The aliases of the other blocks read 0.
        if acts { 0 } else { self.register(address) }
    }

    fn register(&self, address: u32) -> u32 {
        let (target, index, offset) = split(address);
        match target {
            0 => self.channel(Direction::H2C, index).map_or(0, |channel| channel.read(offset)),
            1 => self.channel(Direction::C2H, index).map_or(0, |channel| channel.read(offset)),
            2 if address & 0xfff == IDENTIFIER => self.identifier(Target::Irq, self.versions().irq),
            2 => self.shared.irq.read(address & 0xfff),
            3 => self.block_read(address & 0xfff),
            4 => self.channel(Direction::H2C, index).map_or(0, |channel| channel.sgdma_read(offset)),
            5 => self.channel(Direction::C2H, index).map_or(0, |channel| channel.sgdma_read(offset)),
            6 => self.common_read(address & 0xfff),
            _ => 0,
        }
    }

    fn set_register(&self, address: u32, value: u32) {
        let (target, index, offset) = split(address);
        let channel = |direction| self.channel(direction, index);
        match target {
            0 => _ = channel(Direction::H2C).map(|channel| channel.write(offset, value)),
            1 => _ = channel(Direction::C2H).map(|channel| channel.write(offset, value)),
            2 => self.shared.irq.write(address & 0xfff, value, self.channel_bits()),
            3 => self.block_write(address & 0xfff, value),
            4 => _ = channel(Direction::H2C).map(|channel| channel.sgdma_write(offset, value)),
            5 => _ = channel(Direction::C2H).map(|channel| channel.sgdma_write(offset, value)),
            6 => self.common_write(address & 0xfff, value),
            _ => {}
        }
    }

    fn versions(&self) -> Versions {
        self.shared.options.card.core.versions
    }

    fn identifier(&self, target: Target, version: u8) -> u32 {
        Identifier::new(target, 0, false).with_version(version).0
    }

    /// Returns a mask with one bit for each channel, H2C first.
    fn channel_bits(&self) -> u32 {
        (1 << self.channels().len()) - 1
    }

    fn block_read(&self, offset: u32) -> u32 {
        let link = &self.shared.link;
        match offset {
            IDENTIFIER => self.identifier(Target::Config, self.versions().config),
            config::MAX_PAYLOAD => link.max_payload(),
            config::MAX_READ_REQUEST => link.max_read_request(),
            config::SYSTEM_ID => self.shared.options.card.core.system_id.into(),
            config::MSI_ENABLE => self.shared.irq.enabled() | self.messages_enabled(),
            config::DATA_WIDTH => (self.shared.options.card.core.data_width / 64).ilog2(),
            config::PCIE_CONTROL => self.config_block.pcie_control.load(Ordering::Relaxed),
            config::USER_MAX_PAYLOAD => link.user_max_payload().load(Ordering::Relaxed),
            config::USER_MAX_READ_REQUEST => link.user_max_read_request().load(Ordering::Relaxed),
            config::WRITE_FLUSH_TIMEOUT => self.config_block.flush_timeout.load(Ordering::Relaxed),
            // Bus, device and function are assigned by the host, and no vfio-user message reports them.
            _ => 0,
        }
    }

    fn block_write(&self, offset: u32, value: u32) {
        let link = &self.shared.link;
        let (register, mask) = match offset {
            config::PCIE_CONTROL => (&self.config_block.pcie_control, 1),
            config::USER_MAX_PAYLOAD => (link.user_max_payload(), 7),
            config::USER_MAX_READ_REQUEST => (link.user_max_read_request(), 7),
            config::WRITE_FLUSH_TIMEOUT => (&self.config_block.flush_timeout, 0x1f),
            _ => return,
        };
        register.store(value & mask, Ordering::Relaxed);
    }

    fn common_read(&self, offset: u32) -> u32 {
        match offset {
            IDENTIFIER => self.identifier(Target::SgdmaCommon, self.versions().sgdma_common),
            sgdma::FETCH_HALT => self.common(|channel| channel.registers().fetch_halted),
            sgdma::CREDIT_ENABLE => self.common(|channel| channel.registers().credit_mode),
            _ => 0,
        }
    }

    fn common(&self, is_set: impl Fn(&ChannelModel) -> bool) -> u32 {
        let set = self.channels().iter().filter(|channel| is_set(channel));
        set.fold(0, |bits, channel| bits | channel.common_bit())
    }

    fn common_write(&self, offset: u32, value: u32) {
        for channel in self.channels() {
            let named = value & channel.common_bit() != 0;
            match offset {
                sgdma::FETCH_HALT => channel.set_fetch_halted(named),
                sgdma::FETCH_HALT_W1S if named => channel.set_fetch_halted(true),
                sgdma::FETCH_HALT_W1C if named => channel.set_fetch_halted(false),
                sgdma::CREDIT_ENABLE => channel.set_credit_mode(named),
                sgdma::CREDIT_ENABLE_W1S if named => channel.set_credit_mode(true),
                sgdma::CREDIT_ENABLE_W1C if named => channel.set_credit_mode(false),
                _ => {}
            }
        }
    }

    fn channel(&self, direction: Direction, index: usize) -> Option<&ChannelModel> {
        let mut channels = self.channels().iter();
        channels.find(|channel| channel.id.direction == direction && channel.id.index == index).map(|c| &**c)
    }
}

/// Splits an address into target, channel and offset.
fn split(address: u32) -> (u32, usize, u32) {
    (address >> 12, (address >> 8 & 0xf) as usize, address & 0xff)
}

impl ChannelModel {
    fn common_bit(&self) -> u32 {
        debug_assert!(self.id.index < MAX_CHANNELS);
        xdma_regs::common_bit(self.id.direction, self.id.index)
    }

    /// Returns the identifier of one of the channel's blocks, whose versions are those for H2C and C2H.
    fn identifier(&self, target: Target, versions: impl Fn(&Versions) -> [u8; 2]) -> u32 {
        let [h2c, c2h] = versions(&self.shared.options.card.core.versions);
        let version = if self.is_h2c() { h2c } else { c2h };
        Identifier::new(target, self.id.index, self.stream).with_version(version).0
    }

    /// Returns the alignment rules of the channel's current mode.
    fn alignments(&self, regs: &Registers) -> u32 {
        let card = &self.shared.options.card;
        let rule = match regs.bit(chan::Control::NON_INCREMENTING) {
            true => card.fixed_alignment(),
            false => card.channels.alignment,
        };
        u32::from(rule.address) << 16 | u32::from(rule.length) << 8 | u32::from(card.channels.address_bits)
    }

    fn read(&self, offset: u32) -> u32 {
        let mut regs = self.registers();
        match offset {
            IDENTIFIER => {
                self.identifier(Target::channel(self.id.direction), |versions| [versions.h2c, versions.c2h])
            }
            chan::CONTROL => regs.control,
            chan::STATUS => {
                self.inject_status_fault(&mut regs);
                self.status(&regs)
            }
            chan::STATUS_RC => {
                self.inject_status_fault(&mut regs);
                let status = self.status(&regs);
                regs.status = 0;
                self.update_irq(&regs);
                status
            }
            chan::COMPLETED_COUNT => regs.completed,
            chan::ALIGNMENTS => self.alignments(&regs),
            chan::WRITE_BACK_LO => regs.write_back as u32,
            chan::WRITE_BACK_HI => (regs.write_back >> 32) as u32,
            chan::IRQ_ENABLE => regs.irq_enable,
            chan::PERF_CONTROL => regs.perf.read_control(),
            chan::PERF_CYCLES_LO => regs.perf.read_cycles()[0],
            chan::PERF_CYCLES_HI => regs.perf.read_cycles()[1],
            chan::PERF_DATA_LO => regs.perf.read_data()[0],
            chan::PERF_DATA_HI => regs.perf.read_data()[1],
            // This includes the "pending count" at 0xd4, which `xdma.ko` reads but PG195 does not define.
            _ => 0,
        }
    }

    fn write(&self, offset: u32, value: u32) {
        match offset {
            chan::CONTROL => self.set_control(value, |_| value & CONTROL),
            chan::CONTROL_W1S => self.set_control(value, |control| control | value & CONTROL),
            chan::CONTROL_W1C => self.set_control(0, |control| control & !value),
            chan::STATUS => self.update(|regs| regs.status &= !value),
            chan::WRITE_BACK_LO => self.update(|regs| set_low(&mut regs.write_back, value)),
            chan::WRITE_BACK_HI => self.update(|regs| set_high(&mut regs.write_back, value)),
            chan::IRQ_ENABLE => self.update(|regs| regs.irq_enable = value & IRQ_ENABLE),
            chan::IRQ_ENABLE_W1S => self.update(|regs| regs.irq_enable |= value & IRQ_ENABLE),
            chan::IRQ_ENABLE_W1C => self.update(|regs| regs.irq_enable &= !value),
            chan::PERF_CONTROL => self.update(|regs| {
                let running = regs.is_running();
                regs.perf.control(value, running);
            }),
            _ => {}
        }
    }

    fn update(&self, change: impl FnOnce(&mut Registers)) {
        let mut regs = self.registers();
        change(&mut regs);
        self.update_irq(&regs);
    }

    fn sgdma_read(&self, offset: u32) -> u32 {
        let regs = self.registers();
        match offset {
            IDENTIFIER => self.identifier(Target::sgdma(self.id.direction), |versions| {
                [versions.h2c_sgdma, versions.c2h_sgdma]
            }),
            sgdma::DESCRIPTOR_LO => regs.start as u32,
            sgdma::DESCRIPTOR_HI => (regs.start >> 32) as u32,
            sgdma::DESCRIPTOR_ADJACENT => regs.adjacent,
            sgdma::CREDITS => regs.credits,
            _ => 0,
        }
    }

    fn sgdma_write(&self, offset: u32, value: u32) {
        match offset {
            sgdma::DESCRIPTOR_LO => self.set_start(offset, |regs| set_low(&mut regs.start, value)),
            sgdma::DESCRIPTOR_HI => self.set_start(offset, |regs| set_high(&mut regs.start, value)),
            sgdma::DESCRIPTOR_ADJACENT => self.set_start(offset, |regs| regs.adjacent = value & 0x3f),
            sgdma::CREDITS => self.add_credits(value & sgdma::MAX_CREDITS),
            _ => {}
        }
    }
}

fn set_low(register: &mut u64, value: u32) {
    *register = *register & !0xffff_ffff | u64::from(value);
}

fn set_high(register: &mut u64, value: u32) {
    *register = *register & 0xffff_ffff | u64::from(value) << 32;
}
