//! Checkpoint files, of offsets and of epochs.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::checkpoints(bytes));
