//! The primitives from which the protocols between threads are built: locks, conditions, atomics.
//!
//! Files with such a protocol import the primitives from here and no others. `tests/models`
//! replaces this module with that of a model checker, which runs the protocol in every possible
//! order of threads.

pub(crate) use parking_lot::{Condvar, Mutex};
pub(crate) use std::sync::atomic;

/// How long a thread may spin before it sleeps: about the time that it takes to be woken again.
pub(crate) const SPIN: std::time::Duration = std::time::Duration::from_micros(50);
