//! Runs operations on a partition and compares it with a model.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::operations(bytes));
