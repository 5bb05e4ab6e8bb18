//! The content of a `.log`: frames, headers, records.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::batches(bytes));
