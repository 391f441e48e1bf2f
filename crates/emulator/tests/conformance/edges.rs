//! Error cases: every case whose result is documented in the manual or was observed on hardware.

use crate::fabric::{DECODE_ERROR, HANGS, SLAVE_ERROR};
use crate::host::{COMPLETED, STOP, descriptor};
use crate::rig::{Channel, DATA, LIST, Piece, RTL, Rig, WORD, both_times, c2h, h2c, pieces, synchronous};
use xdma_emulator::{EmulatorOptions, Purpose, Rule, Switches};

/// All `ie_*` bits. H2C has write errors, C2H has none.
fn all_ie(channel: Channel) -> u32 {
    if channel.to_card { 0x00ff_fe7e } else { 0x00f8_3e7e }
}

const BOTH: [fn() -> Channel; 2] = [|| h2c(1), || c2h(2)];
/// An unmapped address.
const NOWHERE: u64 = 0xdead_0000;

/// Writes three descriptors without adjacency. None of them reports completion, and the last one stops. `broken` may modify the
/// third one.
fn three(rig: &mut Rig, channel: Channel, broken: impl Fn(&mut [u32; 8])) -> (Vec<Piece>, Vec<Vec<u8>>) {
    let list = pieces(3, 128);
    let expected = rig.fill(channel, &list, 4);
    for (i, piece) in list.iter().enumerate() {
        let next = if i == 2 { 0 } else { rig.host.at(LIST + 32 * (i + 1)) };
        let mut words = piece.descriptor(&rig.host, channel, if i == 2 { STOP } else { 0 }, 0, next);
        if i == 2 {
            broken(&mut words);
        }
        rig.host.put(LIST + 32 * i, words);
    }
    (list, expected)
}

/// Waits until the channel is idle, and returns status and count.
fn outcome(rig: &mut Rig, channel: Channel) -> (u32, u32) {
    rig.idle(channel);
    (rig.read(channel.base + 0x40), rig.read(channel.base + 0x48))
}

/// Runs three descriptors, of which the third is broken.
fn break_third(
    channel: Channel,
    options: EmulatorOptions,
    control: u32,
    broken: impl Fn(&mut [u32; 8]),
) -> (Rig, (u32, u32)) {
    let mut rig = Rig::new(options);
    let (list, expected) = three(&mut rig, channel, broken);
    rig.go(channel, LIST, 0, control);
    let outcome = outcome(&mut rig, channel);
    rig.check(channel, &list[..2], &expected[..2]);
    (rig, outcome)
}

fn set_address(words: &mut [u32; 8], at: usize, address: u64) {
    words[at] = address as u32;
    words[at + 1] = (address >> 32) as u32;
}

/// The index of the host address in a descriptor.
fn host_side(channel: Channel) -> usize {
    if channel.to_card { 2 } else { 4 }
}

fn card_side(channel: Channel) -> usize {
    if channel.to_card { 4 } else { 2 }
}

/// The faults that the host's IOMMU would have logged.
fn faults(rig: &Rig) -> Vec<(Purpose, bool, u64)> {
    rig.card.dma_faults().iter().map(|fault| (fault.purpose, fault.write, fault.iova)).collect()
}

#[test]
fn a_wrong_magic_number_stops() {
    for channel in BOTH {
        for options in both_times() {
            let (rig, outcome) =
                break_third(channel(), options, all_ie(channel()), |words| words[0] ^= 0x0001_0000);
            assert_eq!(outcome, (0x10, 2));
            let third = pieces(3, 128)[2];
            assert!(rig.arrived(channel(), &third).iter().all(|byte| *byte == 0), "its data was not moved");
        }
        let (_, outcome) = break_third(channel(), synchronous(), 0, |words| words[0] = 0);
        assert_eq!(outcome, (0, 2), "stops without logging if the bit is disabled");
    }
}

/// On hardware, the status register read 0x80010 after a refused fetch: bits 19 and 4.
#[test]
fn a_refused_descriptor_fetch_stops_the_engine() {
    for channel in BOTH {
        for options in both_times() {
            let channel = channel();
            let mut rig = Rig::new(options);
            rig.host.set_word(WORD, 0x7777_7777);
            let word = rig.host.at(WORD);
            rig.write(channel.base + 0x88, word as u32);
            rig.write(channel.base + 0x8c, (word >> 32) as u32);
            rig.first(channel, NOWHERE, 0);
            rig.write(channel.base + 0x04, all_ie(channel) | 0x0400_0001);
            assert_eq!(outcome(&mut rig, channel), (0x0008_0010, 0));
            assert_eq!(faults(&rig), [(Purpose::Fetch, false, NOWHERE)]);
            assert_eq!(rig.host.word(WORD), 0x7777_7777, "no write-back, as on hardware");
            rig.stop(channel);
            // Recovery: clear the status by reading, write a valid list, set Run again.
            assert_eq!(rig.read(channel.base + 0x44), 0x0008_0010 | rig.read(channel.base + 0x40) & 0x40);
            let list = pieces(2, 64);
            let expected = rig.fill(channel, &list, 1);
            let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
            rig.run(channel, LIST, adjacent, all_ie(channel));
            assert_eq!((rig.read(channel.base + 0x40), rig.read(channel.base + 0x48)), (0x06, 2));
            rig.check(channel, &list, &expected);
        }
    }
}

/// A next address of 0 is not an end: the engine fetches from there.
#[test]
fn a_list_without_stop_runs_to_address_zero() {
    for channel in BOTH {
        let (_, outcome) =
            break_third(channel(), synchronous(), all_ie(channel()), |words| words[0] &= !STOP);
        assert_eq!(outcome, (0x0008_0010, 3));
        let completed = |words: &mut [u32; 8]| words[0] = words[0] & !STOP | COMPLETED;
        let (_, outcome) = break_third(channel(), synchronous(), all_ie(channel()), completed);
        assert_eq!(outcome, (0x0008_0014, 3));
    }
}

/// The same with memory mapped at 0, as without an IOMMU, which does not contain a descriptor.
#[test]
fn a_list_without_stop_reads_memory_at_address_zero() {
    let mut rig = Rig::new(synchronous());
    let low = crate::host::Host::new(0, 0x1_0000);
    rig.client.dma_map(0, 0, 0x1_0000, low.fd()).unwrap();
    three(&mut rig, h2c(1), |words| words[0] &= !STOP);
    rig.go(h2c(1), LIST, 0, all_ie(h2c(1)));
    assert_eq!(outcome(&mut rig, h2c(1)), (0x10, 3));
}

/// H2C reads unmapped host memory: bit 9.
#[test]
fn an_unmapped_h2c_source_stops_the_engine() {
    for options in both_times() {
        let channel = h2c(1);
        let unmapped = |words: &mut [u32; 8]| set_address(words, host_side(channel), NOWHERE);
        let (rig, outcome) = break_third(channel, options, all_ie(channel), unmapped);
        assert_eq!(outcome, (0x200, 2));
        assert_eq!(faults(&rig), [(Purpose::Payload, false, NOWHERE)]);
    }
}

/// The source ends in the middle: the channel stops, and the descriptor is not counted.
#[test]
fn an_h2c_source_that_ends_early_stops_the_engine() {
    let mut rig = Rig::new(synchronous());
    let end = rig.host.iova + rig.host.len() as u64;
    rig.host.put(LIST, descriptor(STOP | COMPLETED, 0, 8192, end - 4096, 0x5000, 0));
    rig.go(h2c(0), LIST, 0, all_ie(h2c(0)));
    assert_eq!(outcome(&mut rig, h2c(0)), (0x200, 0));
}

/// C2H writes are posted. The IOMMU drops them, and the card is not notified.
#[test]
fn writes_to_an_unmapped_c2h_destination_are_lost_silently() {
    for options in both_times() {
        let channel = c2h(2);
        let unmapped = |words: &mut [u32; 8]| {
            set_address(words, host_side(channel), NOWHERE);
            words[0] |= COMPLETED;
        };
        let (rig, outcome) = break_third(channel, options, all_ie(channel), unmapped);
        assert_eq!(outcome, (0x06, 3), "reported as success");
        assert_eq!(faults(&rig), [(Purpose::Payload, true, NOWHERE)], "as the host's IOMMU would log it");
    }
}

/// The flags of DMA_MAP: the card does not write to read-only maps, and reads from write-only maps are refused.
#[test]
fn permissions_of_maps_are_enforced() {
    let mut rig = Rig::exactly(synchronous());
    let memory = crate::host::Host::new(0x7000_0000, 0x3000);
    memory.write(0, &[0x55; 0x3000]);
    rig.fabric.poke(0x9000, &[0xab; 256]);
    let list = crate::host::Host::new(0x6000_0000, 0x1000);
    // Write the lists before the client disconnects: the raw connection has only these two maps and no rig.
    list.put(0, descriptor(STOP, 0, 256, 0x9000, memory.at(0), 0));
    list.put(32, descriptor(STOP, 0, 256, memory.at(0), 0x9000, 0));
    let mut raw = crate::raw::Raw::instead_of(&mut rig);
    raw.write(7, 4, &6u16.to_le_bytes()).unwrap();
    raw.map(1, list.iova, 0x1000, list.fd()).expect("a read-only map");
    let run = |raw: &mut crate::raw::Raw, channel: Channel, at: u64| {
        for (register, value) in [
            (channel.base + 4, 0),
            (channel.sgdma + 0x80, at as u32),
            (channel.sgdma + 0x84, 0),
            (channel.sgdma + 0x88, 0),
            (channel.base + 4, all_ie(channel) | 1),
        ] {
            raw.write(2, register, &value.to_le_bytes()).unwrap();
        }
        let mut read = |at| u32::from_le_bytes(raw.read(2, at, 4).unwrap().try_into().unwrap());
        (read(channel.base + 0x40), read(channel.base + 0x48))
    };
    raw.map(1, memory.iova, 0x3000, memory.fd()).expect("a read-only map");
    assert_eq!(run(&mut raw, c2h(0), list.at(0)), (0x02, 1), "dropped silently");
    assert_eq!(memory.read(0, 256), [0x55; 256]);
    assert_eq!(run(&mut raw, h2c(0), list.at(32)), (0x02, 1));
    assert_eq!(rig.fabric.peek(0x9000, 256), [0x55; 256]);
    let unmap = [
        [24u32.to_le_bytes(), [0; 4]].concat(),
        memory.iova.to_le_bytes().to_vec(),
        0x3000u64.to_le_bytes().to_vec(),
    ];
    raw.call(3, &unmap.concat()).expect("DMA_UNMAP");
    rig.fabric.poke(0x9000, &[0xcd; 256]);
    raw.map(2, memory.iova, 0x3000, memory.fd()).expect("a write-only map");
    assert_eq!(run(&mut raw, c2h(0), list.at(0)), (0x02, 1));
    assert_eq!(memory.read(0, 256), [0xcd; 256]);
    assert_eq!(run(&mut raw, h2c(0), list.at(32)), (0x200, 0), "reading is refused");
    raw.end();
}

/// Bit 14 for DECERR, bit 15 for SLVERR. The vendor's 0x00f83e1e disables both.
#[test]
fn axi_write_errors_are_logged_if_enabled() {
    let channel = h2c(1);
    for (card, bit) in [(DECODE_ERROR, 0x4000), (SLAVE_ERROR, 0x8000)] {
        for options in both_times() {
            let refused = |words: &mut [u32; 8]| {
                set_address(words, card_side(channel), card);
                words[0] |= COMPLETED;
            };
            let (_, outcome) = break_third(channel, options.clone(), all_ie(channel), refused);
            assert_eq!(outcome, (bit, 2));
            let (_, outcome) = break_third(channel, options, 0x00f8_3e1e, refused);
            assert_eq!(outcome, (0x06, 3), "reported as success");
        }
    }
}

/// Bit 9 for DECERR, 10 for SLVERR.
#[test]
fn axi_read_errors() {
    let channel = c2h(2);
    for (card, bit) in [(DECODE_ERROR, 0x200), (SLAVE_ERROR, 0x400)] {
        for options in both_times() {
            for control in [all_ie(channel), 0x00f8_3e1e] {
                let refused = |words: &mut [u32; 8]| set_address(words, card_side(channel), card);
                let (_, outcome) = break_third(channel, options.clone(), control, refused);
                assert_eq!(outcome, (bit, 2));
            }
        }
    }
}

/// Whether an error that is not logged stops the channel is undocumented, so it is a switch.
#[test]
fn unlogged_errors_stop_according_to_the_switch() {
    for stop in [false, true] {
        let switches = Switches { unlogged_errors_stop: stop.into(), ..Switches::default() };
        let options = synchronous().with_switches(switches);
        let channel = h2c(1);
        let refused = |words: &mut [u32; 8]| set_address(words, card_side(channel), DECODE_ERROR);
        let (rig, outcome) = break_third(channel, options, 0, refused);
        let stops = rig.switches().unlogged_errors_stop.or(false);
        assert_eq!(outcome, (0, if stops { 2 } else { 3 }));
    }
}

/// Fixed addresses require address and length to be aligned to the data path: status bit 3.
#[test]
fn an_unaligned_fixed_address_is_an_error() {
    for channel in BOTH {
        let channel = channel();
        for (word, value) in [(4, 4), (2, 4), (1, 100 ^ 128)] {
            let mut rig = Rig::new(synchronous());
            let good = Piece { host: DATA, card: 0x1000, len: 128 };
            let mut words = good.descriptor(&rig.host, channel, STOP | COMPLETED, 0, 0);
            rig.host.put(LIST, words);
            rig.go(channel, LIST, 0, 0x0200_0000 | all_ie(channel));
            assert_eq!(outcome(&mut rig, channel), (0x06, 1));
            words[word] ^= value;
            rig.host.put(LIST, words);
            rig.go(channel, LIST, 0, 0x0200_0000 | all_ie(channel));
            assert_eq!(outcome(&mut rig, channel), (0x08, 0));
            // With incrementing addresses the same transfer is legal.
            rig.go(channel, LIST, 0, all_ie(channel));
            assert_eq!(outcome(&mut rig, channel), (0x06, 1));
        }
    }
}

#[test]
fn a_length_of_zero_is_detected_and_counts_without_data() {
    for channel in BOTH {
        let channel = channel();
        let mut rig = Rig::new(synchronous());
        rig.expect_violation(Rule::ZeroLength);
        three(&mut rig, channel, |words| words[1] = 0);
        let before = rig.fabric.calls().len();
        rig.go(channel, LIST, 0, all_ie(channel));
        assert_eq!(outcome(&mut rig, channel), (0x02, 3));
        assert_eq!(rig.fabric.calls().len() - before, 2);
    }
}

#[test]
fn reserved_bits_are_detected_and_ignored() {
    for (word, bits) in [(1, 0x1000_0000), (1, 0xf000_0000), (0, 0x4000), (0, 0x8000), (0, 0x20), (0, 0x0c)] {
        let channel = c2h(0);
        let mut rig = Rig::new(synchronous());
        rig.expect_violation(Rule::ReservedBits);
        let (list, expected) = three(&mut rig, channel, |words| words[word] |= bits);
        rig.go(channel, LIST, 0, all_ie(channel));
        assert_eq!(outcome(&mut rig, channel), (0x02, 3), "word {word} bits {bits:#x}");
        rig.check(channel, &list, &expected);
    }
}

/// The status bits at the end of a list, for all combinations of Stop and Completed.
#[test]
fn the_end_of_a_list_sets_the_enabled_status_bits() {
    for (control, ie, status) in [
        (STOP, 0x7e, 0x02),
        (STOP | COMPLETED, 0x7e, 0x06),
        (STOP | COMPLETED, 0x02, 0x02),
        (STOP | COMPLETED, 0x04, 0x04),
        (STOP | COMPLETED, 0, 0),
    ] {
        for channel in BOTH {
            let channel = channel();
            let mut rig = Rig::new(synchronous());
            rig.host.put(LIST, pieces(1, 64)[0].descriptor(&rig.host, channel, control, 0, 0));
            rig.go(channel, LIST, 0, ie);
            assert_eq!(outcome(&mut rig, channel), (status, 1));
        }
    }
}

/// Completed in the middle of a list sets bit 2, and the channel continues.
#[test]
fn completed_in_the_middle_is_reported_while_the_list_runs() {
    for channel in BOTH {
        let channel = channel();
        let mut rig = Rig::new(EmulatorOptions::default());
        three(&mut rig, channel, |words| set_address(words, card_side(channel), HANGS));
        rig.host.set_word(LIST + 32, rig.host.word(LIST + 32) | COMPLETED);
        rig.go(channel, LIST, 0, all_ie(channel));
        rig.until("two are done", |rig| rig.read(channel.base + 0x48) == 2);
        rig.until("bit 2 is set", |rig| rig.read(channel.base + 0x40) == 0x05);
        assert_eq!(rig.read(channel.base + 0x44), 0x05, "reading does not clear BUSY");
        assert_eq!(rig.read(channel.base + 0x44), 0x01);
        rig.fabric.release();
        assert_eq!(outcome(&mut rig, channel), (0x02, 3));
    }
}

/// Run is cleared while a list runs: the current descriptor is completed and the rest is dropped. Bit 6 is set if enabled. The engine of
/// `hdl/rtl/dma` has up to 33 current descriptors: 32 with a burst under way, and the next one. Nothing beyond the count is written.
#[test]
fn clearing_run_stops_after_the_current_descriptor() {
    const MOST: u32 = if RTL { 34 } else { 2 };
    for (ie, status) in [(0x40, 0x40), (0x3e, 0)] {
        for channel in BOTH {
            let channel = channel();
            let mut rig = Rig::new(EmulatorOptions::default());
            let mut list = pieces(100, 128);
            list[1].card = HANGS;
            let expected = rig.fill(channel, &list, 4);
            rig.lay(channel, LIST, &list, 0, STOP);
            rig.go(channel, LIST, 0, ie);
            rig.until("one is done", |rig| rig.read(channel.base + 0x48) == 1);
            rig.fabric.await_hang();
            rig.write(channel.base + 0x04, ie);
            assert_eq!(rig.read(channel.base + 0x40), 1, "the second descriptor is in progress");
            rig.fabric.release();
            let (seen, count) = outcome(&mut rig, channel);
            assert_eq!(seen, status);
            assert!((2..=MOST).contains(&count), "{count}");
            let (done, dropped) = list.split_at(count as usize);
            rig.check(channel, done, &expected[..done.len()]);
            let untouched = |piece| rig.arrived(channel, piece).iter().all(|byte| *byte == 0);
            assert!(dropped.iter().all(untouched), "the rest was dropped");
        }
    }
}

/// Observed on hardware: if the AXI side never answers, BUSY stays set forever.
#[test]
fn a_card_that_never_answers_stays_busy() {
    for channel in BOTH {
        let channel = channel();
        let mut rig = Rig::new(EmulatorOptions::default());
        let mut words = pieces(1, 64)[0].descriptor(&rig.host, channel, STOP, 0, 0);
        set_address(&mut words, card_side(channel), HANGS);
        rig.host.put(LIST, words);
        rig.go(channel, LIST, 0, all_ie(channel));
        rig.fabric.await_hang();
        rig.write(channel.base + 0x0c, 1);
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!((rig.read(channel.base + 0x40), rig.read(channel.base + 0x48)), (1, 0));
        // The other channels are not blocked.
        let other = if channel.to_card { c2h(0) } else { h2c(0) };
        let adjacent = rig.lay(other, LIST + 0x1000, &pieces(2, 64), 0, STOP);
        rig.run(other, LIST + 0x1000, adjacent, all_ie(other));
        assert_eq!(rig.read(other.base + 0x48), 2);
        rig.fabric.release();
        rig.idle(channel);
    }
}

#[test]
fn setting_run_while_busy_is_detected() {
    let mut rig = Rig::new(EmulatorOptions::default());
    let channel = h2c(0);
    let mut words = pieces(1, 64)[0].descriptor(&rig.host, channel, STOP, 0, 0);
    set_address(&mut words, 4, HANGS);
    rig.host.put(LIST, words);
    rig.go(channel, LIST, 0, 0x1e);
    rig.fabric.await_hang();
    rig.write(channel.base + 0x0c, 1);
    assert_eq!(rig.read(channel.base + 0x40) & 1, 1);
    rig.expect_violation(Rule::RunWhileBusy);
    rig.write(channel.base + 0x08, 1);
    rig.fabric.release();
    rig.write(channel.base + 0x0c, 1);
    rig.idle(channel);
}

/// Rewriting the first descriptor's address while the channel runs affects only the next run.
#[test]
fn a_new_first_address_is_for_the_next_run() {
    let mut rig = Rig::new(EmulatorOptions::default());
    let channel = h2c(0);
    let (list, expected) = three(&mut rig, channel, |_| {});
    let mut first = list[0].descriptor(&rig.host, channel, 0, 0, rig.host.at(LIST + 32));
    set_address(&mut first, 4, HANGS);
    rig.host.put(LIST, first);
    rig.go(channel, LIST, 0, 0x1e);
    rig.fabric.await_hang();
    rig.expect_violation(Rule::StartWhileRunning);
    rig.host.put(LIST + 0x1000, list[0].descriptor(&rig.host, channel, STOP | COMPLETED, 0, 0));
    rig.first(channel, rig.host.at(LIST + 0x1000), 0);
    rig.fabric.release();
    assert_eq!(outcome(&mut rig, channel), (0x02, 3), "the old list continued");
    rig.check(channel, &list[1..], &expected[1..]);
    rig.write(channel.base + 0x0c, 1);
    rig.write(channel.base + 0x08, 1);
    assert_eq!(outcome(&mut rig, channel), (0x06, 1), "the new list ran");
    rig.check(channel, &list[..1], &expected[..1]);
}

/// A rising Run clears the sticky bits and the count. The write-back memory is not touched.
#[test]
fn rising_run_clears_status_and_count() {
    let mut rig = Rig::new(synchronous());
    for channel in BOTH {
        let channel = channel();
        rig.host.put(LIST, [0; 8]);
        rig.run(channel, LIST, 0, all_ie(channel));
        assert_eq!(rig.read(channel.base + 0x40), 0x10);
        rig.write(0x6014, channel.common);
        let adjacent = rig.lay(channel, LIST, &pieces(2, 64), 0, STOP | COMPLETED);
        rig.go(channel, LIST, adjacent, all_ie(channel));
        assert_eq!((rig.read(channel.base + 0x40) & !1, rig.read(channel.base + 0x48)), (0, 0));
        rig.write(0x6018, channel.common);
        assert_eq!(outcome(&mut rig, channel), (0x06, 2));
        rig.write(channel.base + 0x0c, 1);
        assert_eq!(rig.read(channel.base + 0x48), 2, "a falling Run keeps the count");
        rig.write(0x6014, channel.common);
        rig.write(channel.base + 0x08, 1);
        assert_eq!(rig.read(channel.base + 0x48), 0);
        rig.write(0x6018, channel.common);
        rig.idle(channel);
    }
}

/// Writing 1 to bits of 0x40 clears them; reading 0x44 clears all of them.
#[test]
fn status_is_cleared_bit_by_bit_or_by_reading() {
    let mut rig = Rig::new(synchronous());
    for channel in BOTH {
        let channel = channel();
        let adjacent = rig.lay(channel, LIST, &pieces(2, 64), 0, STOP | COMPLETED);
        rig.run(channel, LIST, adjacent, 0x1e);
        assert_eq!(rig.read(channel.base + 0x40), 0x06);
        assert_eq!(rig.read(channel.base + 0x40), 0x06, "reading 0x40 clears nothing");
        rig.write(channel.base + 0x40, 0);
        assert_eq!(rig.read(channel.base + 0x40), 0x06);
        rig.write(channel.base + 0x40, 0x02);
        assert_eq!(rig.read(channel.base + 0x40), 0x04);
        rig.write(channel.base + 0x44, 0xffff_ffff);
        assert_eq!(rig.read(channel.base + 0x44), 0x04, "writing 0x44 clears nothing");
        assert_eq!((rig.read(channel.base + 0x44), rig.read(channel.base + 0x40)), (0, 0));
        assert_eq!(rig.read(channel.base + 0x48), 2, "the count is kept");
    }
}

/// The value of Run after Stop is undocumented, so it is a switch.
#[test]
fn run_after_stop_follows_the_switch() {
    for clears in [false, true] {
        let switches = Switches { stop_clears_run: clears.into(), ..Switches::default() };
        let mut rig = Rig::new(synchronous().with_switches(switches));
        let adjacent = rig.lay(h2c(0), LIST, &pieces(2, 64), 0, STOP);
        rig.run(h2c(0), LIST, adjacent, 0x1e);
        assert_eq!(rig.read(0x04) & 1, u32::from(!rig.switches().stop_clears_run.or(false)));
        assert_eq!(rig.read(0x04) & !1, 0x1e);
    }
}

/// BUSY may fall some time after the write-back. The delay is unknown, so it is a switch.
#[test]
fn busy_outlasts_the_write_back_according_to_the_switch() {
    for lag_us in [0, 30_000u32] {
        let switches = Switches { busy_lag_us: lag_us.into(), ..Switches::default() };
        let mut rig = Rig::new(EmulatorOptions::default().with_switches(switches));
        let word = rig.host.at(WORD);
        rig.write(0x88, word as u32);
        rig.write(0x8c, (word >> 32) as u32);
        let adjacent = rig.lay(h2c(0), LIST, &pieces(2, 64), 0, STOP | COMPLETED);
        rig.go(h2c(0), LIST, adjacent, 0x0400_001e);
        rig.until("the count is written back", |rig| rig.host.word(WORD) == 2);
        let lags = rig.switches().busy_lag_us.or(0) > 0;
        assert!(!lags || rig.read(0x40) & 1 == 1);
        rig.idle(h2c(0));
    }
}

/// Bus mastering is turned off in the middle: requests stop, and the channel hangs. With the engine of `hdl/rtl/dma`, the
/// bridge answers SLVERR, as on F2, which ends the list.
#[test]
fn without_bus_mastering_requests_stop() {
    let mut rig = Rig::new(EmulatorOptions::default());
    let channel = h2c(0);
    let piece = pieces(1, 64)[0];
    rig.host.put(LIST, piece.descriptor(&rig.host, channel, 0, 0, rig.host.at(LIST)));
    rig.go(channel, LIST, 0, 0x1e);
    rig.until("it runs", |rig| rig.read(channel.base + 0x48) > 10);
    rig.tolerate_violation(Rule::BusMasterOff);
    rig.config_write(0x04, &0x0002u16.to_le_bytes());
    std::thread::sleep(std::time::Duration::from_millis(20));
    let count = rig.read(channel.base + 0x48);
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!(rig.read(channel.base + 0x48), count);
    assert_eq!(rig.read(channel.base + 0x40), if RTL { 0x10 } else { 1 });
    rig.config_write(0x04, &0x0006u16.to_le_bytes());
    rig.stop(channel);
    let adjacent = rig.lay(channel, LIST, &pieces(2, 64), 0, STOP | COMPLETED);
    rig.run(channel, LIST, adjacent, 0x1e);
    assert_eq!((rig.read(channel.base + 0x40), rig.read(channel.base + 0x48)), (0x06, 2));
}

/// Stops a list in the middle and immediately starts another one. No start may be lost, and the old list must not continue.
#[test]
fn another_list_starts_immediately_after_a_stop() {
    for seed in 0..4 {
        let mut rig = Rig::new(EmulatorOptions { seed, ..EmulatorOptions::default() });
        for channel in BOTH {
            let channel = channel();
            let endless = pieces(4, 64);
            let list = pieces(10, 300);
            for round in 0..100 {
                for (i, piece) in endless.iter().enumerate() {
                    let next = rig.host.at(LIST + 0x1000 + 32 * ((i + 1) % 4));
                    rig.host.put(LIST + 0x1000 + 32 * i, piece.descriptor(&rig.host, channel, 0, 0, next));
                }
                rig.go(channel, LIST + 0x1000, 0, 0x5e);
                rig.until("it runs", |rig| rig.read(channel.base + 0x48) > 0);
                rig.stop(channel);
                assert_eq!(rig.read(channel.base + 0x40), 0x40);
                let expected = rig.fill(channel, &list, round);
                let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
                rig.run(channel, LIST, adjacent, 0x5e);
                assert_eq!(
                    (rig.read(channel.base + 0x40), rig.read(channel.base + 0x48)),
                    (0x06, 10),
                    "round {round}"
                );
                rig.check(channel, &list, &expected);
            }
        }
    }
}
