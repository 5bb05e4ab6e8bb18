//! Tests of a log that is opened to be read while another process writes to it.

mod compacting;
mod interleaved;
