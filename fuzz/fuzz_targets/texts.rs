#![no_main]

#[path = "../../crates/cli/src/number.rs"]
#[expect(dead_code, reason = "only the tool uses the rest of the module")]
mod number;
#[path = "../texts.rs"]
mod texts;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| texts::texts(bytes));
