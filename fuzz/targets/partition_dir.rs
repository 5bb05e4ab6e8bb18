//! The files of a whole partition, damaged.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::partition_dir(bytes));
