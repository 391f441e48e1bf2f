//! Interrupts (PG195 "IRQ Block Registers", "MSI-X Vector Table and PBA"; PCI "MSI-X Capability and Table Structure").

use crate::host::{COMPLETED, STOP};
use crate::rig::{Channel, DEADLINE, LIST, RTL, Rig, c2h, channels, h2c, pieces, synchronous};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::EventFd;
use xdma_emulator::{CardFile, EmulatorOptions};

/// `VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER`.
const TRIGGER: u32 = 0x04 | 0x20;
/// `VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK`.
const UNMASK: u32 = 0x01 | 0x10;
const INTX: u32 = 0;
const MSI: u32 = 1;
pub const MSIX: u32 = 2;
/// The value that the vendor driver writes to 0x90 in interrupt mode.
const MASK: u32 = 0x00f8_3e1e;
/// The last vector that an engine can send. That of `hdl/rtl/dma` has a line for each of 16 vectors.
const LAST: usize = if RTL { 15 } else { 31 };

/// The eventfds of a card's vectors.
pub struct Vectors(Vec<EventFd>);

impl Vectors {
    /// Passes eventfds for `count` vectors of interrupt `index` to the card.
    pub fn connect(rig: &mut Rig, index: u32, count: u32) -> Self {
        let event = |_| EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).unwrap();
        let events: Vec<EventFd> = (0..count).map(event).collect();
        for (start, event) in (0..).zip(&events) {
            rig.client.set_irqs(index, TRIGGER, start, 1, &[event.as_raw_fd()]).expect("SET_IRQS");
        }
        Self(events)
    }

    /// Returns how often the vector has fired since the last call.
    fn fired(&self, vector: usize) -> u64 {
        self.0[vector].read().unwrap_or(0)
    }

    pub fn wait(&self, vector: usize) -> u64 {
        let start = Instant::now();
        loop {
            match self.fired(vector) {
                0 => assert!(start.elapsed() < DEADLINE, "vector {vector} never fired"),
                n => return n,
            }
            std::thread::yield_now();
        }
    }

    /// Asserts that no vector fires within a short time.
    pub fn silent(&self) {
        std::thread::sleep(Duration::from_millis(3));
        let fired: Vec<usize> = (0..self.0.len()).filter(|vector| self.fired(*vector) > 0).collect();
        assert!(fired.is_empty(), "vectors {fired:?} fired");
    }
}

/// Enables MSI-X in configuration space, writes and unmasks the table entries, and numbers the vectors like the vendor driver for
/// four channels in each direction.
fn msix(rig: &mut Rig) -> Vectors {
    let capability = rig.capability(0x11).expect("MSI-X");
    rig.config_write(capability + 2, &0x8000u16.to_le_bytes());
    let vectors = Vectors::connect(rig, MSIX, 32);
    for entry in 0..32 {
        rig.write(0x8000 + 16 * entry, 0xfee0_0000);
        rig.write(0x8004 + 16 * entry, 0);
        rig.write(0x8008 + 16 * entry, 0x4000 + entry as u32);
        rig.write(0x800c + 16 * entry, 0);
    }
    for (at, value) in [
        (0x20a0, 0x0302_0100),
        (0x20a4, 0x0706_0504),
        (0x2080, 0x0b0a_0908),
        (0x2084, 0x0f0e_0d0c),
        (0x2088, 0x1312_1110),
        (0x208c, 0x1716_1514),
    ] {
        rig.write(at, value);
    }
    vectors
}

/// Runs a list of one descriptor with the vendor driver's values. The status bits stay set.
fn finish_one(rig: &mut Rig, channel: Channel) {
    let adjacent = rig.lay(channel, LIST, &pieces(1, 256), 0, STOP | COMPLETED);
    rig.write(channel.base + 0x04, MASK);
    rig.first(channel, rig.host.at(LIST), adjacent);
    rig.write(channel.base + 0x04, MASK | 1);
    rig.until("the descriptor is counted", |rig| rig.read(channel.base + 0x48) == 1);
    rig.idle(channel);
}

fn both_cards() -> Vec<EmulatorOptions> {
    [CardFile::f1(), CardFile::alveo()].map(|card| EmulatorOptions { card, ..synchronous() }).to_vec()
}

#[test]
fn each_channel_has_its_bit_and_its_vector() {
    for options in both_cards() {
        let mut rig = Rig::exactly(options);
        let vectors = msix(&mut rig);
        rig.write(0x2014, 0xffff_ffff);
        for (vector, channel) in channels().into_iter().enumerate() {
            rig.write(channel.base + 0x90, MASK);
            finish_one(&mut rig, channel);
            assert_eq!(vectors.wait(vector), 1);
            vectors.silent();
            assert_eq!(rig.read(0x2044), channel.irq, "request");
            assert_eq!(rig.read(0x204c), channel.irq, "pending");
            assert_eq!(rig.read(channel.base + 0x44), 0x06);
            assert_eq!((rig.read(0x2044), rig.read(0x204c)), (0, 0), "the cause is gone");
        }
    }
}

#[test]
fn c2h_follows_the_last_h2c_channel_that_exists() {
    let mut rig = Rig::exactly(synchronous().with_channels(1, 1));
    let vectors = msix(&mut rig);
    rig.write(0x20a0, 0x0000_0100);
    rig.write(0x2014, 0xffff_ffff);
    rig.write(0x1090, MASK);
    finish_one(&mut rig, c2h(0));
    assert_eq!(vectors.wait(1), 1);
    vectors.silent();
    assert_eq!((rig.read(0x2044), rig.read(0x204c)), (0x2, 0x2));
}

#[test]
fn vector_numbers_are_arbitrary() {
    let mut rig = Rig::exactly(synchronous());
    let vectors = msix(&mut rig);
    rig.write(0x20a0, (LAST as u32) << 24);
    rig.write(0x20a4, LAST as u32 - 1);
    rig.write(0x2014, 0xff);
    for (channel, vector) in [(h2c(3), LAST), (c2h(0), LAST - 1), (c2h(1), 0)] {
        rig.write(channel.base + 0x90, MASK);
        finish_one(&mut rig, channel);
        assert_eq!(vectors.wait(vector), 1, "{channel:?}");
        vectors.silent();
    }
}

/// There are two masks: the channel's own (0x90) and that of the interrupt block (0x2010).
#[test]
fn both_masks_must_be_enabled() {
    let mut rig = Rig::exactly(synchronous());
    let vectors = msix(&mut rig);
    let channel = h2c(1);
    finish_one(&mut rig, channel);
    assert_eq!((rig.read(0x2044), rig.read(0x204c)), (0, 0), "disabled in 0x90");
    rig.write(0x190, MASK);
    assert_eq!((rig.read(0x2044), rig.read(0x204c)), (0, 0x2), "disabled in 0x2010");
    vectors.silent();
    rig.write(0x2014, 0x2);
    assert_eq!(rig.read(0x2044), 0x2);
    assert_eq!(vectors.wait(1), 1, "sent when a source that is high is enabled");
    rig.write(0x2018, 0x2);
    assert_eq!((rig.read(0x2044), rig.read(0x204c)), (0, 0x2));
    rig.write(0x2010, 0x2);
    assert_eq!(vectors.wait(1), 1, "sent again");
    vectors.silent();
}

#[test]
fn only_enabled_status_bits_are_a_source() {
    let mut rig = Rig::exactly(synchronous());
    let vectors = msix(&mut rig);
    rig.write(0x2014, 0xff);
    rig.write(0x90, 0x18);
    finish_one(&mut rig, h2c(0));
    assert_eq!(rig.read(0x40), 0x06);
    assert_eq!(rig.read(0x204c), 0);
    vectors.silent();
    rig.write(0x94, 0x4);
    assert_eq!(vectors.wait(0), 1);
    rig.write(0x40, 0x4);
    assert_eq!(rig.read(0x40), 0x02, "writing 1 clears");
    assert_eq!(rig.read(0x204c), 0);
}

/// The sequence of XIL: the interrupt handler disables 0x90 through 0x98 and reads 0x204c. The work item reads 0x44, stops the
/// channel, reads the count, and enables 0x90 through 0x94.
#[test]
fn the_vendor_interrupt_sequence_gets_one_message_per_run() {
    for options in [synchronous(), EmulatorOptions::default()] {
        let mut rig = Rig::exactly(options);
        let vectors = msix(&mut rig);
        rig.write(0x2014, 0xffff_ffff);
        for channel in [h2c(0), c2h(1)] {
            let vector = channel.irq.trailing_zeros() as usize;
            rig.write(channel.base + 0x90, MASK);
            for _ in 0..20 {
                finish_one(&mut rig, channel);
                assert_eq!(vectors.wait(vector), 1);
                rig.write(channel.base + 0x98, MASK);
                // (a) The source falls with the mask.
                assert_eq!((rig.read(0x204c), rig.read(0x2044)), (0, 0));
                assert_eq!(rig.read(channel.base + 0x44), 0x06);
                rig.write(channel.base + 0x04, MASK);
                assert_eq!(rig.read(channel.base + 0x48), 1);
                rig.write(channel.base + 0x94, MASK);
                assert_eq!(rig.read(channel.base + 0x90), MASK);
            }
            vectors.silent();
        }
    }
}

/// (b) A status bit that is still set when 0x90 is enabled sends a new message.
#[test]
fn enabling_a_set_status_bit_sends_a_message() {
    let mut rig = Rig::exactly(synchronous());
    let vectors = msix(&mut rig);
    rig.write(0x2014, 0xff);
    rig.write(0x1090, MASK);
    finish_one(&mut rig, c2h(0));
    assert_eq!(vectors.wait(4), 1);
    rig.write(0x1098, MASK);
    vectors.silent();
    rig.write(0x1094, MASK);
    assert_eq!(vectors.wait(4), 1);
    vectors.silent();
}

/// (c) A run that ends between reading 0x44 and enabling 0x90 is not lost.
#[test]
fn a_run_that_ends_while_disabled_fires_when_enabled() {
    let mut rig = Rig::exactly(synchronous());
    let vectors = msix(&mut rig);
    rig.write(0x2014, 0xff);
    rig.write(0x90, MASK);
    finish_one(&mut rig, h2c(0));
    assert_eq!(vectors.wait(0), 1);
    rig.write(0x98, MASK);
    assert_eq!(rig.read(0x44), 0x06);
    finish_one(&mut rig, h2c(0));
    vectors.silent();
    rig.write(0x94, MASK);
    assert_eq!(vectors.wait(0), 1);
    assert_eq!(rig.read(0x204c), 1);
}

/// Edge and level (PG195): the message is sent on the rising edge, so a source that stays high sends only one.
#[test]
fn a_source_that_stays_high_sends_one_message() {
    let mut rig = Rig::exactly(synchronous());
    let vectors = msix(&mut rig);
    rig.write(0x2014, 0xff);
    rig.write(0x90, MASK);
    finish_one(&mut rig, h2c(0));
    assert_eq!(vectors.wait(0), 1);
    rig.write(0x94, MASK);
    rig.write(0x2014, 0xff);
    vectors.silent();
    assert_eq!(rig.read(0x44), 0x06);
    finish_one(&mut rig, h2c(0));
    assert_eq!(vectors.wait(0), 1, "the source fell and rose again");
}

#[test]
fn an_error_interrupts_like_any_status() {
    let mut rig = Rig::exactly(synchronous());
    let vectors = msix(&mut rig);
    rig.write(0x2014, 0xff);
    rig.write(0x90, MASK);
    rig.host.put(LIST, [0; 8]);
    rig.run(h2c(0), LIST, 0, MASK);
    assert_eq!(vectors.wait(0), 1);
    assert_eq!(rig.read(0x40), 0x10);
}

#[test]
fn sixteen_user_interrupts_have_bits_and_vectors() {
    for options in both_cards() {
        let mut rig = Rig::exactly(options);
        let vectors = msix(&mut rig);
        // The vendor's numbers, behind those of the channels, unless there are too few vectors.
        let first = if RTL { 0 } else { 8 };
        for word in 0..4u32 {
            let numbers = [0, 1, 2, 3].map(|at| (first + 4 * word + at) as u8);
            rig.write(0x2080 + u64::from(4 * word), u32::from_le_bytes(numbers));
        }
        rig.write(0x2008, 0x1_ffff);
        for line in 0..16 {
            rig.fabric.user_irq(line, true);
            assert_eq!(vectors.wait(first as usize + line), 1);
            vectors.silent();
            assert_eq!((rig.read(0x2040), rig.read(0x2048)), (1 << line, 1 << line));
            rig.fabric.user_irq(line, false);
            assert_eq!((rig.read(0x2040), rig.read(0x2048)), (0, 0));
        }
        vectors.silent();
    }
}

/// User logic holds its request until it is served, so enabling the mask fires again each time.
#[test]
fn a_held_user_request_fires_again_when_reenabled() {
    let mut rig = Rig::exactly(synchronous());
    let vectors = msix(&mut rig);
    rig.fabric.user_irq(5, true);
    assert_eq!((rig.read(0x2040), rig.read(0x2048)), (0, 0x20));
    vectors.silent();
    for _ in 0..3 {
        rig.write(0x2008, 0x20);
        assert_eq!(vectors.wait(13), 1);
        rig.write(0x200c, 0x20);
        assert_eq!((rig.read(0x2040), rig.read(0x2048)), (0, 0x20));
    }
    rig.fabric.user_irq(5, false);
    rig.write(0x2008, 0x20);
    vectors.silent();
}

#[test]
fn the_table_starts_masked_and_is_writable() {
    for (card, count) in [(CardFile::f1(), 33), (CardFile::alveo(), 32)] {
        let mut rig = Rig::exactly(EmulatorOptions { card, ..synchronous() });
        let capability = rig.capability(0x11).expect("MSI-X");
        for entry in 0..count {
            assert_eq!(rig.read(0x800c + 16 * entry) & 1, 1, "entry {entry} starts masked");
        }
        rig.config_write(capability + 2, &0x8000u16.to_le_bytes());
        for entry in 0..count {
            let at = 0x8000 + 16 * entry;
            for (word, value) in
                [(0, 0xfee0_1000 + 4 * entry as u32), (4, 0x12), (8, 0x4000 + entry as u32), (12, 0)]
            {
                rig.write(at + word, value);
                assert_eq!(rig.read(at + word), value, "entry {entry} word {word}");
            }
            rig.write(at + 12, 1);
            assert_eq!(rig.read(at + 12) & 1, 1);
        }
    }
}

/// QEMU and the kernel do not pass table accesses on and only set eventfds, which then suffice.
#[test]
fn a_client_that_does_not_program_the_table_gets_its_messages() {
    let mut rig = Rig::exactly(synchronous());
    let capability = rig.capability(0x11).expect("MSI-X");
    rig.config_write(capability + 2, &0x8000u16.to_le_bytes());
    let vectors = Vectors::connect(&mut rig, MSIX, 33);
    rig.write(0x20a0, 0x2000_0100);
    rig.write(0x2014, 0xff);
    for (channel, vector) in [(h2c(0), 0), (h2c(1), 1)] {
        rig.write(channel.base + 0x90, MASK);
        finish_one(&mut rig, channel);
        assert_eq!(vectors.wait(vector), 1);
        vectors.silent();
    }
}

/// A masked entry keeps its message in the pending bits. Unmasking sends it.
#[test]
fn a_masked_vector_is_pending_until_it_is_unmasked() {
    let mut rig = Rig::exactly(synchronous());
    let vectors = msix(&mut rig);
    rig.write(0x2014, 0xff);
    rig.write(0x290, MASK);
    rig.write(0x802c, 1);
    assert_eq!(rig.read(0x8fe0), 0);
    finish_one(&mut rig, h2c(2));
    vectors.silent();
    assert_eq!(rig.read(0x8fe0), 0x4);
    rig.write(0x8fe0, 0);
    assert_eq!(rig.read(0x8fe0), 0x4, "pending bits are read-only");
    rig.write(0x802c, 0);
    assert_eq!(vectors.wait(2), 1);
    assert_eq!(rig.read(0x8fe0), 0);
}

/// Function Mask, bit 14 of MSI-X Message Control, masks all vectors.
#[test]
fn the_function_mask_masks_every_vector() {
    let mut rig = Rig::exactly(synchronous());
    let vectors = msix(&mut rig);
    let capability = rig.capability(0x11).expect("MSI-X");
    rig.write(0x2014, 0xff);
    rig.write(0x90, MASK);
    rig.config_write(capability + 2, &0xc000u16.to_le_bytes());
    finish_one(&mut rig, h2c(0));
    vectors.silent();
    assert_eq!(rig.read(0x8fe0), 1);
    rig.config_write(capability + 2, &0x8000u16.to_le_bytes());
    assert_eq!(vectors.wait(0), 1);
    assert_eq!(rig.read(0x8fe0), 0);
}

/// MSI: one message for all sources.
#[test]
fn msi_sends_its_one_message() {
    let mut rig = Rig::exactly(EmulatorOptions { card: CardFile::alveo(), ..synchronous() });
    let capability = rig.capability(0x05).expect("MSI");
    rig.config_write(capability + 4, &0xfee0_0000u32.to_le_bytes());
    rig.config_write(capability + 2, &1u16.to_le_bytes());
    let vectors = Vectors::connect(&mut rig, MSI, 1);
    rig.write(0x2014, 0xff);
    for channel in [h2c(0), c2h(3)] {
        rig.write(channel.base + 0x90, MASK);
        finish_one(&mut rig, channel);
        assert_eq!(vectors.wait(0), 1);
        assert_eq!(rig.read(0x2044), channel.irq);
        rig.read(channel.base + 0x44);
    }
    vectors.silent();
}

/// XIL's handler for the legacy line reads 0x2044, disables it through 0x2018, and reads 0x2040. The work item enables 0x2014
/// again.
#[test]
fn the_legacy_line_is_a_level() {
    let mut rig = Rig::exactly(EmulatorOptions { card: CardFile::alveo(), ..synchronous() });
    let vectors = Vectors::connect(&mut rig, INTX, 1);
    rig.write(0x2014, 0xff);
    rig.write(0x90, MASK);
    assert_eq!(rig.config16(0x06) & 0x8, 0, "Interrupt Status");
    for _ in 0..3 {
        finish_one(&mut rig, h2c(0));
        assert_eq!(vectors.wait(0), 1);
        assert_eq!(rig.config16(0x06) & 0x8, 0x8);
        assert_eq!(rig.read(0x2044), 1);
        rig.write(0x2018, 1);
        assert_eq!(rig.read(0x2040), 0);
        assert_eq!(rig.config16(0x06) & 0x8, 0, "the line falls with the mask");
        // VFIO masks the line when it fires. Nothing is asserted now, so unmasking does not fire.
        rig.client.set_irqs(INTX, UNMASK, 0, 1, &[]).expect("unmask");
        vectors.silent();
        rig.read(0x44);
        rig.write(0x2014, 1);
        vectors.silent();
    }
}

#[test]
fn the_command_registers_bit_10_disables_the_legacy_line() {
    let mut rig = Rig::exactly(EmulatorOptions { card: CardFile::alveo(), ..synchronous() });
    let vectors = Vectors::connect(&mut rig, INTX, 1);
    rig.config_write(0x04, &0x0406u16.to_le_bytes());
    rig.write(0x2014, 0xff);
    rig.write(0x90, MASK);
    finish_one(&mut rig, h2c(0));
    vectors.silent();
    assert_eq!(rig.read(0x2044), 1);
    assert_eq!(rig.config16(0x06) & 0x8, 0x8, "the status bit is set anyway");
    rig.config_write(0x04, &0x0006u16.to_le_bytes());
    assert_eq!(vectors.wait(0), 1);
}

/// Messages are memory writes, so none is sent without bus mastering.
#[test]
fn without_bus_mastering_no_message_is_sent() {
    let mut rig = Rig::exactly(synchronous());
    let vectors = msix(&mut rig);
    rig.write(0x2008, 0xffff);
    rig.config_write(0x04, &0x0002u16.to_le_bytes());
    rig.fabric.user_irq(0, true);
    vectors.silent();
}

/// With MSI, the vector numbers of the interrupt block select a message, as far as there are vectors.
#[test]
fn a_card_with_msi_only_sends_messages() {
    for (vectors, vector) in [(1u8, 0usize), (4, 3)] {
        let mut card = CardFile::shipped("msi").unwrap();
        card.function.msi_vectors = vectors;
        let mut rig = Rig::exactly(EmulatorOptions { card, ..synchronous() });
        let events = Vectors::connect(&mut rig, MSI, vectors.into());
        let channel = h2c(0);
        // Number 7 has the lower bits of each count of vectors set.
        rig.write(0x20a0, 7);
        rig.write(0x2014, 1);
        rig.write(channel.base + 0x90, 0x6);
        let list = pieces(1, 64);
        rig.fill(channel, &list, 1);
        let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
        rig.run(channel, LIST, adjacent, 0x06);
        assert_eq!(events.wait(vector), 1);
        events.silent();
    }
}
