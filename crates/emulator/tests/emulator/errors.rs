//! Errors, and how the registers report them.

use crate::host::{Bench, Desc, List, chain};
use xdma_emulator::{DmaFaultReason, EmulatorOptions, Purpose, Switches};

const ALL: u32 = 0x04ff_fe7f;
/// The value that `xdma.ko` writes in poll mode, without the `ie` bits for writes.
const KERNEL: u32 = 0x04f8_3e19;

fn bench() -> Bench {
    Bench::new(EmulatorOptions::default())
}

/// Builds a list of consecutive descriptors with these flags, without adjacency.
fn list(descriptors: &[(Desc, u32)]) -> List {
    let base = 0x1000;
    let each =
        descriptors.iter().zip(1..).map(|(&(desc, flags), next)| desc.bytes(flags, 0, base + 32 * next));
    List { base, bytes: each.flatten().collect(), adjacent: 0 }
}

fn good() -> Desc {
    Desc::h2c(0x8000, 0, 64)
}

/// Runs a list on H2C 0 until it stops, and returns status and count.
fn run(bench: &mut Bench, list: &List, control: u32) -> (u32, u32) {
    bench.start(0, list, control);
    bench.wait_register(0x40, 1, 0);
    (bench.read(0x40), bench.read(0x48))
}

#[test]
fn a_bad_magic_number_stops() {
    let mut bench = bench();
    let mut bad = list(&[(good(), 2), (good(), 3)]);
    bad.bytes[32 + 2] ^= 1;
    assert_eq!(run(&mut bench, &bad, ALL), (0x14, 1));
    assert_eq!(bench.wait_word(0x100, 1), 1);
    bench.clean();
}

#[test]
fn a_refused_fetch_sets_the_bits_seen_on_hardware() {
    let mut bench = bench();
    let mut lost = list(&[(good(), 2)]);
    lost.bytes[24..].copy_from_slice(&0x7000_0000u64.to_le_bytes());
    assert_eq!(run(&mut bench, &lost, ALL), (0x8_0014, 1));
    assert_eq!(bench.wait_word(0x100, 1), 1, "no write-back of an error");
    let fault = bench.card.dma_faults()[0];
    assert_eq!((fault.iova, fault.write), (0x7000_0000, false));
    assert_eq!((fault.purpose, fault.reason), (Purpose::Fetch, DmaFaultReason::Unmapped));
}

#[test]
fn a_refused_read_of_payload_stops() {
    let mut bench = bench();
    let lost = Desc::h2c(0x7000_0000, 0, 64);
    assert_eq!(run(&mut bench, &list(&[(good(), 0), (lost, 3)]), ALL), (0x200, 1));
    assert_eq!(bench.card.dma_faults().len(), 1);
}

#[test]
fn a_refused_write_of_payload_is_silent() {
    let mut bench = bench();
    bench.start(0x1000, &list(&[(Desc::c2h(0, 0x7000_0000, 5000), 3)]), 0x04f8_3e7f);
    assert_eq!(bench.wait_word(0x140, 1), 1);
    assert_eq!(bench.read(0x1040), 0x6);
    let faults = bench.card.dma_faults();
    assert!(faults.iter().all(|fault| fault.write && fault.purpose == Purpose::Payload));
    assert_eq!(faults.len(), 2);
}

#[test]
fn a_refused_write_back_is_silent() {
    let mut bench = bench();
    bench.write(0x8c, 1);
    let list = list(&[(good(), 3)]);
    bench.put(list.base, &list.bytes);
    bench.write(0x4080, 0x1000);
    bench.write(0x04, ALL);
    bench.wait_register(0x40, 1, 0);
    assert_eq!((bench.read(0x40), bench.read(0x48)), (0x6, 1));
    assert_eq!(bench.card.dma_faults()[0].purpose, Purpose::WriteBack);
}

#[test]
fn axi_errors_are_logged_if_enabled() {
    let mut bench = bench();
    let nowhere = Desc::h2c(0x8000, 64 << 30, 64);
    assert_eq!(run(&mut bench, &list(&[(good(), 0), (nowhere, 0), (good(), 3)]), ALL), (0x4000, 1));
    let unseen = list(&[(good(), 0), (nowhere, 0), (good(), 3)]);
    assert_eq!(run(&mut bench, &unseen, KERNEL), (0, 3));
    assert_eq!(bench.wait_word(0x100, 3), 3);
    bench.start(0x1000, &list(&[(Desc::c2h(64 << 30, 0x8000, 64), 3)]), 0x04f8_3e7f);
    bench.wait_register(0x1040, 0xffff_ffff, 0x200);
    bench.clean();
}

#[test]
fn a_new_run_clears_the_status() {
    let mut bench = bench();
    let lost = Desc::h2c(0x7000_0000, 0, 64);
    run(&mut bench, &list(&[(lost, 3)]), ALL);
    assert_eq!(run(&mut bench, &list(&[(good(), 3)]), ALL), (0x6, 1));
    bench.write(0x40, 0x2);
    assert_eq!(bench.read(0x40), 0x4);
}

#[test]
fn rule_violations_are_recorded() {
    let mut bench = bench();
    let mut odd = list(&[(Desc::h2c(0x8000, 0, 0), 0), (good(), 0x83)]);
    odd.bytes[8 - 1] = 0x10;
    run(&mut bench, &odd, ALL);
    assert_eq!(
        bench.violations(),
        [
            "reserved bits set in a descriptor at 0x1000 (H2C 0)",
            "descriptor of length 0 at 0x1000 (H2C 0)",
            "reserved bits set in a descriptor at 0x1020 (H2C 0)",
        ]
    );
    let mut unaligned = list(&[(good(), 3)]);
    unaligned.base = 0x1010;
    assert_eq!(run(&mut bench, &unaligned, ALL), (0x6, 1));
    assert_eq!(bench.violations()[3], "descriptor not aligned to 32 bytes at 0x1010 (H2C 0)");
}

#[test]
fn a_block_that_crosses_a_page_reads_the_wrong_memory() {
    let switches = Switches { aligned_fetch: false.into(), ..Switches::default() };
    let mut bench = Bench::new(EmulatorOptions::default().with_switches(switches));
    let mut crossing = chain(0x1000, &[good(); 40]);
    crossing.base = 0x1e00;
    let (status, count) = run(&mut bench, &crossing, ALL);
    assert_eq!(status & 0x10, 0x10);
    assert!(count < 40);
    assert!(bench.violations()[0].starts_with("block of adjacent descriptors crosses 4 KiB"));
}

#[test]
fn stop_inside_a_block_ends_the_list_and_is_recorded() {
    let mut bench = bench();
    let mut early = chain(0x1000, &[good(); 4]);
    early.bytes[32] = 0x3;
    assert_eq!(run(&mut bench, &early, ALL), (0x6, 2));
}

#[test]
fn narrow_accesses_are_recorded_and_have_byte_enables() {
    let mut bench = bench();
    let mut byte = [0];
    bench.client.region_read(2, 0x0, &mut byte).unwrap();
    bench.client.region_write(2, 0x90, &[0xff, 0xff]).unwrap();
    assert_eq!((byte, bench.read(0x90)), ([0x06], 0xfe7e));
    assert_eq!(bench.violations().len(), 2);
    bench.client.region_write(2, 0x8010, &[1, 0, 0, 0, 2, 0, 0, 0]).unwrap();
    assert_eq!((bench.read(0x8010), bench.read(0x8014)), (1, 2));
    assert_eq!(bench.violations().len(), 2);
}

#[test]
fn without_bus_mastering_nothing_moves() {
    let mut bench = bench();
    bench.set_bus_master(false);
    bench.start(0, &list(&[(good(), 3)]), ALL);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!((bench.read(0x40), bench.word(0x100)), (1, 0));
    assert_eq!(bench.violations(), ["descriptor fetch with bus mastering off at 0x1000 (H2C 0)"]);
    bench.set_bus_master(true);
    assert_eq!(bench.wait_word(0x100, 1), 1);
    bench.set_bus_master(false);
    bench.start(0, &list(&[(good(), 3)]), ALL);
    bench.write(0x0c, 1);
    bench.wait_register(0x40, 0x41, 0x40);
}

#[test]
fn writing_the_start_address_of_a_running_channel_breaks_a_rule() {
    let mut bench = bench();
    bench.write(0x6014, 1);
    bench.start(0, &list(&[(good(), 3)]), ALL);
    bench.write(0x4080, 0x1000);
    bench.write(0x0c, 1);
    bench.wait_register(0x40, 0x41, 0x40);
    bench.write(0x4080, 0x1000);
    assert_eq!(
        bench.violations(),
        ["first descriptor address written while the channel runs at 0x4080 (H2C 0)"]
    );
}
