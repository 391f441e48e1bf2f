//! Transfers beyond the end of the card's memory, as the vendor's kernel module sees them (XIL `libxdma.c`, `engine_service`,
//! `engine_service_poll`): the status, count and write-back for one descriptor and for several, with interrupts and by polling.

use crate::fabric::DECODE_ERROR;
use crate::host::{COMPLETED, STOP};
use crate::rig::{Channel, LIST, Piece, Rig, WORD, both_times, c2h, h2c, pieces};
use xdma_emulator::{EmulatorOptions, Switches};

/// The control values of the module, with Run: with interrupts, and polled. Neither enables write errors (bits 18:14).
const INTERRUPTS: u32 = 0x00f8_3e1f;
const POLLED: u32 = 0x04f8_3e19;
/// Its interrupt mask.
const MASK: u32 = 0x00f8_3e1e;
/// AXI decode error of a read (C2H status bit 9).
const READ_DECODE_ERROR: u32 = 0x200;

/// Returns a list of `count` pieces of which number `bad` lies beyond the card's memory.
fn list(count: usize, bad: usize) -> Vec<Piece> {
    let mut list = pieces(count, 256);
    list[bad].card = DECODE_ERROR;
    list
}

/// Runs a list as the module does: only the last descriptor reports completion. Returns status (with the sticky bits), count and
/// write-back word.
fn run(rig: &mut Rig, channel: Channel, list: &[Piece], control: u32) -> (u32, u32, u32) {
    let adjacent = rig.lay(channel, LIST, list, 0, STOP | COMPLETED);
    rig.host.set_word(WORD, 0);
    let word = rig.host.at(WORD);
    rig.write(channel.base + 0x88, word as u32);
    rig.write(channel.base + 0x8c, (word >> 32) as u32);
    rig.write(channel.base + 0x90, MASK);
    rig.write(0x2014, channel.irq);
    rig.first(channel, rig.host.at(LIST), adjacent);
    rig.write(channel.base + 0x04, control);
    rig.idle(channel);
    let seen = (rig.read(channel.base + 0x40), rig.read(channel.base + 0x48), rig.host.word(WORD));
    rig.stop(channel);
    seen
}

/// The module completes the descriptors before the error. With none, it returns early and its caller times out.
#[test]
fn a_read_beyond_the_memory_interrupts_and_counts_what_preceded_it() {
    for options in both_times() {
        for (count, bad) in [(1, 0), (4, 0), (4, 2), (200, 150)] {
            let mut rig = Rig::new(options.clone());
            let channel = c2h(0);
            let (status, completed, _) = run(&mut rig, channel, &list(count, bad), INTERRUPTS);
            assert_eq!(
                (status, completed),
                (READ_DECODE_ERROR, bad as u32),
                "{count} descriptors, {bad} is bad"
            );
            // `engine_service_work` reads and clears the status; until then, the request stays high.
            let mut rig = Rig::new(options.clone());
            let adjacent = rig.lay(channel, LIST, &list(count, bad), 0, STOP | COMPLETED);
            rig.write(channel.base + 0x90, MASK);
            rig.write(0x2014, channel.irq);
            rig.go(channel, LIST, adjacent, INTERRUPTS & !1);
            rig.idle(channel);
            assert_eq!(rig.read(0x2044), channel.irq);
            assert_eq!(rig.read(channel.base + 0x44) & READ_DECODE_ERROR, READ_DECODE_ERROR);
            assert_eq!(rig.read(0x2044), 0);
        }
    }
}

/// Whether the card writes errors back decides between EIO and a timeout.
#[test]
fn a_polled_read_beyond_the_memory_is_written_back_according_to_the_switch() {
    for write in [false, true] {
        let switches = Switches { error_write_back: write.into(), ..Switches::default() };
        for (count, bad) in [(1, 0), (4, 2)] {
            let mut rig = Rig::new(EmulatorOptions::default().with_switches(switches));
            let seen = run(&mut rig, c2h(1), &list(count, bad), POLLED);
            let word = if rig.switches().error_write_back.or(false) { 0x8000_0000 | bad as u32 } else { 0 };
            assert_eq!(seen, (READ_DECODE_ERROR, bad as u32, word), "{count} descriptors, {bad} is bad");
        }
    }
}

/// The module does not enable write errors: it reports success, and the data is lost.
#[test]
fn a_write_beyond_the_memory_looks_like_success() {
    for (count, bad) in [(1, 0), (4, 2)] {
        let mut rig = Rig::new(EmulatorOptions::default());
        let (status, completed, _) = run(&mut rig, h2c(0), &list(count, bad), INTERRUPTS);
        assert_eq!((status, completed), (0x06, count as u32));
        let mut rig = Rig::new(EmulatorOptions::default());
        let seen = run(&mut rig, h2c(0), &list(count, bad), POLLED);
        assert_eq!(seen, (0, count as u32, count as u32));
    }
}

/// A driver that starts an engine without clearing Run first, as some do after remove and rescan, waits forever, and the log names the
/// reason.
#[test]
fn setting_run_again_on_an_idle_channel_does_nothing_and_is_recorded() {
    let mut rig = Rig::new(EmulatorOptions::default());
    let channel = h2c(0);
    let list = pieces(1, 64);
    let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
    rig.run(channel, LIST, adjacent, 0);
    for alias in [0x04, 0x08] {
        rig.write(channel.base + alias, 1);
        assert_eq!((rig.read(channel.base + 0x40) & 1, rig.read(channel.base + 0x48)), (0, 1));
    }
    rig.expect_violation(xdma_emulator::Rule::RunUnchanged);
    // Other bits may be set while Run stays 1.
    rig.assert_violations(2);
    rig.write(channel.base + 0x08, 1 << 26);
    rig.assert_violations(2);
    rig.run(channel, LIST, adjacent, 0);
    assert_eq!(rig.read(channel.base + 0x48), 1);
}
