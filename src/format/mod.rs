//! Bytes on disk, as values and back: pure, big-endian, without I/O.
//!
//! Nothing here knows files or takes memory on the word of a length field. Every decoder answers
//! malformed bytes with a [`Malformed`] and never panics.

use std::fmt;

pub(crate) mod batch;
pub(crate) mod checkpoint;
pub(crate) mod checksum;
pub(crate) mod compression;
pub(crate) mod control;
pub(crate) mod file_name;
pub(crate) mod index_entry;
pub(crate) mod kraft_control;
pub(crate) mod metadata_file;
pub(crate) mod offset_commit;
pub(crate) mod producer_snapshot;
pub(crate) mod record;
pub(crate) mod varint;

/// What is wrong with some bytes. The floors above add the file and the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::Malformed;

    #[test]
    fn what_is_wrong_is_told_in_words() {
        assert_eq!(
            Malformed("the header is cut short").to_string(),
            "the header is cut short"
        );
    }
}
