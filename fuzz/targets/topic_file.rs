//! Decodes topic files, index digests, `partition.metadata` and `meta.properties`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::text_files(bytes));
