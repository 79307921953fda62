#![no_main]

#[allow(dead_code)]
#[path = "../../journal/tests/robustness/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::segments(bytes));
