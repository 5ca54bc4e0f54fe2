//! Fuzzes what a PMI-1 process manager says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dragon::fuzz::pmi(bytes));
