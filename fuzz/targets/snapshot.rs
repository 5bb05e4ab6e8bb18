//! Decodes producer snapshots.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::snapshot(bytes));
