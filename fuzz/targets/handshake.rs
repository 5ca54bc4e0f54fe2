//! Fuzzes records of a lane's handshake.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dragon::fuzz::handshake(bytes));
