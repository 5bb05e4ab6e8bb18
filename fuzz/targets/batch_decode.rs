//! Decodes the content of a `.log`: frames, headers and records.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::batches(bytes));
