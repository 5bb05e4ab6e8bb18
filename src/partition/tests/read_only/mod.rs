//! Tests of a read-only partition next to a writer.

pub(super) mod beside;
mod bounds;
