//! The identity that all batches of a partition share, and the error for bytes that cannot be read.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Corruption, Error, OversizedBatch};
use crate::format::{Malformed, compression, file_name};
use crate::topic_partition::TopicPartition;

/// The partition that a batch comes from; shared by all its batches.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) id: TopicPartition,
    pub(crate) dir: Arc<Path>,
    /// Most bytes that one batch may decompress to.
    pub(crate) max_decompressed_bytes: usize,
}

impl Origin {
    /// Returns the error for bytes of a segment that cannot be read. A reader that continues skips
    /// the offsets up to `offsets.end`.
    ///
    /// A batch that passed its checksum may be intact all the same: its codec is not in this build,
    /// or it exceeds the limit of this log.
    pub(crate) fn corrupt(
        &self,
        base_offset: u64,
        position: u32,
        offsets: Range<u64>,
        reason: Malformed,
    ) -> Error {
        let path = self
            .dir
            .join(file_name::segment_file(base_offset, file_name::LOG));
        if compression::is_left_out(reason) {
            return Error::Unsupported {
                path,
                what: reason.0,
            };
        }
        let partition = self.id.clone();
        if compression::is_over_limit(reason) {
            let limit = self.max_decompressed_bytes as u64;
            return Error::BatchTooLarge(Box::new(OversizedBatch {
                partition,
                path,
                position,
                offsets,
                limit,
            }));
        }
        Error::Corrupt(Box::new(Corruption {
            partition,
            path,
            position,
            offsets,
            reason: reason.0.to_owned(),
        }))
    }
}
