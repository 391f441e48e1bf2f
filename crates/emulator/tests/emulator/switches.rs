//! Every setting of the behaviour switches.

use crate::host::{Bench, Desc, chain};
use xdma_emulator::{EmulatorOptions, Switches};

fn bench(switches: Switches) -> Bench {
    Bench::new(EmulatorOptions::default().with_switches(switches))
}

fn default() -> Switches {
    Switches::default()
}

#[test]
fn credits_of_memory_mapped_channels() {
    let mut bench = Bench::new(EmulatorOptions::default().with_credits(false));
    bench.write(0x6024, 1);
    bench.write(0x408c, 7);
    assert_eq!(bench.read(0x408c), 0);
    bench.start(0, &chain(0x1000, &[Desc::h2c(0x8000, 0, 64)]), 0x0400_0001);
    assert_eq!(bench.wait_word(0x100, 1), 1, "fetch is not held back");
    bench.clean();
}

#[test]
fn busy_while_out_of_credits() {
    for busy in [false, true] {
        let mut bench = bench(Switches { busy_without_credits: busy.into(), ..default() });
        bench.write(0x6024, 1);
        bench.start(0, &chain(0x1000, &[Desc::h2c(0x8000, 0, 64); 3]), 0x0400_0041);
        assert_eq!(bench.read(0x40), u32::from(busy));
        bench.write(0x408c, 2);
        bench.wait_register(0x48, 0xff, 2);
        bench.wait_register(0x40, 0xff, u32::from(busy));
        bench.write(0x0c, 1);
        bench.wait_register(0x40, 0xff, 0x40);
        bench.clean();
    }
}

#[test]
fn busy_outlasts_the_write_back() {
    let mut bench = bench(Switches { busy_lag_us: 50_000.into(), ..default() });
    bench.start(0, &chain(0x1000, &[Desc::h2c(0x8000, 0, 64)]), 0x0400_0007);
    assert_eq!(bench.wait_word(0x100, 1), 1);
    assert_eq!(bench.read(0x40), 0x7);
    bench.wait_register(0x40, 0x7, 0x6);
    bench.clean();
    bench.start(0, &chain(0x1000, &[Desc::h2c(0x8000, 0, 64)]), 0x0400_0007);
    assert_eq!(bench.wait_word(0x100, 1), 1);
    bench.write(0x04, 0);
    bench.write(0x04, 0x0400_0007);
    assert_eq!(bench.violations(), ["Run set while the channel is busy at 0x4 (H2C 0)"]);
}

#[test]
fn run_after_stop() {
    for stop_clears_run in [false, true] {
        let mut bench = bench(Switches { stop_clears_run: stop_clears_run.into(), ..default() });
        bench.start(0, &chain(0x1000, &[Desc::h2c(0x8000, 0, 64)]), 0x0400_0001);
        assert_eq!(bench.wait_word(0x100, 1), 1);
        assert_eq!(bench.read(0x04) & 1, u32::from(!stop_clears_run));
    }
}

#[test]
fn errors_that_are_not_logged() {
    let descriptors = [Desc::h2c(0x8000, 64 << 30, 64), Desc::h2c(0x8000, 0, 64)];
    for (unlogged_errors_stop, count) in [(false, 2), (true, 0)] {
        let mut bench = bench(Switches { unlogged_errors_stop: unlogged_errors_stop.into(), ..default() });
        bench.start(0, &chain(0x1000, &descriptors), 0x0400_0001);
        bench.wait_register(0x40, 0x1, 0);
        assert_eq!((bench.read(0x40), bench.read(0x48)), (0, count));
        bench.clean();
    }
}

#[test]
fn errors_written_back() {
    let descriptors = [Desc::h2c(0x8000, 0, 64), Desc::h2c(0x8000, 64 << 30, 64)];
    for (error_write_back, word) in [(false, 0), (true, 0x8000_0001)] {
        let mut bench = bench(Switches { error_write_back: error_write_back.into(), ..default() });
        bench.start(0, &chain(0x1000, &descriptors), 0x04ff_fe7f);
        bench.wait_register(0x40, 0x1, 0);
        assert_eq!(bench.wait_word(0x100, word), word);
    }
}

/// The F1 kernel driver continues its adjacent count across the page boundary (AWS SDK, `xdma_desc_adjacent`).
#[test]
fn blocks_across_pages_followed() {
    let mut bench = bench(Switches { aligned_fetch: true.into(), ..default() });
    let mut list = chain(0x1000, &[Desc::h2c(0x8000, 0, 64); 200]);
    for (k, descriptor) in list.bytes.chunks_mut(32).enumerate() {
        descriptor[1] = if k == 199 { 0 } else { (200 - k - 2).min(63) as u8 };
    }
    bench.start(0, &list, 0x0400_0001);
    assert_eq!(bench.wait_word(0x100, 200), 200);
    assert!(bench.violations().iter().all(|text| text.starts_with("block of adjacent")));
}
