//! Decodes keys and values of `__transaction_state`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals::fuzzing::transaction_states(bytes));
