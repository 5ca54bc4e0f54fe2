//! Fuzzes the environment of a launcher.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dragon::fuzz::environment(bytes));
