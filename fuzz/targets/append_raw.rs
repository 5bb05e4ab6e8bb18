//! Appends bytes to partitions as batches.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::append_raw(bytes));
