//! Tests of a read-only log while another process writes.

mod compacting;
mod interleaved;
