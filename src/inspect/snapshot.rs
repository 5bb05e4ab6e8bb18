//! Dumps a `.snapshot`: the state of a partition's producers.

use std::fmt;
use std::io::ErrorKind;

use super::{Dump, Fault};
use crate::error::{Error, Result};
use crate::format::producer_snapshot::{self, ProducerEntry};
use crate::storage;

/// Limit for the size of a snapshot, enough for some millions of producers.
const MAX_BYTES: u64 = 256 << 20;

impl Dump<'_> {
    pub(super) fn producer_snapshot(&mut self) -> Result<()> {
        let bytes = match storage::read_file(self.storage, &self.path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return self.invalid_snapshot(error.to_string());
            }
            Err(error) => return Err(Error::io("read", &self.path, error)),
        };
        let fault = match producer_snapshot::decode_or_fault(&bytes) {
            Ok(entries) => return entries.iter().try_for_each(|entry| self.producer(entry)),
            Err(fault) => fault,
        };
        self.invalid_snapshot(match fault {
            producer_snapshot::Fault::Checksum { stored, computed } => {
                format!("Snapshot is corrupt (CRC is no longer valid). Stored crc: {stored}. Computed crc: {computed}")
            }
            producer_snapshot::Fault::Version(version) => {
                format!("Snapshot failed schema validation: Snapshot contained an unknown file version {version}")
            }
            producer_snapshot::Fault::CutShort => "Snapshot failed schema validation: null".to_owned(),
            producer_snapshot::Fault::LeftOver => {
                "Snapshot failed schema validation: bytes follow the last entry".to_owned()
            }
        })
    }

    fn invalid_snapshot(&mut self, reason: String) -> Result<()> {
        self.problem(format_args!("{reason}"))?;
        self.found(Fault::InvalidSnapshot { reason });
        Ok(())
    }

    fn producer(&mut self, entry: &ProducerEntry) -> Result<()> {
        let ProducerEntry {
            producer_id,
            producer_epoch,
            coordinator_epoch,
            timestamp,
            last_sequence,
            last_offset,
            ..
        } = entry;
        self.print(format_args!(
            "producerId: {producer_id} producerEpoch: {producer_epoch} coordinatorEpoch: {coordinator_epoch} \
             currentTxnFirstOffset: {} lastTimestamp: {timestamp}",
            optional_long(entry.current_transaction_first_offset),
        ))?;
        if *last_offset >= 0 {
            let offset_delta = entry.offset_delta;
            self.print(format_args!(
                " firstSequence: {} lastSequence: {last_sequence} lastOffset: {last_offset} offsetDelta: {offset_delta} \
                 timestamp: {timestamp}",
                first_sequence(*last_sequence, offset_delta),
            ))?;
        }
        self.line(format_args!(""))
    }
}

/// Formats a number that may be absent as Java does.
pub(super) fn optional_long(value: Option<impl fmt::Display>) -> impl fmt::Display {
    value.map_or_else(
        || "OptionalLong.empty".to_owned(),
        |value| format!("OptionalLong[{value}]"),
    )
}

/// Returns the first sequence number of a batch. The number before 0 is `i32::MAX`.
fn first_sequence(last_sequence: i32, offset_delta: i32) -> i32 {
    let first = last_sequence.wrapping_sub(offset_delta);
    if last_sequence < offset_delta {
        first.wrapping_add(i32::MAX).wrapping_add(1)
    } else {
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_sequence_wraps_below_zero() {
        assert_eq!(first_sequence(5, 3), 2);
        assert_eq!(first_sequence(0, 1), i32::MAX);
        assert_eq!(first_sequence(2, 4), i32::MAX - 1);
        // Invalid input may return any number, but does not panic.
        assert_eq!(first_sequence(i32::MIN, i32::MAX), -i32::MAX);
    }

    #[test]
    fn absent_number_is_printed_as_in_java() {
        assert_eq!(optional_long(None::<i64>).to_string(), "OptionalLong.empty");
        assert_eq!(optional_long(Some(-1)).to_string(), "OptionalLong[-1]");
    }
}
