//! Tests of reading and looking up.

pub(super) mod aborted;
mod last;
pub(super) mod looking_up;
mod misled;
mod overtaken;
mod pointing;
pub(super) mod reading;
pub(super) mod times;
