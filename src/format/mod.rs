//! Encoders and decoders of everything that is stored on disk. They do no I/O.
//!
//! - Numbers are big-endian, except inside some compressed streams.
//! - A decoder returns [`Malformed`] for malformed bytes, and never panics.
//! - A decoder never allocates memory because a length field asks for it.

use std::fmt;

pub(crate) mod batch;
pub(crate) mod checkpoint;
pub(crate) mod checksum;
pub(crate) mod compression;
pub(crate) mod control;
pub(crate) mod fields;
pub(crate) mod file_name;
pub(crate) mod fixed;
pub(crate) mod index_entry;
pub(crate) mod metadata_file;
pub(crate) mod offset_commit;
pub(crate) mod producer_snapshot;
pub(crate) mod record;
pub(crate) mod transaction_state;
pub(crate) mod varint;

/// The reason why bytes could not be decoded. Callers add the file and the position.
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
    fn malformed_displays_its_reason() {
        assert_eq!(
            Malformed("the header is cut short").to_string(),
            "the header is cut short"
        );
    }
}
