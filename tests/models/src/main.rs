//! Runs protocols of the crate in every possible order of their threads, including weak memory
//! effects. The source files are those of the crate; the locks and atomics are a model checker's. A
//! run fails if a thread would sleep for ever or miss a value that it must see.
//!
//! `cargo run --manifest-path tests/models/Cargo.toml`

#![allow(dead_code, reason = "a model uses only a part of each file")]

#[path = "../../../src/clock/mod.rs"]
mod clock;
mod lock;
mod partition;
mod sync;
mod transaction;

fn main() {
    lock::check();
    partition::check();
    transaction::check();
}
