//! What the zstd codec reads and writes.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::codec(
    annals::Compression::Zstd,
    bytes
));
