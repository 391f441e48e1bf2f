#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| xdma_emulator::fuzz::config(bytes));
