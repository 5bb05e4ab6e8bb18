//! Decodes offset, time and transaction indexes.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::index_files(bytes));
