//! Each fault that the emulated card can cause, against what `docs/faults.md` promises: the outcome, the way back, and right data after.

mod axi;
mod card;
mod engine;
mod interrupt;
mod msm;
mod plan;
mod registers;
mod rig;
mod write_back;

use xdma::channel::Ring;
use xdma_emulator::faults::Kind;

/// A test for each fault, on both rings.
macro_rules! rows {
    ($($kind:ident: $module:ident :: $test:ident),* $(,)?) => {
        const TESTED: &[&str] = &[$(stringify!($kind)),*];
        $(
            #[test]
            fn $test() {
                for ring in [Ring::Chain, Ring::Credits] {
                    $module::$test(ring);
                }
            }
        )*
    };
}

rows! {
    BadMagic: engine::a_descriptor_without_magic,
    Fetch: engine::a_fetch_that_ends_badly,
    HostRead: engine::a_read_of_the_host_that_ends_badly,
    HostWriteDropped: engine::a_write_to_the_host_that_vanishes,
    WriteBackDropped: write_back::one_that_is_lost,
    WriteBackDelayed: write_back::one_that_is_late,
    WriteBackRepeated: write_back::one_that_comes_again,
    WriteBackEarly: write_back::one_that_is_early,
    InterruptLost: interrupt::an_interrupt_that_is_lost,
    InterruptRepeated: interrupt::an_interrupt_that_comes_twice,
    InterruptLate: interrupt::an_interrupt_that_is_late,
    AxiSlaveError: axi::a_slave_that_refuses,
    AxiDecodeError: axi::an_address_that_nobody_has,
    AxiHang: axi::a_slave_that_hangs,
    AxiWriteLost: axi::a_burst_that_is_lost,
    BusyStuck: registers::busy_that_stays,
    StatusStuck: registers::status_bits_that_stay,
    CountJump: registers::a_count_that_jumps,
    AllOnes: registers::registers_that_read_all_ones,
    ResetIneffective: card::a_reset_that_does_nothing,
    ResetClears: card::a_reset_that_clears_memory,
    LinkDown: card::a_link_that_goes_down,
    LinkUp: card::a_link_that_comes_back,
    ProcessGone: card::a_process_that_is_gone,
}

/// No fault is without a row of the documentation and a test.
#[test]
fn each_fault_has_its_row_and_its_test() {
    let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(TESTED, names);
    let rows = include_str!("../../docs/faults.md").lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<_> = rows.map(|row| (row.split('`').next().unwrap(), row.matches(" | ").count())).collect();
    assert_eq!(rows, names.iter().map(|&name| (name, 5)).collect::<Vec<_>>());
}
