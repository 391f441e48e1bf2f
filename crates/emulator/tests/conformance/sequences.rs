//! The start sequences of published drivers, access by access.

use crate::host::{COMPLETED, STOP};
use crate::rig::{Channel, LIST, Piece, Rig, WORD, both_times, c2h, h2c, pieces};
use xdma_emulator::{CardFile, EmulatorOptions, Rule};

const SOME: [fn() -> Channel; 4] = [|| h2c(0), || c2h(0), || h2c(3), || c2h(2)];

fn cards() -> Vec<EmulatorOptions> {
    let cards = [CardFile::f1(), CardFile::alveo()];
    cards
        .iter()
        .flat_map(|card| both_times().map(|time| EmulatorOptions { card: card.clone(), ..time }))
        .collect()
}

fn each(mut test: impl FnMut(&mut Rig, Channel)) {
    for options in cards() {
        for channel in SOME {
            test(&mut Rig::new(options.clone()), channel());
        }
    }
}

/// Writes 5 pieces, the last with Stop and Completed, and runs `start`. Returns a function that checks the data.
fn transfer(
    rig: &mut Rig,
    channel: Channel,
    seed: u64,
    start: fn(&mut Rig, Channel, u64, u32),
) -> impl Fn(&Rig) + use<> {
    let pieces = pieces(5, 3000);
    let expected = rig.fill(channel, &pieces, seed);
    let adjacent = rig.lay(channel, LIST, &pieces, 0, STOP | COMPLETED | 0x10);
    start(rig, channel, rig.host.at(LIST), adjacent);
    move |rig| rig.check(channel, &pieces, &expected)
}

/// XIL `engine_start_mode_config` and `engine_start`: 0x00f83e1f.
#[test]
fn xilinx_kernel_driver_with_interrupts() {
    each(|rig, channel| {
        for seed in 1..4 {
            let arrived = transfer(rig, channel, seed, |rig, channel, at, adjacent| {
                rig.write(channel.sgdma + 0x80, at as u32);
                rig.write(channel.sgdma + 0x84, (at >> 32) as u32);
                rig.write(channel.sgdma + 0x88, adjacent);
                rig.write(channel.base + 0x04, 0x00f8_3e1f);
                rig.read(channel.base + 0x40);
                rig.read(channel.base + 0x40);
            });
            rig.idle(channel);
            assert_eq!(rig.read(channel.base + 0x40), 0x06);
            // The interrupt work item: clear the status by reading, stop by writing the full value without Run, read the count.
            assert_eq!(rig.read(channel.base + 0x44), 0x06);
            rig.write(channel.base + 0x04, 0x00f8_3e1e);
            assert_eq!(rig.read(channel.base + 0x48), 5);
            assert_eq!(rig.read(channel.base + 0x40), 0);
            arrived(rig);
        }
    });
}

/// XIL and AWSM with `poll_mode=1` write 0x04f83e19, which leaves bits 1 and 2 disabled.
#[test]
fn xilinx_kernel_driver_polling() {
    each(|rig, channel| {
        let at = rig.host.at(WORD);
        rig.write(channel.base + 0x88, at as u32);
        rig.write(channel.base + 0x8c, (at >> 32) as u32);
        rig.write(channel.base + 0x90, 0x00f8_3e18);
        for seed in 1..4 {
            rig.host.set_word(WORD, 0);
            let arrived = transfer(rig, channel, seed, |rig, channel, at, adjacent| {
                rig.write(channel.sgdma + 0x80, at as u32);
                rig.write(channel.sgdma + 0x84, (at >> 32) as u32);
                rig.write(channel.sgdma + 0x88, adjacent);
                rig.write(channel.base + 0x04, 0x04f8_3e19);
                rig.read(channel.base + 0x40);
                rig.read(channel.base + 0x40);
            });
            rig.until("the count is written back", |rig| rig.host.word(WORD) != 0);
            assert_eq!(rig.host.word(WORD), 5);
            arrived(rig);
            rig.idle(channel);
            assert_eq!(rig.read(channel.base + 0x40), 0);
            rig.write(channel.base + 0x04, 0x04f8_3e18);
            assert_eq!(rig.read(channel.base + 0x48), 5);
        }
    });
}

/// LNX-X `xdma_xfer_start`: clears Run through W1C, then writes the full value with write errors enabled.
#[test]
fn upstream_linux() {
    each(|rig, channel| {
        for seed in 1..4 {
            let arrived = transfer(rig, channel, seed, |rig, channel, at, adjacent| {
                rig.write(channel.base + 0x0c, 1);
                rig.write(channel.sgdma + 0x80, at as u32);
                rig.write(channel.sgdma + 0x84, (at >> 32) as u32);
                rig.write(channel.sgdma + 0x88, adjacent);
                rig.write(channel.base + 0x04, 0x00ff_fe5f);
            });
            rig.until("all descriptors are counted", |rig| rig.read(channel.base + 0x48) == 5);
            rig.idle(channel);
            assert_eq!(rig.read(channel.base + 0x40), 0x06);
            arrived(rig);
        }
    });
}

/// PRA `xdma_launch_transfer` and `xdma_engine_stop`: set and clear Run through W1S and W1C.
#[test]
fn reworked_kernel_driver() {
    each(|rig, channel| {
        let at = rig.host.at(WORD);
        rig.write(channel.base + 0x88, at as u32);
        rig.write(channel.base + 0x8c, (at >> 32) as u32);
        rig.write(channel.base + 0x04, 0x04f8_3e18);
        for seed in 1..4 {
            let arrived = transfer(rig, channel, seed, |rig, channel, at, adjacent| {
                rig.host.set_word(WORD, 0);
                rig.write(channel.sgdma + 0x80, at as u32);
                rig.write(channel.sgdma + 0x84, (at >> 32) as u32);
                rig.write(channel.sgdma + 0x88, adjacent);
                rig.write(channel.base + 0x08, 1);
            });
            rig.until("the count is written back", |rig| rig.host.word(WORD) == 5);
            arrived(rig);
            rig.stop(channel);
            assert_eq!(rig.read(channel.base + 0x04), 0x04f8_3e18);
        }
    });
}

/// FSIO `x2x_start`: a closed ring, Run once, then one write to the credits for each submission.
#[test]
fn credit_ring() {
    const SLOTS: usize = 8;
    each(|rig, channel| {
        let ring: Vec<Piece> = pieces(SLOTS, 1000);
        for (i, piece) in ring.iter().enumerate() {
            let next = rig.host.at(LIST + 32 * ((i + 1) % SLOTS));
            rig.host.put(LIST + 32 * i, piece.descriptor(&rig.host, channel, COMPLETED, 0, next));
        }
        let (word, list) = (rig.host.at(WORD), rig.host.at(LIST));
        rig.write(channel.base + 0x88, word as u32);
        rig.write(channel.base + 0x8c, (word >> 32) as u32);
        rig.write(channel.base + 0x04, 0x04ff_fe38);
        rig.write(channel.sgdma + 0x80, list as u32);
        rig.write(channel.sgdma + 0x84, (list >> 32) as u32);
        rig.write(channel.sgdma + 0x88, 0);
        rig.write(0x6018, channel.common);
        rig.write(0x6024, channel.common);
        rig.write(channel.base + 0x08, 1);
        assert_eq!(rig.host.word(WORD), 0, "nothing moves without credits");
        let mut done = 0;
        for (round, credits) in [3, 5, 4, 1, 8, 7].into_iter().enumerate() {
            let slots: Vec<Piece> = (done..done + credits).map(|i| ring[i % SLOTS]).collect();
            let expected = rig.fill(channel, &slots, round as u64 * 100);
            rig.write(channel.sgdma + 0x8c, credits as u32);
            done += credits;
            rig.until("the count is written back", |rig| rig.host.word(WORD) == done as u32);
            rig.check(channel, &slots, &expected);
            assert_eq!(rig.read(channel.base + 0x48), done as u32, "no more than the credits allow");
            assert_eq!(rig.read(channel.sgdma + 0x8c), 0, "each descriptor consumes a credit");
        }
        rig.stop(channel);
        assert_eq!(rig.read(channel.base + 0x40) & 0x00f8_fe38, 0);
    });
}

/// Setting Run again without clearing it first has no effect, because Run acts on its rising edge.
#[test]
fn setting_run_again_has_no_effect() {
    each(|rig, channel| {
        rig.expect_violation(Rule::RunUnchanged);
        let pieces = pieces(2, 64);
        rig.fill(channel, &pieces, 1);
        let adjacent = rig.lay(channel, LIST, &pieces, 0, STOP | COMPLETED);
        rig.run(channel, LIST, adjacent, 0x00f8_3e1e);
        let before = rig.fabric.calls().len();
        rig.write(channel.base + 0x04, 0x00f8_3e1f);
        rig.write(channel.base + 0x08, 1);
        rig.idle(channel);
        assert_eq!(rig.read(channel.base + 0x40), 0x06, "status is not cleared");
        assert_eq!(rig.fabric.calls().len(), before, "nothing moves");
        assert_eq!(rig.read(channel.base + 0x04) & 1, 1, "Run stays as software left it");
    });
}

/// The vendor driver starts at any slot of its ring, with min(63 - slot mod 64, n - 1) adjacent descriptors.
#[test]
fn a_list_starts_at_any_slot() {
    for options in both_times() {
        let mut rig = Rig::new(options);
        for slot in [0usize, 1, 15, 62, 63, 64, 100, 126, 127] {
            let channel = if slot % 2 == 0 { h2c(1) } else { c2h(1) };
            let pieces = pieces(70, 33);
            let expected = rig.fill(channel, &pieces, slot as u64);
            let adjacent = rig.lay(channel, LIST + 32 * slot, &pieces, 0, STOP | COMPLETED);
            assert_eq!(adjacent as usize, (63 - slot % 64).min(69));
            rig.run(channel, LIST + 32 * slot, adjacent, 0x00f8_3e1e);
            assert_eq!(
                (rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)),
                (0x06, 70),
                "slot {slot}"
            );
            rig.check(channel, &pieces, &expected);
        }
    }
}
