//! AXI-Stream channels (PG195 "AXI4-Stream Channels", "DMA H2C Stream", "DMA C2H Stream", "C2H Stream Writeback").

use crate::host::{COMPLETED, EOP, STOP, descriptor, pattern};
use crate::rig::{DATA, LIST, Rig, WORD, both_times, c2h, h2c, synchronous};
use xdma_emulator::{EmulatorOptions, Switches};

/// The offset of the metadata, 32 bytes per descriptor as in the vendor driver.
const META: usize = 0x8000;

fn stream(options: EmulatorOptions) -> Rig {
    Rig::new(options.with_channels(2, 2).with_streams())
}

/// Writes C2H descriptors of `len` bytes each. The source is the metadata address.
fn lay_c2h(rig: &Rig, count: usize, len: u32, last: u32) {
    for i in 0..count {
        let end = i + 1 == count;
        let next = if end { 0 } else { rig.host.at(LIST + 32 * (i + 1)) };
        let control = if end { COMPLETED | last } else { COMPLETED };
        let (meta, data) = (rig.host.at(META + 32 * i), rig.host.at(DATA + 0x1000 * i));
        rig.host.put(LIST + 32 * i, descriptor(control, 0, len, meta, data, next));
        rig.host.write(META + 32 * i, &[0xee; 32]);
    }
}

fn meta(rig: &Rig, i: usize) -> (u32, u32) {
    (rig.host.word(META + 32 * i), rig.host.word(META + 32 * i + 4))
}

/// Returns the data of a channel, and the offsets after which TLAST was set.
fn packets(rig: &Rig, channel: usize) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends) = (vec![], vec![]);
    for (from, data, last) in rig.fabric.received() {
        if from == channel {
            bytes.extend(data);
            ends.extend(last.then_some(bytes.len()));
        }
    }
    (bytes, ends)
}

#[test]
fn eop_ends_a_packet() {
    for options in both_times() {
        let mut rig = stream(options);
        for channel in [h2c(0), h2c(1)] {
            // 1000 + 24 + 7 bytes: a packet of two descriptors, then a packet of one.
            let lens = [(1000u32, 0), (24, EOP), (7, EOP | STOP | COMPLETED)];
            let mut sent = vec![];
            for (i, (len, control)) in lens.into_iter().enumerate() {
                let bytes = pattern(i as u64 + 1, len as usize);
                let at = DATA + 0x1001 * i;
                rig.host.write(at, &bytes);
                sent.extend(bytes);
                let next = if i == 2 { 0 } else { rig.host.at(LIST + 32 * (i + 1)) };
                rig.host.put(LIST + 32 * i, descriptor(control, 0, len, rig.host.at(at), 0, next));
            }
            rig.run(channel, LIST, 0, 0x1e);
            assert_eq!((rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)), (0x06, 3));
            let (bytes, ends) = packets(&rig, channel.number);
            assert_eq!(bytes, sent);
            assert_eq!(ends, [1024, 1031]);
        }
    }
}

#[test]
fn without_eop_there_is_no_tlast() {
    let mut rig = stream(synchronous());
    rig.host.put(LIST, descriptor(STOP | COMPLETED, 0, 640, rig.host.at(DATA), 0, 0));
    rig.run(h2c(0), LIST, 0, 0x1e);
    let (bytes, ends) = packets(&rig, 0);
    assert_eq!((bytes.len(), ends.len()), (640, 0));
}

/// Two dwords at the descriptor's source address: 0x52b4 and EOP, then the length received.
#[test]
fn c2h_metadata_reports_length_and_eop() {
    for options in both_times() {
        let mut rig = stream(options);
        let channel = c2h(1);
        // A packet of 2.5 descriptors, then a short one.
        let (long, short) = (pattern(1, 2560), pattern(2, 100));
        lay_c2h(&rig, 4, 1024, STOP);
        rig.fabric.send(1, &long, true);
        rig.fabric.send(1, &short, true);
        rig.run(channel, LIST, 0, 0x1e);
        assert_eq!((rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)), (0x06, 4));
        let seen: Vec<_> = (0..4).map(|i| meta(&rig, i)).collect();
        assert_eq!(seen, [(0x52b4_0000, 1024), (0x52b4_0000, 1024), (0x52b4_0001, 512), (0x52b4_0001, 100)]);
        assert_eq!(rig.host.read(META + 8, 24), [0xee; 24], "8 bytes and no more");
        assert!(rig.host.read(DATA, 1024) == long[..1024]);
        assert!(rig.host.read(DATA + 0x1000, 1024) == long[1024..2048]);
        assert!(rig.host.read(DATA + 0x2000, 512) == long[2048..]);
        assert!(rig.host.read(DATA + 0x3000, 100) == short);
    }
}

/// Control bit 27 disables the metadata.
#[test]
fn control_bit_27_disables_metadata() {
    let mut rig = stream(synchronous());
    lay_c2h(&rig, 1, 1024, STOP);
    rig.fabric.send(0, &pattern(3, 300), true);
    rig.run(c2h(0), LIST, 0, 0x0800_001e);
    assert_eq!(rig.read(0x1048), 1);
    assert_eq!(meta(&rig, 0), (0xeeee_eeee, 0xeeee_eeee));
    assert!(rig.host.read(DATA, 300) == pattern(3, 300));
}

/// Data, then metadata, then the count: each is visible before the next.
#[test]
fn metadata_is_there_before_the_count() {
    let mut rig = stream(EmulatorOptions::default());
    let channel = c2h(0);
    let word = rig.host.at(WORD);
    rig.write(channel.base + 0x88, word as u32);
    rig.write(channel.base + 0x8c, (word >> 32) as u32);
    lay_c2h(&rig, 50, 256, STOP);
    rig.go(channel, LIST, 0, 0x0400_001e);
    for i in 0..50u32 {
        rig.fabric.send(0, &pattern(u64::from(i), 200), true);
        rig.until("the packet is counted", |rig| rig.host.word(WORD) == i + 1);
        assert_eq!(meta(&rig, i as usize), (0x52b4_0001, 200));
        assert!(rig.host.read(DATA + 0x1000 * i as usize, 200) == pattern(u64::from(i), 200));
    }
    rig.idle(channel);
}

#[test]
fn a_channel_is_busy_until_data_arrives() {
    let mut rig = stream(EmulatorOptions::default());
    let channel = c2h(0);
    lay_c2h(&rig, 1, 1024, STOP);
    rig.go(channel, LIST, 0, 0x1e);
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!((rig.read(channel.base + 0x40), rig.read(channel.base + 0x48)), (1, 0));
    rig.fabric.send(0, &pattern(1, 64), true);
    rig.idle(channel);
    assert_eq!(rig.read(channel.base + 0x48), 1);
}

/// The vendor driver's `enable_st_c2h_credit`: credits limit the descriptors that a C2H stream may use.
#[test]
fn credits_limit_a_c2h_stream() {
    let mut rig = stream(synchronous());
    let channel = c2h(0);
    lay_c2h(&rig, 4, 512, STOP);
    for i in 0..4 {
        rig.fabric.send(0, &pattern(i, 100), true);
    }
    rig.write(0x6024, channel.common);
    rig.write(channel.sgdma + 0x8c, 2);
    rig.go(channel, LIST, 0, 0x1e);
    rig.until("two are done", |rig| rig.read(channel.base + 0x48) == 2);
    assert_eq!(meta(&rig, 2), (0xeeee_eeee, 0xeeee_eeee));
    rig.write(channel.sgdma + 0x8c, 2);
    rig.until("four are done", |rig| rig.read(channel.base + 0x48) == 4);
    rig.idle(channel);
}

/// "Length must be a multiple of 64 bytes" for C2H streams: status bit 5, if control bit 5 enables it.
#[test]
fn a_c2h_stream_length_must_be_a_multiple_of_64() {
    for (control, logged) in [(0x3e, true), (0x1e, false)] {
        let mut rig = stream(synchronous());
        lay_c2h(&rig, 1, 100, STOP);
        rig.fabric.send(0, &pattern(1, 100), true);
        rig.run(c2h(0), LIST, 0, control);
        assert_eq!(rig.read(0x1040) & 0x20 != 0, logged, "control {control:#x}");
        assert_eq!(rig.read(0x1048), u32::from(!logged));
    }
}

/// Whether clearing Run ends a descriptor that waits for data is undocumented, so it is a switch.
#[test]
fn clearing_run_of_an_idle_stream_follows_the_switch() {
    for ends in [false, true] {
        let switches = Switches { stop_ends_idle_stream: ends.into(), ..Switches::default() };
        let mut rig = stream(EmulatorOptions::default().with_switches(switches));
        let channel = c2h(0);
        lay_c2h(&rig, 2, 512, STOP);
        rig.go(channel, LIST, 0, 0x5e);
        std::thread::sleep(std::time::Duration::from_millis(5));
        rig.write(channel.base + 0x0c, 1);
        if !ends {
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert_eq!(rig.read(channel.base + 0x40), 1, "busy until data arrives");
            rig.fabric.send(0, &pattern(1, 100), true);
        }
        rig.idle(channel);
        assert_eq!(rig.read(channel.base + 0x40) & 0x40, 0x40);
        assert_eq!(rig.read(channel.base + 0x48), u32::from(!ends));
    }
}
