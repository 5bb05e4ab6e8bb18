//! Damages the files of a whole partition, opens it and reads it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::partition_dir(bytes));
