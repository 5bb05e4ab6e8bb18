//! Decompresses and compresses with the snappy codec.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::codec(
    annals::Compression::Snappy,
    bytes
));
