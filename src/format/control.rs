//! Control records: transaction markers, and the records that a `KRaft` metadata log uses.
//!
//! A control batch normally contains one record, and consumers never see it.
//!
//! | key    | size | field                                                                      |
//! |--------|------|----------------------------------------------------------------------------|
//! | 0      | 2    | version, 0; greater versions are read like 0                               |
//! | 2      | 2    | type: 0 abort, 1 commit, 2 leader change, 3 and 4 snapshot header and      |
//! |        |      | footer, 5 `KRaft` version, 6 `KRaft` voters                                |
//!
//! | value  | size | field, in types 0 and 1                                                    |
//! |--------|------|----------------------------------------------------------------------------|
//! | 0      | 2    | version, 0; greater versions are read like 0, and may be longer            |
//! | 2      | 4    | coordinator epoch                                                          |
//!
//! Example: a commit at coordinator epoch 3 has the key `00 00 00 01` and the value
//! `00 00 00 00 00 03`.
//!
//! This file does not decode the values of the other types; `inspect` shows them.

use super::Malformed;
use super::batch::{BatchHeader, RecordCursor};

/// Returns the control record of a control batch. Returns `None` for a batch of data, a batch that
/// compaction emptied, and a malformed batch.
pub(crate) fn control_of(header: &BatchHeader, bytes: &[u8]) -> Option<ControlRecord> {
    if !header.is_control() || header.record_count == 0 {
        return None;
    }
    let raw = RecordCursor::new(header, bytes, None)
        .ok()?
        .next(header, bytes, None)?
        .ok()?;
    ControlRecord::decode(raw.key, raw.value).ok()
}

const VERSION: [u8; 2] = [0, 0];
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// A decoded control record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlRecord {
    /// The transaction of the batch's producer was aborted.
    Abort {
        /// The epoch of the transaction coordinator that wrote the marker.
        coordinator_epoch: i32,
    },
    /// The transaction of the batch's producer was committed.
    Commit {
        /// The epoch of the transaction coordinator that wrote the marker.
        coordinator_epoch: i32,
    },
    /// Types 2 to 6 and unknown types, which readers skip.
    Other(i16),
}

impl ControlRecord {
    /// Decodes the key and the value of a record in a control batch.
    pub(crate) fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Self, Malformed> {
        let key = key
            .and_then(<[u8]>::first_chunk::<4>)
            .ok_or(Malformed("control record without a whole key"))?;
        let [v0, v1, t0, t1] = *key;
        if i16::from_be_bytes([v0, v1]) < 0 {
            return Err(Malformed("negative version of a control record"));
        }
        match i16::from_be_bytes([t0, t1]) {
            ABORT => Ok(Self::Abort {
                coordinator_epoch: coordinator_epoch(value)?,
            }),
            COMMIT => Ok(Self::Commit {
                coordinator_epoch: coordinator_epoch(value)?,
            }),
            other => Ok(Self::Other(other)),
        }
    }

    /// Returns the key and the value of a transaction marker, or `None` for the other types, which
    /// we never write.
    pub(crate) fn encode(self) -> Option<([u8; 4], [u8; 6])> {
        let (kind, coordinator_epoch) = match self {
            Self::Abort { coordinator_epoch } => (ABORT, coordinator_epoch),
            Self::Commit { coordinator_epoch } => (COMMIT, coordinator_epoch),
            Self::Other(_) => return None,
        };
        let ([v0, v1], [t0, t1], [e0, e1, e2, e3]) =
            (VERSION, kind.to_be_bytes(), coordinator_epoch.to_be_bytes());
        Some(([v0, v1, t0, t1], [v0, v1, e0, e1, e2, e3]))
    }
}

fn coordinator_epoch(value: Option<&[u8]>) -> Result<i32, Malformed> {
    let value = value
        .and_then(<[u8]>::first_chunk::<6>)
        .ok_or(Malformed("transaction marker without a whole value"))?;
    let [v0, v1, epoch @ ..] = *value;
    if i16::from_be_bytes([v0, v1]) < 0 {
        return Err(Malformed("negative version of a transaction marker"));
    }
    Ok(i32::from_be_bytes(epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT_3: ([u8; 4], [u8; 6]) = ([0, 0, 0, 1], [0, 0, 0, 0, 0, 3]);
    const ABORT_3: ([u8; 4], [u8; 6]) = ([0, 0, 0, 0], [0, 0, 0, 0, 0, 3]);

    fn decode(key: &[u8], value: &[u8]) -> Result<ControlRecord, Malformed> {
        ControlRecord::decode(Some(key), Some(value))
    }

    #[test]
    fn transaction_markers_round_trip() {
        let commit = ControlRecord::Commit {
            coordinator_epoch: 3,
        };
        let abort = ControlRecord::Abort {
            coordinator_epoch: 3,
        };
        assert_eq!(decode(&COMMIT_3.0, &COMMIT_3.1), Ok(commit));
        assert_eq!(decode(&ABORT_3.0, &ABORT_3.1), Ok(abort));
        assert_eq!(commit.encode(), Some(COMMIT_3));
        assert_eq!(abort.encode(), Some(ABORT_3));
        assert_eq!(ControlRecord::Other(2).encode(), None);
        for coordinator_epoch in [i32::MIN, -1, 0, i32::MAX] {
            let commit = ControlRecord::Commit { coordinator_epoch };
            let (key, value) = commit.encode().unwrap();
            assert_eq!(decode(&key, &value), Ok(commit));
        }
    }

    #[test]
    fn higher_versions_and_longer_keys_and_values_are_accepted() {
        let commit = Ok(ControlRecord::Commit {
            coordinator_epoch: 3,
        });
        assert_eq!(decode(&[0, 1, 0, 1], &COMMIT_3.1), commit);
        assert_eq!(decode(&[0, 0, 0, 1, 9], &COMMIT_3.1), commit);
        assert_eq!(decode(&COMMIT_3.0, &[0, 1, 0, 0, 0, 3, 0]), commit);
    }

    #[test]
    fn other_types_are_recognized_whatever_their_value() {
        for (kind, key) in [
            (2, [0, 0, 0, 2]),
            (6, [0, 0, 0, 6]),
            (7, [0, 0, 0, 7]),
            (-1, [0, 0, 255, 255]),
        ] {
            assert_eq!(decode(&key, b""), Ok(ControlRecord::Other(kind)));
            assert_eq!(
                ControlRecord::decode(Some(&key), None),
                Ok(ControlRecord::Other(kind))
            );
        }
    }

    #[test]
    fn cut_markers_and_negative_versions_are_refused() {
        assert!(ControlRecord::decode(None, Some(&COMMIT_3.1)).is_err());
        assert!(ControlRecord::decode(Some(&COMMIT_3.0), None).is_err());
        for end in 0..4 {
            assert!(
                decode(&COMMIT_3.0[..end], &COMMIT_3.1).is_err(),
                "key of {end}"
            );
        }
        for end in 0..6 {
            assert!(
                decode(&COMMIT_3.0, &COMMIT_3.1[..end]).is_err(),
                "value of {end}"
            );
        }
        assert!(decode(&[255, 255, 0, 1], &COMMIT_3.1).is_err());
        assert!(decode(&COMMIT_3.0, &[255, 255, 0, 0, 0, 3]).is_err());
    }
}
