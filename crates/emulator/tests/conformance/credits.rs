//! Descriptor credits and fetch halt (PG195 "Descriptor Credit Mode", SGDMA and SGDMA common registers).

use crate::host::{COMPLETED, STOP, descriptor};
use crate::rig::{Channel, LIST, Rig, WORD, both_times, c2h, channels, h2c, pieces, synchronous};
use xdma_emulator::{EmulatorOptions, Rule, Switches};

/// Writes a ring of 4 descriptors of 64 bytes each.
fn ring(rig: &Rig, channel: Channel) {
    for i in 0..4 {
        let next = rig.host.at(LIST + 32 * ((i + 1) % 4));
        let piece = pieces(4, 64)[i];
        rig.host.put(LIST + 32 * i, piece.descriptor(&rig.host, channel, COMPLETED, 0, next));
    }
}

fn credits(rig: &mut Rig, channel: Channel) -> u32 {
    rig.read(channel.sgdma + 0x8c)
}

/// FSIO `test_dma_descriptor_credits`, on silicon: with fetch halted and Run set, credits add up exactly to 1023, and leaving
/// credit mode clears them.
#[test]
fn credits_add_up_exactly_while_fetch_is_halted() {
    let mut rig = Rig::new(synchronous());
    for channel in channels() {
        ring(&rig, channel);
        rig.write(0x6014, channel.common);
        rig.write(0x6024, channel.common);
        rig.first(channel, rig.host.at(LIST), 0);
        rig.write(channel.base + 0x08, 1);
        for step in [1, 2, 3, 7, 64, 341, 500, 511, 1022] {
            let mut sum = 0;
            while sum + step <= 1023 {
                rig.write(channel.sgdma + 0x8c, step);
                sum += step;
                assert_eq!(credits(&mut rig, channel), sum);
            }
            rig.write(0x6028, channel.common);
            assert_eq!(credits(&mut rig, channel), 0, "leaving credit mode clears");
            rig.write(0x6024, channel.common);
        }
        rig.write(channel.sgdma + 0x8c, 1023);
        assert_eq!(credits(&mut rig, channel), 1023);
        assert_eq!(rig.read(channel.base + 0x48), 0, "nothing moved");
        rig.stop(channel);
        assert_eq!(credits(&mut rig, channel), 0, "falling Run clears");
        rig.write(0x6018, channel.common);
        rig.write(0x6028, channel.common);
    }
}

#[test]
fn channels_have_separate_credits() {
    let mut rig = Rig::new(synchronous());
    rig.write(0x6014, 0x000f_000f);
    rig.write(0x6024, 0x000f_000f);
    for (n, channel) in channels().into_iter().enumerate() {
        rig.write(channel.sgdma + 0x8c, 10 + n as u32);
    }
    for (n, channel) in channels().into_iter().enumerate() {
        assert_eq!(credits(&mut rig, channel), 10 + n as u32);
    }
    rig.write(0x6028, 0x0001_0000);
    let left: Vec<u32> = channels().into_iter().map(|channel| credits(&mut rig, channel)).collect();
    assert_eq!(left, [10, 11, 12, 13, 0, 15, 16, 17]);
}

/// XIL and PRA write credits before they set Run.
#[test]
fn credits_before_run_count() {
    for options in both_times() {
        let mut rig = Rig::new(options);
        for channel in channels() {
            ring(&rig, channel);
            rig.write(0x6024, channel.common);
            rig.write(channel.sgdma + 0x8c, 3);
            assert_eq!(credits(&mut rig, channel), 3);
            rig.first(channel, rig.host.at(LIST), 0);
            rig.write(channel.base + 0x08, 1);
            rig.until("three are done", |rig| rig.read(channel.base + 0x48) == 3);
            assert_eq!(credits(&mut rig, channel), 0);
            rig.write(channel.sgdma + 0x8c, 1);
            rig.until("four are done", |rig| rig.read(channel.base + 0x48) == 4);
            rig.stop(channel);
        }
    }
}

#[test]
fn remaining_credits_can_be_read() {
    let mut rig = Rig::new(synchronous());
    let channel = h2c(1);
    let list = pieces(2, 64);
    rig.lay(channel, LIST, &list, 0, STOP);
    rig.write(0x6024, channel.common);
    rig.write(channel.sgdma + 0x8c, 7);
    rig.run(channel, LIST, 1, 0x1e);
    // Stop ended the list. The remaining credits are kept until Run falls.
    assert_eq!(rig.read(channel.base + 0x48), 2);
    assert_eq!(credits(&mut rig, channel), 5);
    rig.stop(channel);
    assert_eq!(credits(&mut rig, channel), 0);
}

#[test]
fn without_credit_mode_nothing_waits_for_credits() {
    let mut rig = Rig::new(synchronous());
    for channel in channels() {
        let list = pieces(5, 64);
        let expected = rig.fill(channel, &list, 5);
        let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
        rig.run(channel, LIST, adjacent, 0x1e);
        assert_eq!(rig.read(channel.base + 0x48), 5);
        rig.check(channel, &list, &expected);
    }
}

#[test]
fn more_than_1023_credits_are_detected_and_saturate() {
    let mut rig = Rig::new(synchronous());
    let channel = h2c(0);
    rig.write(0x6014, channel.common);
    rig.write(0x6024, channel.common);
    rig.write(channel.sgdma + 0x8c, 1000);
    rig.expect_violation(Rule::CreditOverflow);
    rig.write(channel.sgdma + 0x8c, 24);
    assert_eq!(credits(&mut rig, channel), 1023);
}

/// The switch for cores without credits on memory-mapped channels.
#[test]
fn a_core_without_credits_reads_zero_and_does_not_wait() {
    let mut rig = Rig::new(synchronous().with_credits(false));
    let channel = h2c(0);
    rig.write(0x6014, channel.common);
    rig.write(0x6024, channel.common);
    rig.write(channel.sgdma + 0x8c, 5);
    assert_eq!(credits(&mut rig, channel), 0);
    rig.write(0x6018, channel.common);
    let list = pieces(9, 64);
    let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
    rig.run(channel, LIST, adjacent, 0x1e);
    assert_eq!(rig.read(channel.base + 0x48), 9);
}

/// The value of BUSY while a channel waits for credits is undocumented, so it is a switch.
#[test]
fn busy_without_credits_follows_the_switch() {
    for busy in [false, true] {
        let switches = Switches { busy_without_credits: busy.into(), ..Switches::default() };
        let mut rig = Rig::new(synchronous().with_switches(switches));
        let channel = h2c(0);
        ring(&rig, channel);
        rig.write(0x6024, channel.common);
        rig.first(channel, rig.host.at(LIST), 0);
        rig.write(channel.base + 0x08, 1);
        for done in 0..3 {
            assert_eq!(
                rig.read(channel.base + 0x40) & 1,
                u32::from(rig.switches().busy_without_credits.or(false))
            );
            assert_eq!(rig.read(channel.base + 0x48), done);
            rig.write(channel.sgdma + 0x8c, 1);
        }
        rig.stop(channel);
    }
}

#[test]
fn a_halted_channel_fetches_nothing_until_it_is_resumed() {
    for options in both_times() {
        let mut rig = Rig::new(options);
        for channel in channels() {
            let list = pieces(3, 200);
            let expected = rig.fill(channel, &list, 9);
            let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
            rig.write(0x6014, channel.common);
            rig.go(channel, LIST, adjacent, 0x1e);
            std::thread::sleep(std::time::Duration::from_millis(5));
            assert_eq!(rig.read(channel.base + 0x48), 0);
            assert_eq!(rig.read(channel.base + 0x40) & !1, 0);
            rig.write(0x6018, channel.common);
            rig.until("the list is done", |rig| rig.read(channel.base + 0x48) == 3);
            rig.idle(channel);
            rig.check(channel, &list, &expected);
        }
    }
}

#[test]
fn halting_one_channel_does_not_halt_another() {
    let mut rig = Rig::new(synchronous());
    for channel in channels() {
        rig.write(0x6010, 0x000f_000f & !channel.common);
        let list = pieces(1, 64);
        rig.lay(channel, LIST, &list, 0, STOP);
        rig.run(channel, LIST, 0, 0x1e);
        assert_eq!(rig.read(channel.base + 0x48), 1);
    }
}

/// Blocks and credits together: a fetch never covers more descriptors than there are credits.
#[test]
fn credits_limit_blocks_too() {
    for seed in 0..16 {
        let mut rig = Rig::new(EmulatorOptions { seed, ..synchronous() });
        let channel = h2c(0);
        for i in 0..64 {
            let (next, adjacent) = if i == 63 { (LIST, 63) } else { (LIST + 32 * (i + 1), 62 - i) };
            let (from, to) = (rig.host.at(0x2000 + 64 * i), 0x40 * i as u64);
            rig.host
                .put(LIST + 32 * i, descriptor(COMPLETED, adjacent as u32, 64, from, to, rig.host.at(next)));
        }
        rig.write(0x6024, channel.common);
        rig.first(channel, rig.host.at(LIST), 63);
        rig.write(channel.base + 0x08, 1);
        let mut done = 0;
        for credits in [1, 5, 20, 64, 100, 1] {
            rig.write(channel.sgdma + 0x8c, credits);
            done += credits;
            assert_eq!(rig.read(channel.base + 0x48), done);
        }
        rig.stop(channel);
    }
}

/// Stops a ring that is out of credits and restarts it immediately, like a driver that waits only for BUSY to fall. No start may
/// be lost.
#[test]
fn a_ring_restarts_immediately_after_a_stop() {
    for seed in 0..4 {
        let mut rig = Rig::new(EmulatorOptions { seed, ..EmulatorOptions::default() });
        for channel in [h2c(0), c2h(1)] {
            ring(&rig, channel);
            let word = rig.host.at(WORD);
            rig.write(channel.base + 0x88, word as u32);
            rig.write(channel.base + 0x8c, (word >> 32) as u32);
            rig.write(channel.base + 0x04, 0x0400_0040);
            rig.write(0x6024, channel.common);
            for round in 0..500u32 {
                let credits = 1 + round % 9;
                rig.host.set_word(WORD, 0);
                rig.first(channel, rig.host.at(LIST), 0);
                rig.write(channel.base + 0x08, 1);
                rig.write(channel.sgdma + 0x8c, credits);
                rig.until("the credits are used", |rig| rig.host.word(WORD) == credits);
                assert_eq!(rig.read(channel.base + 0x48), credits, "round {round}");
                rig.stop(channel);
            }
        }
    }
}
