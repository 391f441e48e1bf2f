//! Interrupts, in the way that drivers use them.

use crate::host::{Bench, Desc, chain};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use xdma_emulator::EmulatorOptions;
use xdma_emulator::logic::Memory;

/// VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER.
const EVENTFD_TRIGGER: u32 = 0x24;
const MSI_X: u32 = 2;

/// Returns a card with as many vectors as `xdma.ko` uses, and with its vector registers programmed in the same way.
fn bench() -> (Bench, Vec<EventFd>) {
    let mut bench = Bench::new(EmulatorOptions::default());
    let eventfds: Vec<_> = (0..24).map(|_| EventFd::new(EFD_NONBLOCK).unwrap()).collect();
    for (start, fds) in (0..).step_by(8).zip(eventfds.chunks(8)) {
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        bench.client.set_irqs(MSI_X, EVENTFD_TRIGGER, start, 8, &fds).unwrap();
    }
    for (address, value) in [
        (0x20a0, 0x0302_0100),
        (0x20a4, 0x0706_0504),
        (0x2080, 0x0b0a_0908),
        (0x2084, 0x0f0e_0d0c),
        (0x2088, 0x1312_1110),
        (0x208c, 0x1716_1514),
        (0x2014, 0xff),
    ] {
        bench.write(address, value);
    }
    (bench, eventfds)
}

fn fires(eventfd: &EventFd) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if eventfd.read().is_ok() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

fn silent(eventfds: &[EventFd]) -> bool {
    std::thread::sleep(Duration::from_millis(5));
    eventfds.iter().all(|eventfd| eventfd.read().is_err())
}

#[test]
fn completion_fires_the_channels_vector() {
    let (mut bench, eventfds) = bench();
    bench.write(0x1290, 0x0000_001e);
    bench.start(0x1200, &chain(0x1000, &[Desc::c2h(0, 0x8000, 64)]), 0x00f8_3e1f);
    assert!(fires(&eventfds[6]));
    assert!(silent(&eventfds));
    assert_eq!(bench.read(0x2044), 1 << 6);
    assert_eq!(bench.read(0x204c), 1 << 6);
    assert_eq!(bench.read(0x1244), 0x6);
    assert_eq!(bench.read(0x204c), 0);
    assert_eq!(bench.read(0x3014), 2);
    bench.clean();
}

/// The service routine of `xdma.ko` (`libxdma.c`, `xdma_channel_irq` and `engine_service_work`).
#[test]
fn rearming_like_the_kernel_driver_loses_no_interrupt() {
    let (mut bench, eventfds) = bench();
    let list = chain(0x1000, &[Desc::h2c(0x8000, 0, 64)]);
    const MASK: u32 = 0x00f8_3e1e;
    bench.write(0x90, MASK);
    bench.start(0, &list, 0x00f8_3e1f);
    for run in 0..20 {
        assert!(fires(&eventfds[0]), "run {run}");
        bench.write(0x98, MASK);
        assert_eq!(bench.read(0x204c), 0, "the source falls with its mask");
        assert_eq!(bench.read(0x44), 0x6);
        bench.write(0x04, 0x00f8_3e1e);
        assert_eq!(bench.read(0x48), 1);
        bench.write(0x04, 0x00f8_3e1f);
        if run % 2 == 0 {
            // The next run finishes before the interrupt is unmasked again.
            bench.wait_register(0x40, 0x7, 0x6);
        }
        bench.write(0x94, MASK);
    }
    assert!(fires(&eventfds[0]));
    assert!(silent(&eventfds));
    bench.clean();
}

#[test]
fn user_lines_fire_by_level_and_mask() {
    let (mut bench, eventfds) = bench();
    let drive = |bench: &mut Bench, levels: u32| {
        bench.client.region_write(0, 0xd00, &levels.to_le_bytes()).unwrap();
    };
    drive(&mut bench, 0x8001);
    assert_eq!((bench.read(0x2048), bench.read(0x2040)), (0x8001, 0));
    bench.write(0x2008, 0xffff);
    assert!(fires(&eventfds[8]) && fires(&eventfds[23]));
    assert!(silent(&eventfds));
    bench.write(0x200c, 1);
    bench.write(0x2008, 1);
    assert!(fires(&eventfds[8]), "the line is still high");
    drive(&mut bench, 0);
    assert_eq!(bench.read(0x2048), 0);
    drive(&mut bench, 2);
    assert!(fires(&eventfds[9]));
}

/// A line left high by the previous image could not produce a rising edge.
#[test]
fn a_loaded_image_starts_with_low_lines() {
    let (mut bench, eventfds) = bench();
    bench.client.region_write(0, 0xd00, &[1, 0, 0, 0]).unwrap();
    assert_eq!(bench.read(0x2048), 1);
    bench.card.load(EmulatorOptions::default(), Arc::new(Memory::new())).unwrap();
    assert_eq!(bench.read(0x2048), 0);
    bench.write(0x2080, 0x0b0a_0908);
    bench.write(0x2008, 1);
    assert!(silent(&eventfds));
    bench.client.region_write(0, 0xd00, &[1, 0, 0, 0]).unwrap();
    assert!(fires(&eventfds[8]));
}

#[test]
fn vectors_wait_while_masked_or_without_bus_mastering() {
    let (mut bench, eventfds) = bench();
    bench.write(0x2008, 3);
    bench.write(0x800c + 8 * 16, 1);
    bench.client.region_write(0, 0xd00, &[1, 0, 0, 0]).unwrap();
    assert!(silent(&eventfds));
    assert_eq!(bench.read(0x8fe0), 1 << 8);
    bench.write(0x800c + 8 * 16, 0);
    assert!(fires(&eventfds[8]));
    bench.set_bus_master(false);
    bench.client.region_write(0, 0xd00, &[2, 0, 0, 0]).unwrap();
    assert!(silent(&eventfds));
    bench.set_bus_master(true);
    assert!(fires(&eventfds[9]));
    // The function mask of MSI-X.
    bench.client.region_write(7, 0x63, &[0x40]).unwrap();
    bench.client.region_write(0, 0xd00, &[3, 0, 0, 0]).unwrap();
    assert!(silent(&eventfds));
    bench.client.region_write(7, 0x63, &[0x80]).unwrap();
    assert!(fires(&eventfds[8]));
}

#[test]
fn the_legacy_line_and_msi_work_too() {
    let mut bench = Bench::new(EmulatorOptions::default());
    let (line, msi) = (EventFd::new(EFD_NONBLOCK).unwrap(), EventFd::new(EFD_NONBLOCK).unwrap());
    bench.client.set_irqs(0, EVENTFD_TRIGGER, 0, 1, &[line.as_raw_fd()]).unwrap();
    bench.write(0x2008, 1);
    bench.client.region_write(0, 0xd00, &[1, 0, 0, 0]).unwrap();
    assert!(fires(&line));
    assert_eq!(bench.config(4) >> 16 & 8, 8, "interrupt status");
    // Unmasking fires again while the interrupt is asserted.
    bench.client.set_irqs(0, 0x11, 0, 1, &[]).unwrap();
    assert!(fires(&line));
    bench.client.region_write(0, 0xd00, &[0, 0, 0, 0]).unwrap();
    bench.client.set_irqs(1, EVENTFD_TRIGGER, 0, 1, &[msi.as_raw_fd()]).unwrap();
    bench.client.region_write(0, 0xd00, &[1, 0, 0, 0]).unwrap();
    assert!(fires(&msi) && line.read().is_err());
    assert_eq!(bench.read(0x3014), 1);
}
