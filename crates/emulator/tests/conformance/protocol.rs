//! The socket: malformed messages end the connection, but never the card.

use crate::raw::{Raw, Refusal};
use crate::rig::{Rig, synchronous, watchdog};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions, Rule};

fn card() -> EmulatedCard {
    EmulatedCard::start(synchronous(), Arc::new(crate::fabric::Fabric::default())).expect("the card starts")
}

/// Asserts that the card serves a well-behaved client.
fn serves(path: &Path) {
    let mut raw = Raw::new(path);
    assert_eq!(raw.read(2, 0, 4).unwrap(), 0x1fc0_0006u32.to_le_bytes());
    raw.end();
}

fn header(command: u16, size: u32, flags: u32) -> Vec<u8> {
    [[1, 0], command.to_le_bytes()]
        .concat()
        .into_iter()
        .chain(size.to_le_bytes())
        .chain(flags.to_le_bytes())
        .chain([0; 4])
        .collect()
}

/// Messages that no client may send after the version handshake.
fn bad_messages() -> Vec<(&'static str, Vec<u8>)> {
    let with = |command, size, payload: &[u8]| [header(command, size, 0), payload.to_vec()].concat();
    vec![
        ("unknown command", with(0x77, 16, &[])),
        ("command 0", with(0, 16, &[])),
        ("size below a header", with(9, 8, &[])),
        ("size 0", with(9, 0, &[])),
        ("size of 4 GiB", with(9, u32::MAX, &[])),
        ("region read without its payload", with(9, 16, &[])),
        (
            "region read of 4 GiB",
            with(9, 32, &[[0; 8].as_slice(), &2u32.to_le_bytes(), &u32::MAX.to_le_bytes()].concat()),
        ),
        ("region 99", with(9, 32, &[[0; 8].as_slice(), &99u32.to_le_bytes(), &4u32.to_le_bytes()].concat())),
        (
            "write with less data than specified",
            with(10, 36, &[&[0; 8], &2u32.to_le_bytes()[..], &400u32.to_le_bytes(), &[0; 4]].concat()),
        ),
        ("interrupt index 99", with(8, 36, &[20u32, 0x24, 99, 0, 1].map(u32::to_le_bytes).concat())),
        (
            "interrupt vectors beyond the table",
            with(8, 36, &[20u32, 0x21, 2, u32::MAX, u32::MAX].map(u32::to_le_bytes).concat()),
        ),
        ("map without memory", with(2, 48, &[[32, 0, 0, 0, 3, 0, 0, 0].as_slice(), &[0; 24]].concat())),
        (
            "map beyond the end of the address space",
            with(2, 48, &[[32, 0, 0, 0, 3, 0, 0, 0].as_slice(), &[0; 8], &[0xff; 16]].concat()),
        ),
        ("a second version", with(1, 20, &[0, 0, 1, 0])),
        ("a reply", [header(9, 32, 1), vec![0; 16]].concat()),
        ("noise", (0..200).map(|i| (i * 37 + 11) as u8).collect()),
    ]
}

/// Each message is refused in time. Whatever happens to the connection, the card serves the next client in the same process.
#[test]
fn a_bad_message_is_refused_without_ending_the_card() {
    let _watchdog = watchdog();
    let card = card();
    for (what, message) in bad_messages() {
        let mut raw = Raw::new(card.socket());
        raw.send(&message);
        assert!(raw.is_refused(), "{what}");
        raw.end();
        drop(raw);
        serves(card.socket());
    }
}

#[test]
fn a_bad_handshake_does_not_end_the_card() {
    let _watchdog = watchdog();
    let card = card();
    for beginning in
        [&b""[..], b"\x01", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64], &header(1, 16, 0), &header(1, 24, 0)]
    {
        let mut raw = Raw::silent(card.socket());
        raw.send(beginning);
        raw.end();
        drop(raw);
        serves(card.socket());
    }
}

#[test]
fn only_its_owner_may_open_the_socket() {
    use std::os::unix::fs::PermissionsExt;
    let card = card();
    let mode = std::fs::metadata(card.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_socket_is_removed_with_the_card() {
    let card = card();
    let path = card.socket().to_owned();
    serves(&path);
    drop(card);
    assert!(!path.exists());
}

/// PG195: only 32-bit accesses to the register space are allowed.
#[test]
fn an_access_of_another_width_is_detected() {
    for (offset, len) in [(0x40u64, 1usize), (0x40, 2), (0x40, 8), (0x42, 4), (0x41, 1)] {
        let mut rig = Rig::exactly(synchronous());
        rig.expect_violation(Rule::AccessWidth);
        let mut raw = Raw::instead_of(&mut rig);
        let _ = raw.read(2, offset, len as u32);
        raw.end();
    }
    for (offset, len) in [(0x90u64, 1usize), (0x90, 2), (0x90, 8), (0x92, 4)] {
        let mut rig = Rig::exactly(synchronous());
        rig.expect_violation(Rule::AccessWidth);
        let mut raw = Raw::instead_of(&mut rig);
        let _ = raw.write(2, offset, &[0xff; 8][..len]);
        raw.end();
    }
}

/// Accesses of fewer bits reach registers by byte enables, as with any AXI-Lite slave: user tools read and write bytes and halfwords
/// of both BARs (XIL `tools/reg_rw.c`).
#[test]
fn narrow_accesses_have_byte_enables() {
    let mut rig = Rig::exactly(synchronous());
    rig.expect_violation(Rule::AccessWidth);
    rig.bar_write(0, 0x500, 0x4433_2211);
    for (bar, offset, bytes) in
        [(0u32, 0x501u64, vec![0x22]), (0, 0x502, vec![0x33, 0x44]), (2, 0x2003, vec![0x1f])]
    {
        let mut seen = vec![0; bytes.len()];
        rig.client.region_read(bar, offset, &mut seen).expect("the card answers");
        assert_eq!(seen, bytes, "BAR{bar} at {offset:#x}");
    }
    rig.client.region_write(0, 0x501, &[0xaa]).expect("the card answers");
    rig.client.region_write(0, 0x506, &[0xcc, 0xdd]).expect("the card answers");
    assert_eq!((rig.bar_read(0, 0x500), rig.bar_read(0, 0x504)), (0x4433_aa11, 0xddcc_0000));
    // The channel's interrupt mask: the lower half keeps its value. A byte of the write-1-to-clear alias clears only its bits.
    rig.write(0x90, 0x00f8_3e1e);
    rig.client.region_write(2, 0x92, &[0x08, 0x00]).expect("the card answers");
    assert_eq!(rig.read(0x90), 0x0008_3e1e);
    rig.client.region_write(2, 0x99, &[0xff]).expect("the card answers");
    assert_eq!(rig.read(0x90), 0x0008_001e);
}

/// The alignments register states the rules of the current mode: in fixed-address mode, those of the data path (PG195, "H2C Channel
/// Alignments", "Alignment").
#[test]
fn alignments_follow_fixed_address_mode() {
    for (card, fixed) in
        [(CardFile::f1(), 0x0040_4040), (CardFile::shipped("7-series").unwrap(), 0x0008_0840)]
    {
        let width = card.core.data_width;
        let mut rig = Rig::new(EmulatorOptions { card, ..synchronous() });
        if rig.card.options().card.core.data_width != width {
            // The data path of the engine of `hdl/rtl/dma` has 512 bits.
            continue;
        }
        for channel in [0x0, 0x1000] {
            assert_eq!(rig.read(channel + 0x4c), 0x0001_0140);
            rig.write(channel + 0x08, 1 << 25);
            assert_eq!(rig.read(channel + 0x4c), fixed);
            rig.write(channel + 0x0c, 1 << 25);
            assert_eq!(rig.read(channel + 0x4c), 0x0001_0140);
        }
    }
}

/// Custom logic receives 32-bit accesses to the user BARs.
#[test]
fn user_bars_reach_the_logic() {
    let mut rig = Rig::exactly(synchronous());
    for (bar, offset) in [(0u32, 0x0u64), (0, 0x500), (0, 0x1ff_fffc), (1, 0x20), (1, 0x1f_fffc)] {
        let value = offset as u32 ^ 0x5a5a_0000 ^ bar;
        rig.bar_write(bar, offset, value);
        assert_eq!(rig.fabric.register(bar as usize, offset), Some(value));
        assert_eq!(rig.bar_read(bar, offset), value);
    }
}

/// F1's BAR4 and the DMA engine share one address space (AWS shell specification: the card's DMA address space is that of BAR4).
#[test]
fn bar4_of_f1_and_dma_address_the_same_memory() {
    let mut rig = Rig::exactly(synchronous());
    rig.fabric.poke(0x12_3456_7000, &[1, 2, 3, 4]);
    assert_eq!(rig.bar_read(4, 0x12_3456_7000), 0x0403_0201);
    rig.bar_write(4, 0x12_3456_7004, 0x0807_0605);
    assert_eq!(rig.fabric.peek(0x12_3456_7000, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
}

/// VFIO refuses an access that is not inside its region with EINVAL.
#[test]
fn an_access_beyond_its_region_is_refused() {
    let _watchdog = watchdog();
    let card = card();
    for (region, offset) in
        [(2u32, u64::MAX), (2, u64::MAX - 3), (2, 0x1_0000), (2, 0xfffd), (7, 0x1000), (3, 0), (0, 32 << 20)]
    {
        let mut raw = Raw::new(card.socket());
        assert!(raw.read(region, offset, 4).is_err(), "read of region {region} at {offset:#x}");
        raw.end();
        let mut raw = Raw::new(card.socket());
        assert!(raw.write(region, offset, &[0; 4]).is_err(), "write of region {region} at {offset:#x}");
        raw.end();
    }
}

/// EBUSY is 16. The card may wait briefly for the first client to leave.
#[test]
fn a_second_client_is_refused_and_the_first_continues() {
    let mut rig = Rig::new(synchronous());
    rig.write(0x2004, 0x5a);
    for _ in 0..3 {
        let start = Instant::now();
        let mut second = Raw::silent(rig.card.socket());
        assert_eq!(second.call(1, b"\0\0\x01\0{}\0"), Err(Refusal::Error(16)));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(second.call(9, &[0; 16]), Err(Refusal::Closed));
        assert_eq!(rig.read(0x2004), 0x5a);
    }
    rig.reconnect();
    assert_eq!(rig.read(0x2004), 0x5a);
}
