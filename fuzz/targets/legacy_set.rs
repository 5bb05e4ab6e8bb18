//! Decodes message sets of formats v0 and v1, plain and compressed.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::legacy_sets(bytes));
