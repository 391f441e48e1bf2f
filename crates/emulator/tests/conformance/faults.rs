//! Faults between host and card or behind the shell, which no descriptor or register can cause.

use crate::fabric::HANGS;
use crate::host::{COMPLETED, STOP};
use crate::interrupts::{MSIX, Vectors};
use crate::rig::{Channel, DATA, LIST, Piece, RTL, Rig, WORD, both_times, c2h, h2c, pieces, synchronous};
use std::time::{Duration, Instant};
use xdma_emulator::faults::{BadCompletion, FaultDuration, Injection, Kind};
use xdma_emulator::{CardFile, EmulatorOptions, Switches};
use xdma_regs::Direction;

/// All `ie_*` bits. H2C has write errors, C2H has none.
fn all_ie(channel: Channel) -> u32 {
    if channel.to_card { 0x00ff_fe7e } else { 0x00f8_3e7e }
}

const BOTH: [fn() -> Channel; 2] = [|| h2c(1), || c2h(2)];

/// Completions, with their bits in 23:19 of a channel's status and in 13:9 of an H2C channel's status (PG195 "H2C Channel
/// Status").
const COMPLETIONS: [(BadCompletion, u32, u32); 5] = [
    (BadCompletion::UnsupportedRequest, 1 << 19, 1 << 9),
    (BadCompletion::CompleterAbort, 1 << 20, 1 << 10),
    (BadCompletion::Parity, 1 << 21, 1 << 11),
    (BadCompletion::Poisoned, 1 << 22, 1 << 12),
    (BadCompletion::Unexpected, 1 << 23, 1 << 13),
];

/// Returns the bits that report a completion. With the engine of `hdl/rtl/dma`, the bridge answers all of them with SLVERR, which sets the
/// bits of the first entry.
fn bits(with: BadCompletion) -> (u32, u32) {
    let (_, fetch, read) =
        COMPLETIONS.into_iter().find(|(known, ..)| RTL || *known == with).expect("all are listed");
    (fetch, read)
}

fn fetch(channel: Channel, with: BadCompletion) -> Injection {
    let direction = if channel.to_card { Direction::H2C } else { Direction::C2H };
    Kind::Fetch(with).on(direction, channel.number)
}

/// Runs three descriptors and injects the fault into the third; returns status and count. Credits limit each fetch, so that the
/// fault hits no other descriptor.
fn third(rig: &mut Rig, channel: Channel, control: u32, fault: Injection) -> (u32, u32) {
    let list = pieces(3, 128);
    let expected = rig.fill(channel, &list, 4);
    let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
    rig.write(0x6024, channel.common);
    rig.go(channel, LIST, adjacent, control);
    rig.write(channel.sgdma + 0x8c, 2);
    rig.until("two are done", |rig| rig.read(channel.base + 0x48) == 2);
    rig.card.inject(fault).unwrap();
    rig.write(channel.sgdma + 0x8c, 1);
    rig.until("the third is fetched", |rig| rig.read(channel.sgdma + 0x8c) == 0);
    rig.check(channel, &list[..2], &expected[..2]);
    rig.write(0x6028, channel.common);
    rig.idle(channel);
    let (status, count) = (rig.read(channel.base + 0x40), rig.read(channel.base + 0x48));
    // If the error is ignored, the data is undefined.
    assert!(
        count == 3 || rig.arrived(channel, &list[2]).iter().all(|byte| *byte == 0),
        "its data was not moved"
    );
    (status, count)
}

/// Runs a valid list and checks its data.
fn works(rig: &mut Rig, channel: Channel, seed: u64) {
    let list = pieces(4, 300);
    let expected = rig.fill(channel, &list, seed);
    let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
    rig.run(channel, LIST, adjacent, all_ie(channel));
    assert_eq!((rig.read(channel.base + 0x40), rig.read(channel.base + 0x48)), (0x06, 4));
    rig.check(channel, &list, &expected);
}

#[test]
fn a_failed_descriptor_fetch_stops_the_engine() {
    for channel in BOTH {
        for options in both_times() {
            let channel = channel();
            let mut rig = Rig::new(options);
            for (with, ..) in COMPLETIONS {
                let (bit, _) = bits(with);
                let outcome = third(&mut rig, channel, all_ie(channel) | 1, fetch(channel, with));
                assert_eq!(outcome, (bit | 0x10, 2), "{with:?}");
                rig.stop(channel);
                assert_eq!(rig.read(channel.base + 0x44) & !0x40, bit | 0x10, "sticky until it is read");
                assert_eq!(rig.read(channel.base + 0x40), 0);
                works(&mut rig, channel, u64::from(bit));
                rig.host.write(DATA, &[0; 0x1000]);
                rig.fabric.poke(0x1000_0000, &[0; 0x1000]);
            }
            assert_eq!(rig.card.dma_faults(), [], "no access was refused");
        }
    }
}

#[test]
fn a_failed_descriptor_fetch_is_not_logged_if_disabled() {
    for channel in BOTH {
        for (with, ..) in COMPLETIONS {
            let mut rig = Rig::new(synchronous());
            assert_eq!(third(&mut rig, channel(), 1, fetch(channel(), with)), (0, 2), "{with:?}");
        }
    }
}

#[test]
fn a_failed_h2c_host_read_stops_the_engine() {
    for options in both_times() {
        for (with, ..) in COMPLETIONS {
            let (_, bit) = bits(with);
            let (mut rig, channel) = (Rig::new(options.clone()), h2c(1));
            let outcome =
                third(&mut rig, channel, all_ie(channel) | 1, Kind::HostRead(with).on(Direction::H2C, 1));
            assert_eq!(outcome, (bit, 2), "{with:?}");
            rig.stop(channel);
            works(&mut rig, channel, u64::from(bit));
        }
    }
}

/// Unverified, so it is a switch: without its bit the engine continues, and the data is missing.
#[test]
fn a_failed_h2c_host_read_is_not_logged_if_disabled() {
    for unlogged_errors_stop in [false, true] {
        for (with, ..) in COMPLETIONS {
            let switches =
                Switches { unlogged_errors_stop: unlogged_errors_stop.into(), ..Switches::default() };
            let mut rig = Rig::new(synchronous().with_switches(switches));
            let outcome = third(&mut rig, h2c(1), 1, Kind::HostRead(with).on(Direction::H2C, 1));
            let stops = rig.switches().unlogged_errors_stop.or(false);
            assert_eq!(outcome, (0, if stops { 2 } else { 3 }), "{with:?}");
        }
    }
}

/// A channel's fault affects only that channel, happens once, and waits for its injection point.
#[test]
fn a_fault_affects_only_its_channel() {
    let mut rig = Rig::new(synchronous());
    rig.card.inject(fetch(h2c(3), BadCompletion::Poisoned)).unwrap();
    rig.card.inject(Kind::HostRead(BadCompletion::Parity).on(Direction::H2C, 3)).unwrap();
    for channel in [h2c(0), c2h(3)] {
        works(&mut rig, channel, 3);
    }
    for status in [bits(BadCompletion::Poisoned).0 | 0x10, bits(BadCompletion::Parity).1] {
        let adjacent = rig.lay(h2c(3), LIST, &pieces(1, 64), 0, STOP);
        rig.run(h2c(3), LIST, adjacent, all_ie(h2c(3)));
        assert_eq!((rig.read(0x340), rig.read(0x348)), (status, 0));
    }
    works(&mut rig, h2c(3), 5);
    assert!(rig.card.inject(Kind::HostRead(BadCompletion::Parity).on(Direction::H2C, 4)).is_err());
}

/// AXI errors, with their bits: 14 and 15 for H2C, 9 and 10 for C2H.
#[test]
fn an_axi_error_stops_the_engine() {
    for (channel, decode_error) in [(h2c(1), 0x4000), (c2h(2), 0x200)] {
        let direction = if channel.to_card { Direction::H2C } else { Direction::C2H };
        for (fault, bit) in [(Kind::AxiDecodeError, decode_error), (Kind::AxiSlaveError, decode_error << 1)] {
            let mut rig = Rig::new(synchronous());
            let outcome = third(&mut rig, channel, all_ie(channel) | 1, fault.on(direction, channel.number));
            assert_eq!(outcome, (bit, 2), "{fault:?}");
            rig.stop(channel);
            works(&mut rig, channel, 6);
        }
    }
}

/// Writes that are lost on their way look like success.
#[test]
fn lost_writes_are_not_noticed() {
    for (channel, lost) in [
        (h2c(1), Kind::AxiWriteLost.on(Direction::H2C, 1)),
        (c2h(2), Kind::HostWriteDropped.on(Direction::C2H, 2)),
    ] {
        let mut rig = Rig::new(synchronous());
        let list = pieces(1, 128);
        rig.fill(channel, &list, 4);
        rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
        rig.card.inject(lost).unwrap();
        let dropped = if channel.to_card { Direction::H2C } else { Direction::C2H };
        rig.card.inject(Kind::WriteBackDropped.on(dropped, channel.number)).unwrap();
        let word = rig.host.at(WORD);
        rig.write(channel.base + 0x88, word as u32);
        rig.write(channel.base + 0x8c, (word >> 32) as u32);
        for (count, arrives) in [(0, false), (1, true)] {
            rig.run(channel, LIST, 0, 0x0400_0000 | all_ie(channel));
            assert_eq!((rig.read(channel.base + 0x40), rig.read(channel.base + 0x48)), (0x06, 1));
            assert_eq!(rig.host.word(WORD), count);
            assert_eq!(rig.arrived(channel, &list[0]).iter().any(|byte| *byte != 0), arrives);
        }
        assert_eq!(rig.card.injected_faults().len(), 2);
    }
}

/// A driver that sleeps would wait for a lost message until its deadline. The next message arrives.
#[test]
fn a_lost_interrupt_is_not_repeated() {
    for channel in BOTH {
        let (mut rig, channel) = (Rig::exactly(synchronous()), channel());
        let vectors = Vectors::connect(&mut rig, MSIX, 8);
        let capability = rig.capability(0x11).expect("MSI-X");
        rig.config_write(capability + 2, &0x8000u16.to_le_bytes());
        rig.write(0x20a0, 0x0302_0100);
        rig.write(0x20a4, 0x0706_0504);
        rig.write(0x2014, 0xff);
        rig.write(channel.base + 0x90, 0x06);
        let direction = if channel.to_card { Direction::H2C } else { Direction::C2H };
        rig.card.inject(Kind::InterruptLost.on(direction, channel.number)).unwrap();
        works(&mut rig, channel, 1);
        vectors.silent();
        rig.read(channel.base + 0x44);
        works(&mut rig, channel, 1);
        assert_eq!(vectors.wait(channel.irq.trailing_zeros() as usize), 1);
    }
}

/// A descriptor that arrives without its magic number.
#[test]
fn a_lost_magic_number_stops_the_engine() {
    for channel in BOTH {
        let (mut rig, channel) = (Rig::new(synchronous()), channel());
        let direction = if channel.to_card { Direction::H2C } else { Direction::C2H };
        let fault = Kind::BadMagic.on(direction, channel.number);
        assert_eq!(third(&mut rig, channel, all_ie(channel) | 1, fault), (0x10, 2));
        rig.stop(channel);
        works(&mut rig, channel, 2);
    }
}

/// The AXI side of one channel stalls for some time. The others continue.
#[test]
fn a_hang_ends() {
    const HANG: Duration = Duration::from_millis(50);
    for channel in BOTH {
        let (mut rig, channel) = (Rig::new(EmulatorOptions::default()), channel());
        let (direction, other) =
            if channel.to_card { (Direction::H2C, h2c(0)) } else { (Direction::C2H, c2h(0)) };
        let hang = Kind::AxiHang(FaultDuration::Millis(HANG.as_millis() as u64));
        rig.card.inject(hang.on(direction, channel.number)).unwrap();
        let list = pieces(2, 64);
        let expected = rig.fill(channel, &list, 5);
        let adjacent = rig.lay(channel, LIST + 0x4000, &list, 0, STOP | COMPLETED);
        let start = Instant::now();
        rig.go(channel, LIST + 0x4000, adjacent, all_ie(channel));
        rig.until("it hangs", |rig| !rig.card.injected_faults().is_empty());
        let adjacent = rig.lay(other, LIST, &pieces(1, 16), 0, STOP);
        rig.run(other, LIST, adjacent, all_ie(other));
        assert_eq!(rig.read(other.base + 0x48), 1);
        rig.idle(channel);
        assert!(start.elapsed() >= HANG);
        assert_eq!((rig.read(channel.base + 0x40), rig.read(channel.base + 0x48)), (0x06, 2));
        rig.check(channel, &list[1..], &expected[1..]);
    }
}

/// Runs an endless C2H list that writes to [`DATA`].
fn endless(rig: &mut Rig) {
    rig.fabric.poke(0x9000, &[0x5a; 64]);
    let piece = Piece { host: DATA, card: 0x9000, len: 64 };
    let again = rig.host.at(LIST);
    rig.host.put(LIST, piece.descriptor(&rig.host, c2h(0), 0, 0, again));
    rig.go(c2h(0), LIST, 0, all_ie(c2h(0)));
    rig.until("it runs", |rig| rig.host.read(DATA, 64) == [0x5a; 64] && rig.read(0x1048) > 0);
}

/// Asserts that everything reads all ones, including BUSY and the count, regardless of writes.
fn is_gone(rig: &mut Rig) {
    rig.config_write(0x04, &0x0006u16.to_le_bytes());
    rig.write(0x2004, 0);
    assert_eq!((rig.config32(0x00), rig.config32(0x04), rig.config8(0x34)), (!0, !0, 0xff));
    for offset in [0x0000, 0x1004, 0x1040, 0x1044, 0x1048, 0x2000, 0x3000, 0x6000, 0x8000, 0xf000] {
        assert_eq!(rig.read(offset), !0, "{offset:#x}");
    }
    for user in [0, 1, 4] {
        rig.bar_write(user, 0x500, 7);
        assert_eq!(rig.bar_read(user, 0x500), !0, "BAR{user}");
    }
}

/// PCI Express "Transaction Layer Behavior in DL_Down Status": without a link, reads return all ones, writes are lost, and the
/// card is reset.
#[test]
fn the_link_goes_down_and_comes_up_again() {
    for options in both_times() {
        let mut rig = Rig::exactly(options);
        // In synchronous mode the register write itself would drive the endless list for seconds.
        if !rig.card.options().synchronous {
            endless(&mut rig);
        }
        rig.write(0x2004, 0xff);
        rig.bar_write(0, 0x500, 1);
        rig.card.inject(Kind::LinkDown).unwrap();
        is_gone(&mut rig);
        rig.host.write(DATA, &[0; 64]);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(rig.host.read(DATA, 64), [0; 64], "DMA has stopped");
        rig.card.inject(Kind::LinkUp).unwrap();
        assert_eq!(rig.config32(0x00), 0xf001_1d0f);
        assert_eq!(rig.config16(0x04) & 0x6, 0, "neither memory space nor bus mastering");
        assert_eq!((rig.read(0x1000), rig.read(0x1004)), (0x1fc1_0006, 0));
        assert_eq!((rig.read(0x1040), rig.read(0x1048), rig.read(0x2004)), (0, 0, 0));
        assert_eq!(rig.fabric.register(0, 0x500), Some(1), "writes were lost");
        assert_eq!(rig.host.read(DATA, 64), [0; 64]);
        rig.config_write(0x04, &0x0006u16.to_le_bytes());
        for channel in [h2c(0), c2h(0)] {
            works(&mut rig, channel, 8);
        }
    }
}

/// The link goes down while a card hangs. The card is usable afterwards.
#[test]
fn the_link_goes_down_while_an_engine_is_busy() {
    for channel in BOTH {
        for options in both_times() {
            let mut rig = Rig::new(options);
            let piece = Piece { host: DATA, card: HANGS, len: 64 };
            rig.host.put(LIST, piece.descriptor(&rig.host, channel(), STOP, 0, 0));
            rig.go(channel(), LIST, 0, all_ie(channel()));
            assert_eq!(rig.read(channel().base + 0x40), 1);
            rig.card.inject(Kind::LinkDown).unwrap();
            assert_eq!(rig.read(channel().base + 0x40), !0);
            rig.card.inject(Kind::LinkUp).unwrap();
            assert_eq!(rig.read(channel().base + 0x40), 0);
            rig.config_write(0x04, &0x0006u16.to_le_bytes());
            works(&mut rig, channel(), 9);
        }
    }
}

/// A client that connects while the link is down reads all ones, and stays connected.
#[test]
fn a_client_may_connect_while_the_link_is_down() {
    let mut rig = Rig::exactly(EmulatorOptions { card: CardFile::alveo(), ..synchronous() });
    rig.card.inject(Kind::LinkDown).unwrap();
    rig.reconnect();
    assert_eq!((rig.config32(0x00), rig.read(0x2000)), (!0, !0));
    rig.card.inject(Kind::LinkUp).unwrap();
    assert_eq!((rig.config32(0x00), rig.read(0x2000)), (0x903f_10ee, 0x1fc2_0006));
}

/// AWS "Shell Interface Specification": the shell ends transactions that the custom logic does not answer, and all others
/// immediately for the next 4 ms. It is unverified that XDMA sees no error.
#[test]
fn the_shell_times_out_unanswered_transactions() {
    const LIMIT: Duration = Duration::from_millis(300);
    /// 16 AXI transactions of 4 KiB, or reads of 512 bytes by the engine of `hdl/rtl/dma`.
    const LEN: u32 = 0x1_0000;
    for channel in BOTH {
        for options in both_times() {
            let (channel, options) = (channel(), EmulatorOptions { axi_timeout: Some(LIMIT), ..options });
            let mut rig = Rig::new(options);
            works(&mut rig, channel, 1);
            let piece = Piece { host: DATA, card: HANGS, len: LEN };
            rig.host.put(LIST, piece.descriptor(&rig.host, channel, STOP | COMPLETED, 0, 0));
            let start = Instant::now();
            rig.go(channel, LIST, 0, all_ie(channel));
            assert_eq!(rig.read(channel.base + 0x40), 1, "the channel waits");
            rig.idle(channel);
            let took = start.elapsed();
            assert_eq!((rig.read(channel.base + 0x40), rig.read(channel.base + 0x48)), (0x06, 1));
            assert!(took >= LIMIT, "{took:?}");
            assert!(took < 8 * LIMIT, "only the first transaction waits for the full limit: {took:?}");
            match channel.to_card {
                true => assert!(rig.arrived(channel, &piece).iter().all(|byte| *byte == 0), "vanished"),
                false => assert!(rig.arrived(channel, &piece).iter().all(|byte| *byte == 0xff)),
            }
            let size = if RTL && !channel.to_card { 512 } else { 4096 };
            assert_eq!(rig.card.counters().axi_timeouts, u64::from(LEN) / size);
            // The full limit applies again.
            std::thread::sleep(Duration::from_millis(5));
            works(&mut rig, channel, 2);
        }
    }
}

/// A response before the timeout is delivered normally.
#[test]
fn a_response_before_the_timeout_is_delivered() {
    for channel in BOTH {
        for options in both_times() {
            let options = EmulatorOptions { axi_timeout: Some(Duration::from_secs(5)), ..options };
            let (mut rig, channel) = (Rig::new(options), channel());
            let list = [Piece { host: DATA, card: HANGS, len: 8192 }];
            let expected = rig.fill(channel, &list, 7);
            let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
            rig.go(channel, LIST, adjacent, all_ie(channel));
            assert_eq!(rig.read(channel.base + 0x40), 1);
            rig.fabric.release();
            rig.idle(channel);
            rig.check(channel, &list, &expected);
            assert_eq!(rig.card.counters().axi_timeouts, 0);
        }
    }
}
