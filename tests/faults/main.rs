//! Each fault that the emulated card can inject: the driver behaves as described in `docs/faults.md`, recovers, and moves correct
//! data afterwards.

mod axi;
mod card;
mod engine;
mod interrupt;
mod msm;
mod plan;
mod registers;
mod rig;
mod stops;
mod write_back;

use xdma::channel::Ring;
use xdma_emulator::faults::Kind;

/// Defines a test for each fault, on both rings.
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
    Fetch: engine::a_failed_descriptor_fetch,
    HostRead: engine::a_failed_host_read,
    HostWriteDropped: engine::a_dropped_host_write,
    WriteBackDropped: write_back::a_lost_write_back,
    WriteBackDelayed: write_back::a_late_write_back,
    WriteBackRepeated: write_back::a_repeated_write_back,
    WriteBackEarly: write_back::an_early_write_back,
    InterruptLost: interrupt::a_lost_interrupt,
    InterruptRepeated: interrupt::a_repeated_interrupt,
    InterruptLate: interrupt::a_late_interrupt,
    AxiSlaveError: axi::an_axi_slave_error,
    AxiDecodeError: axi::an_axi_decode_error,
    AxiHang: axi::an_axi_hang,
    AxiWriteLost: axi::a_lost_axi_write,
    BusyStuck: registers::a_stuck_busy_bit,
    StatusStuck: registers::stuck_status_bits,
    CountJump: registers::a_jumping_count,
    AllOnes: registers::registers_that_read_all_ones,
    ResetIneffective: card::an_ineffective_reset,
    ResetClears: card::a_reset_that_clears_memory,
    LinkDown: card::a_link_that_goes_down,
    LinkUp: card::a_link_that_comes_back,
    ProcessGone: card::a_process_that_has_ended,
}

#[test]
fn each_fault_has_a_test_and_a_row_in_the_documentation() {
    let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(TESTED, names);
    let rows = include_str!("../../docs/faults.md").lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<_> = rows.map(|row| (row.split('`').next().unwrap(), row.matches(" | ").count())).collect();
    assert_eq!(rows, names.iter().map(|&name| (name, 5)).collect::<Vec<_>>());
}
