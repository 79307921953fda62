#![no_main]

#[allow(dead_code)]
#[path = "../../tests/balancer/robustness/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::configuration(bytes));
