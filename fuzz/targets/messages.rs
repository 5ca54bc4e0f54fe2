//! Fuzzes messages of ranks that meet.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dragon::fuzz::messages(bytes));
