//! Dumps the batches and records of a `.log`, or of a `.checkpoint`, which has the same format.

use std::fmt;

use super::batches::{Batches, Form, Found, LoadedBatch, ShownRecord, StoredBatch, TailContent};
use super::decoder::{Decoder, Shown, control};
use super::text::Text;
use super::{Dump, Fault, METADATA_SNAPSHOT};
use crate::config::{Compression, TimestampType};
use crate::error::Result;
use crate::format::Malformed;
use crate::format::batch::BatchHeader;
use crate::format::compression::is_over_limit;
use crate::format::control::ControlRecord;

impl Dump<'_> {
    /// Dumps the file. The first record should follow offset `before`. Returns the offset of the
    /// last record, or `before` if there is none.
    pub(super) fn log_file(&mut self, mut before: Option<u64>) -> Result<Option<u64>> {
        self.title()?;
        let mut batches = Batches::open(
            self.storage,
            &self.path,
            self.options.max_bytes,
            self.options.max_decompressed_bytes,
        )?;
        while let Some(found) = batches.next()? {
            match found {
                Found::Batch(batch) => {
                    let is_valid = batches.crc_is_valid(&batch)?;
                    self.batch(&batch, is_valid)?;
                    if self.options.deep_iteration || self.options.prints_data() {
                        let (position, last_offset) = (batch.position, batch.header.last_offset);
                        match batches.load(&batch, is_valid)? {
                            Ok(batch) => self.records(position, &batch, &mut before)?,
                            Err(malformed) if is_over_limit(malformed) && is_valid => {
                                before = Some(last_offset);
                                self.too_large(position)?;
                            }
                            Err(malformed) => self.unreadable_records(position, malformed)?,
                        }
                    }
                }
                Found::Unreadable {
                    position,
                    size_bytes,
                    reason: Malformed(reason),
                } => {
                    self.found(Fault::UnreadableBatch { position, reason });
                    self.line(format_args!(
                        "position: {position} size: {size_bytes} isvalid: false ({reason})"
                    ))?;
                }
            }
        }
        self.tail(&mut batches)?;
        Ok(before)
    }

    fn title(&mut self) -> Result<()> {
        if self
            .path
            .extension()
            .is_none_or(|suffix| suffix != METADATA_SNAPSHOT)
        {
            return match self.base_offset() {
                Some(base_offset) => self.line(format_args!("Log starting offset: {base_offset}")),
                None => Ok(()),
            };
        }
        let stem = self.stem();
        let number = |text: &str| text.parse::<u64>().ok();
        match stem
            .split_once('-')
            .map(|(offset, epoch)| (number(offset), number(epoch)))
        {
            Some((Some(offset), Some(epoch))) => self.line(format_args!(
                "Snapshot end offset: {offset}, epoch: {epoch}"
            )),
            _ if stem == "bootstrap" => self.line(format_args!("KRaft bootstrap snapshot")),
            _ => Ok(()),
        }
    }

    fn batch(&mut self, batch: &StoredBatch, is_valid: bool) -> Result<()> {
        let StoredBatch { position, header } = batch;
        if !is_valid {
            self.found(Fault::InvalidChecksum {
                position: *position,
                offset: header.base_offset,
            });
        }
        let BatchHeader {
            base_offset,
            stated_last_offset: last_offset,
            magic,
            size_bytes,
            crc,
            max_timestamp,
            ..
        } = header;
        if *magic < 2 {
            self.print(format_args!("offset: {last_offset}"))?;
        } else {
            let BatchHeader {
                record_count,
                base_sequence,
                producer_id,
                producer_epoch,
                leader_epoch,
                ..
            } = header;
            self.print(format_args!(
                "baseOffset: {base_offset} lastOffset: {last_offset} count: {record_count} baseSequence: {base_sequence} \
                 lastSequence: {} producerId: {producer_id} producerEpoch: {producer_epoch} partitionLeaderEpoch: {leader_epoch} \
                 isTransactional: {} isControl: {} deleteHorizonMs: {}",
                header.sequence_at(*last_offset),
                header.is_transactional(),
                header.is_control(),
                super::snapshot::optional_long(header.delete_horizon()),
            ))?;
        }
        self.line(format_args!(
            " position: {position} {}: {max_timestamp} size: {size_bytes} magic: {magic} compresscodec: {} crc: {crc} \
             isvalid: {is_valid}",
            timestamp_type(header),
            codec(header),
        ))
    }

    fn records(
        &mut self,
        position: u64,
        batch: &LoadedBatch<'_>,
        before: &mut Option<u64>,
    ) -> Result<()> {
        batch.for_each(|record| match record {
            Ok(record) => {
                if record.offset != before.map_or(0, |before| before + 1) {
                    self.found(Fault::OffsetGap {
                        before: *before,
                        after: record.offset,
                    });
                }
                *before = Some(record.offset);
                self.record(&batch.header, &record)
            }
            Err(malformed) => self.unreadable_records(position, malformed),
        })
    }

    fn too_large(&mut self, position: u64) -> Result<()> {
        let limit = self.options.max_decompressed_bytes as u64;
        self.found(Fault::BatchTooLarge { position, limit });
        self.line(format_args!("| decompresses to more than {limit} bytes"))
    }

    fn unreadable_records(&mut self, position: u64, Malformed(reason): Malformed) -> Result<()> {
        self.found(Fault::UnreadableRecords { position, reason });
        self.line(format_args!("| cannot be decoded: {reason}"))
    }

    fn record(&mut self, header: &BatchHeader, record: &ShownRecord<'_>) -> Result<()> {
        let mut lead = "| ";
        if !self.options.skip_record_metadata {
            self.record_metadata(header, record)?;
            lead = " ";
        }
        if self.options.prints_data() && !header.is_control() {
            match Decoder::of(self.options) {
                None => self.data(lead, record.key.map(Text), record.value.map(Text))?,
                Some(decoder) => {
                    let Shown { key, value } =
                        decoder.show(record.offset, record.key, record.value);
                    self.data(lead, Some(key), value)?;
                }
            }
        }
        self.line(format_args!(""))
    }

    fn data(
        &mut self,
        mut lead: &str,
        key: Option<impl fmt::Display>,
        value: Option<impl fmt::Display>,
    ) -> Result<()> {
        if let Some(key) = key {
            self.print(format_args!("{lead}key: {key}"))?;
            lead = " ";
        }
        match value {
            Some(value) => self.print(format_args!("{lead}payload: {value}")),
            None => Ok(()),
        }
    }

    fn record_metadata(&mut self, header: &BatchHeader, record: &ShownRecord<'_>) -> Result<()> {
        let size = |bytes: Option<&[u8]>| {
            bytes
                .and_then(|bytes| i64::try_from(bytes.len()).ok())
                .unwrap_or(-1)
        };
        self.print(format_args!(
            "| offset: {} {}: {} keySize: {} valueSize: {}",
            record.offset,
            timestamp_type(header),
            record.timestamp,
            size(record.key),
            size(record.value),
        ))?;
        match record.form {
            Form::Legacy { crc, crc_is_valid } => {
                self.print(format_args!(" isValid: {crc_is_valid} crc: {crc}"))
            }
            Form::Current { headers } => {
                self.print(format_args!(
                    " sequence: {} headerKeys: [",
                    header.sequence_at(record.offset)
                ))?;
                for (number, header) in headers.enumerate() {
                    let comma = if number == 0 { "" } else { "," };
                    self.print(format_args!("{comma}{}", Text(header.name_bytes())))?;
                }
                self.print(format_args!("]"))?;
                if header.is_control() {
                    self.control_record(record)
                } else {
                    Ok(())
                }
            }
        }
    }

    fn control_record(&mut self, record: &ShownRecord<'_>) -> Result<()> {
        match ControlRecord::decode(record.key, record.value) {
            Ok(ControlRecord::Abort { coordinator_epoch }) => self.print(format_args!(
                " endTxnMarker: ABORT coordinatorEpoch: {coordinator_epoch}"
            )),
            Ok(ControlRecord::Commit { coordinator_epoch }) => self.print(format_args!(
                " endTxnMarker: COMMIT coordinatorEpoch: {coordinator_epoch}"
            )),
            Ok(ControlRecord::Other(kind)) => {
                match control::to_json(kind, record.value.unwrap_or_default()) {
                    None => self.print(format_args!(" controlType: UNKNOWN({kind})")),
                    // Kafka prints a colon here, but not after the other names.
                    Some(Ok((name @ "LeaderChange", json))) => {
                        self.print(format_args!(" {name}: {json}"))
                    }
                    Some(Ok((name, json))) => self.print(format_args!(" {name} {json}")),
                    Some(Err(malformed)) => {
                        self.print(format_args!(" controlType: {kind} ({malformed})"))
                    }
                }
            }
            Err(malformed) => self.print(format_args!(" controlType: ({malformed})")),
        }
    }

    fn tail(&mut self, batches: &mut Batches) -> Result<()> {
        let is_limited = self.options.max_bytes < u64::MAX;
        let Some(tail) = batches.tail()?.filter(|_| !is_limited) else {
            return Ok(());
        };
        let (position, bytes) = (tail.position, tail.bytes);
        match tail.content {
            TailContent::CutShort => self.found(Fault::InvalidTail { position, bytes }),
            TailContent::Zeros => {
                self.found(Fault::ZeroTail { position, bytes });
                self.line(format_args!("position: {position} only zeros follow"))?;
            }
            TailContent::Malformed(Malformed(reason)) => {
                self.found(Fault::InvalidTail { position, bytes });
                self.line(format_args!(
                    "position: {position} isvalid: false ({reason})"
                ))?;
            }
        }
        self.invalid_bytes(bytes)
    }
}

fn timestamp_type(header: &BatchHeader) -> &'static str {
    match header.timestamp_type() {
        None => "NoTimestampType",
        Some(TimestampType::CreateTime) => "CreateTime",
        Some(TimestampType::LogAppendTime) => "LogAppendTime",
    }
}

fn codec(header: &BatchHeader) -> &'static str {
    match header.codec() {
        Ok(Compression::None) => "none",
        Ok(Compression::Gzip) => "gzip",
        Ok(Compression::Snappy) => "snappy",
        Ok(Compression::Lz4) => "lz4",
        Ok(Compression::Zstd) => "zstd",
        Err(_) => "unknown",
    }
}
