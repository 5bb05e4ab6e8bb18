//! Decodes checkpoint files with offsets or epochs.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::checkpoints(bytes));
