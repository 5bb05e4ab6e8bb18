//! What the protocols between threads are made of: locks, conditions, atomics.
//!
//! The files that hold such a protocol take them from here and import nothing else, so that
//! `tests/models` can put a model checker's in their place and walk through every order in which
//! threads may meet.

pub(crate) use parking_lot::{Condvar, Mutex};
pub(crate) use std::sync::atomic;

/// How long it may be worth to spin before a thread sleeps: about what it takes to be woken again.
pub(crate) const SPIN: std::time::Duration = std::time::Duration::from_micros(50);
