//! Topic files, index digests, `partition.metadata`, `meta.properties`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::text_files(bytes));
