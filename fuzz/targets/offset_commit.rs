//! Decodes keys and values of `__consumer_offsets`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::offset_commits(bytes));
