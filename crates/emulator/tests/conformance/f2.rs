//! The vendor's kernel module (XIL) on AWS F2, access by access: poll mode works unaided, and MSI-X mode after a helper has set up the
//! shell's interrupt block in BAR2 (AWS, sdk/apps/msix-interrupts). The module writes only to the BAR with the engine.
//!
//! With the feature `rtl-f2`, the engine is the simulated one.

use crate::host::{COMPLETED, STOP};
use crate::interrupts::{MSIX, Vectors};
use crate::probe::find_config_bar;
use crate::rig::{Channel, LIST, Rig, WORD, c2h, h2c, pieces};
use xdma_emulator::{CardFile, EmulatorOptions, Rule};

/// The BAR with the shell's interrupt block.
const BLOCK: u32 = 2;
/// Its registers that decide which lines become which messages.
const ROUTING: [u64; 5] = [0x2004, 0x2080, 0x2084, 0x2088, 0x208c];
/// The values of `engine_start_mode_config` in interrupt mode and with `poll_mode=1`.
const INTERRUPT: u32 = 0x00f8_3e1e;
const POLL: u32 = 0x04f8_3e18;

fn f2() -> Rig {
    Rig::exactly(EmulatorOptions::like(CardFile::f2()))
}

/// Starts a list of five descriptors with the module's values, as `engine_start` does. Returns the data expected.
fn start(rig: &mut Rig, channel: Channel, seed: u64, control: u32) -> Vec<Vec<u8>> {
    let pieces = pieces(5, 3000);
    let expected = rig.fill(channel, &pieces, seed);
    let adjacent = rig.lay(channel, LIST, &pieces, 0, STOP | COMPLETED | 0x10);
    rig.first(channel, rig.host.at(LIST), adjacent);
    rig.write(channel.base + 0x04, control | 1);
    rig.read(channel.base + 0x40);
    rig.read(channel.base + 0x40);
    expected
}

#[test]
fn poll_mode_needs_no_interrupt() {
    let mut rig = f2();
    for channel in [h2c(0), c2h(0)] {
        let at = rig.host.at(WORD);
        rig.write(channel.base + 0x88, at as u32);
        rig.write(channel.base + 0x8c, (at >> 32) as u32);
        rig.write(channel.base + 0x90, POLL & 0x00ff_ffff);
        for seed in 1..4 {
            rig.host.set_word(WORD, 0);
            let expected = start(&mut rig, channel, seed, POLL);
            rig.until("the count is written back", |rig| rig.host.word(WORD) != 0);
            assert_eq!(rig.host.word(WORD), 5);
            rig.check(channel, &pieces(5, 3000), &expected);
            rig.idle(channel);
            assert_eq!(rig.read(channel.base + 0x40), 0);
            rig.write(channel.base + 0x04, POLL);
            assert_eq!(rig.read(channel.base + 0x48), 5);
        }
    }
    assert_eq!(rig.bar_read(BLOCK, 0x2004), 0, "the module does not write to BAR2");
}

/// What the documented helper writes to BAR2: each line has the vector of its number, and all are enabled.
fn help(rig: &mut Rig) {
    for (at, value) in
        [(0x2080, 0x0302_0100), (0x2084, 0x0706_0504), (0x2088, 0x0b0a_0908), (0x208c, 0x0f0e_0d0c)]
    {
        rig.bar_write(BLOCK, at, value);
    }
    rig.bar_write(BLOCK, 0x2004, 0xffff);
}

/// `irq_msix_channel_setup` and `prog_irq_msix_channel`, and the enables at the end of the probe.
fn set_up_interrupts(rig: &mut Rig) -> Vectors {
    let capability = rig.capability(0x11).expect("MSI-X");
    rig.config_write(capability + 2, &0x8000u16.to_le_bytes());
    let vectors = Vectors::connect(rig, MSIX, 18);
    rig.write(0x20a0, 0x0000_0100);
    for (at, value) in
        [(0x2080, 0x0504_0302), (0x2084, 0x0908_0706), (0x2088, 0x0d0c_0b0a), (0x208c, 0x1110_0f0e)]
    {
        rig.write(at, value);
    }
    for channel in [h2c(0), c2h(0)] {
        rig.write(channel.base + 0x90, INTERRUPT);
    }
    rig.write(0x2014, 0x3);
    vectors
}

#[test]
fn msix_mode_works_after_the_helper() {
    let mut rig = f2();
    let vectors = set_up_interrupts(&mut rig);
    for helped in [false, true] {
        if helped {
            help(&mut rig);
        }
        for (vector, channel) in [h2c(0), c2h(0)].into_iter().enumerate() {
            let bit = 1 << vector;
            let expected = start(&mut rig, channel, 7, INTERRUPT);
            rig.until("the channel is idle", |rig| rig.read(channel.base + 0x40) & 1 == 0);
            match helped {
                true => assert_eq!(vectors.wait(vector), 1),
                false => vectors.silent(),
            }
            // The handler: masks the channel; its work item reads and clears the status, clears Run, and unmasks.
            assert_eq!(rig.read(0x2044), bit);
            rig.write(0x2018, bit);
            assert_eq!(rig.read(channel.base + 0x44), 0x06);
            rig.write(channel.base + 0x04, INTERRUPT);
            assert_eq!(rig.read(channel.base + 0x48), 5);
            rig.write(0x2014, bit);
            rig.check(channel, &pieces(5, 3000), &expected);
            vectors.silent();
        }
    }
}

#[test]
fn user_interrupts_have_vectors_up_to_15() {
    let mut rig = f2();
    let vectors = set_up_interrupts(&mut rig);
    help(&mut rig);
    rig.write(0x2008, 0xffff);
    for line in 0..16 {
        rig.fabric.user_irq(line, true);
        match line + 2 < 16 {
            true => assert_eq!(vectors.wait(line + 2), 1),
            false => vectors.silent(),
        }
        rig.fabric.user_irq(line, false);
    }
}

#[test]
fn the_channels_of_the_shells_block_move_no_data() {
    let mut rig = f2();
    let ids: Vec<u32> = (0..7).map(|target| rig.bar_read(BLOCK, target << 12) >> 16).collect();
    assert_eq!(ids, [0x1fc0, 0x1fc1, 0x1fc2, 0x1fc3, 0x1fc4, 0x1fc5, 0x1fc6]);
    assert_eq!(rig.bar_read(BLOCK, 0x100), 0, "one channel");
    assert_eq!(rig.bar_read(BLOCK, 0x2000), 0x1fc2_0006);
    rig.bar_write(BLOCK, 0x0004, 1);
    assert_eq!(rig.bar_read(BLOCK, 0x0040), 1, "busy");
    rig.expect_violation(Rule::InterruptBlockStarted);
}

/// The probe finds the engine before the shell's block, which has the same identifiers, and leaves the block alone.
#[test]
fn the_probe_does_not_touch_the_shells_block() {
    let mut rig = f2();
    assert_eq!(find_config_bar(&mut rig), Some(0));
    assert_eq!([0x2000, 0x3000].map(|at| rig.bar_read(BLOCK, at) >> 16), [0x1fc2, 0x1fc3]);
    set_up_interrupts(&mut rig);
    rig.write(0x2008, 0xffff);
    assert_eq!(ROUTING.map(|at| rig.bar_read(BLOCK, at)), [0; 5]);
}

/// Raises and lowers a user line.
fn pulse(rig: &mut Rig, line: usize) {
    for level in [true, false] {
        rig.fabric.user_irq(line, level);
        // The engine has seen the level once it answers.
        rig.read(0x2040);
    }
}

#[test]
fn the_shells_block_masks_and_numbers_the_lines() {
    let mut rig = f2();
    let vectors = set_up_interrupts(&mut rig);
    help(&mut rig);
    rig.write(0x2008, 0xffff);
    // User line 3 has vector 5, so it pulses the shell's line 5.
    rig.bar_write(BLOCK, 0x200c, 1 << 5);
    pulse(&mut rig, 3);
    vectors.silent();
    rig.bar_write(BLOCK, 0x2008, 1 << 5);
    vectors.silent();
    pulse(&mut rig, 3);
    assert_eq!(vectors.wait(5), 1);
    rig.bar_write(BLOCK, 0x2084, 0x0706_1104);
    pulse(&mut rig, 3);
    assert_eq!(vectors.wait(17), 1, "F2 has 33 vectors, and the block can name each");
    vectors.silent();
}

/// FLR is advertised. It is presumed to reset the shell's block.
#[test]
fn a_function_reset_masks_the_lines() {
    let mut rig = f2();
    help(&mut rig);
    assert_ne!(ROUTING.map(|at| rig.bar_read(BLOCK, at)), [0; 5]);
    let express = rig.capability(0x10).expect("PCI Express");
    assert_eq!(rig.config32(express + 4) >> 28 & 1, 1);
    let control = rig.config16(express + 8) | 0x8000;
    rig.config_write(express + 8, &control.to_le_bytes());
    assert_eq!(ROUTING.map(|at| rig.bar_read(BLOCK, at)), [0; 5]);
}

#[test]
fn user_registers_are_behind_the_engines() {
    let mut rig = f2();
    rig.bar_write(0, 0x1_0010, 7);
    assert_eq!((rig.bar_read(0, 0x1_0010), rig.bar_read(0, 0x10)), (7, 0));
}
