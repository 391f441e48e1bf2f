#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfio_setup::fuzz::sysfs(bytes));
