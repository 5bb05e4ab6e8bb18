//! Decompresses and compresses with the lz4 codec.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::codec(annals::Compression::Lz4, bytes));
