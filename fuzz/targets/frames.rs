//! Fuzzes frames of a lane.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dragon::fuzz::frames(bytes));
