//! The batch that compaction leaves: some of the records, or only the header.

use super::packing::Packing;
use super::rebuilt::Rebuilt;
use super::{
    BatchHeader, CONTROL, DELETE_HORIZON, HEADER_BYTES, LOG_APPEND_TIME, RecordCursor,
    TRANSACTIONAL,
};
use crate::format::Malformed;

/// Clears `out`, and writes a batch with the records that `is_kept` selects. It must select at
/// least one.
///
/// - The records keep their order, offsets, timestamps, producer and sequence numbers.
/// - The new batch covers the offsets of the old one, so that readers do not report the gaps as
///   damage.
/// - It keeps the codec, unless readers would refuse to decompress it.
/// - A `delete_horizon` becomes the base timestamp. A batch that already has one keeps it if
///   `delete_horizon` is `None`.
/// - It is a v2 batch, even if the old batch was a legacy one.
///
/// `decompressed` is the result of [`decompressed`](super::decompressed).
pub(crate) fn retained(
    header: &BatchHeader,
    batch: &[u8],
    decompressed: Option<&[u8]>,
    is_kept: &[bool],
    delete_horizon: Option<i64>,
    packing: Packing<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let delete_horizon = delete_horizon.or_else(|| header.delete_horizon());
    let mut rebuilt = Rebuilt::new(header, out);
    let mut cursor = RecordCursor::new(header, batch, decompressed)?;
    let mut is_kept = is_kept.iter();
    while let Some(raw) = cursor.next(header, batch, decompressed) {
        let raw = raw?;
        if is_kept.next().copied().unwrap_or(false) {
            rebuilt.push(&raw, delete_horizon.unwrap_or(raw.timestamp))?;
        }
    }
    let horizon = if delete_horizon.is_some() {
        DELETE_HORIZON
    } else {
        0
    };
    let attributes = header.attributes & lasting(header) | horizon;
    let has_records = rebuilt.finish(attributes, header.last_offset, packing)?;
    if has_records {
        Ok(())
    } else {
        Err(Malformed("no record of a batch is left"))
    }
}

/// Clears `out`, and writes only the header. It preserves the offsets of the batch and the
/// producer's last sequence number.
pub(crate) fn emptied(header: &BatchHeader, out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER_BYTES, 0);
    let size_bytes = u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX);
    let attributes = header.attributes & lasting(header);
    BatchHeader {
        size_bytes,
        magic: 2,
        attributes,
        base_timestamp: -1,
        record_count: 0,
        ..*header
    }
    .write(out);
}

/// Returns the attributes that a batch keeps, whichever of its records are removed.
fn lasting(header: &BatchHeader) -> u16 {
    // In v0 the bit of the timestamp type has no meaning.
    match header.magic {
        0 => 0,
        1 => LOG_APPEND_TIME,
        _ => LOG_APPEND_TIME | TRANSACTIONAL | CONTROL,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, decompressed};
    use super::*;
    use crate::clock::Timestamp;
    use crate::config::{Compression, TopicSettings};
    use crate::format::compression::codecs;
    use crate::format::record::Record;

    const T: i64 = 1_700_000_000_000;

    fn packing(settings: &TopicSettings) -> Packing<'_> {
        Packing {
            settings,
            max_decompressed_bytes: 1 << 20,
            must_shrink: false,
        }
    }

    fn batch(codec: Compression) -> (BatchHeader, Vec<u8>) {
        let mut builder = BatchBuilder::new(Vec::new(), codec);
        for (number, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let at = Timestamp::from_millis(T + 10 * i64::try_from(number).unwrap());
            // The value is long enough for a codec to make it smaller.
            let record = Record::new((key != "c").then(|| "value".repeat(20)))
                .key(key)
                .header("h", key)
                .timestamp(at);
            builder.push(&record, 0).unwrap();
        }
        let mut bytes = builder.finish(&TopicSettings::default()).unwrap();
        let header = BatchHeader::decode(&bytes).unwrap();
        let header = BatchHeader {
            base_offset: 100,
            last_offset: 103,
            leader_epoch: 4,
            attributes: header.attributes | TRANSACTIONAL,
            producer_id: 9,
            producer_epoch: 2,
            base_sequence: 50,
            ..header
        };
        header.write(&mut bytes);
        (BatchHeader::decode(&bytes).unwrap(), bytes)
    }

    /// Returns offset, timestamp and key of each record.
    fn records(bytes: &[u8]) -> Vec<(u64, i64, String)> {
        let header = BatchHeader::decode(bytes).unwrap();
        assert!(header.crc_is_valid(bytes));
        let plain = decompressed(&header, bytes, 1 << 20).unwrap();
        let mut cursor = RecordCursor::new(&header, bytes, plain.as_deref()).unwrap();
        let mut records = Vec::new();
        while let Some(raw) = cursor.next(&header, bytes, plain.as_deref()) {
            let raw = raw.unwrap();
            let key = String::from_utf8(raw.key.unwrap().to_vec()).unwrap();
            let headers: Vec<_> = raw
                .headers
                .map(|header| (header.name_bytes(), header.value()))
                .collect();
            assert_eq!(headers, [(&b"h"[..], Some(key.as_bytes()))]);
            records.push((raw.offset, raw.timestamp, key));
        }
        records
    }

    fn keep(kept: [bool; 4], horizon: Option<i64>, codec: Compression) -> (BatchHeader, Vec<u8>) {
        let (header, bytes) = batch(codec);
        let plain = decompressed(&header, &bytes, 1 << 20).unwrap();
        let mut out = Vec::new();
        retained(
            &header,
            &bytes,
            plain.as_deref(),
            &kept,
            horizon,
            packing(&TopicSettings::default()),
            &mut out,
        )
        .unwrap();
        let made = BatchHeader::decode(&out).unwrap();
        assert_eq!(
            (made.base_offset, made.last_offset, made.last_sequence()),
            (100, 103, 53)
        );
        assert_eq!(
            (made.leader_epoch, made.producer_id, made.producer_epoch),
            (4, 9, 2)
        );
        assert!(made.is_transactional());
        assert!(!made.is_control());
        assert_eq!(made.codec(), Ok(codec));
        (made, out)
    }

    #[test]
    fn kept_records_keep_offset_and_timestamp() {
        for codec in codecs() {
            let (header, bytes) = keep([false, true, false, true], None, codec);
            assert_eq!(
                records(&bytes),
                [(101, T + 10, "b".to_owned()), (103, T + 30, "d".to_owned())]
            );
            assert_eq!(
                (
                    header.base_timestamp,
                    header.max_timestamp,
                    header.delete_horizon()
                ),
                (T + 10, T + 30, None)
            );
        }
    }

    #[test]
    fn a_delete_horizon_becomes_the_base_timestamp_and_is_kept() {
        let (header, bytes) = keep([true, false, true, false], Some(T + 500), Compression::None);
        let expected = [(100, T, "a".to_owned()), (102, T + 20, "c".to_owned())];
        assert_eq!(records(&bytes), expected);
        assert_eq!(
            (header.delete_horizon(), header.max_timestamp),
            (Some(T + 500), T + 20)
        );
        let mut again = Vec::new();
        retained(
            &header,
            &bytes,
            None,
            &[true, false],
            None,
            packing(&TopicSettings::default()),
            &mut again,
        )
        .unwrap();
        assert_eq!(
            BatchHeader::decode(&again).unwrap().delete_horizon(),
            Some(T + 500)
        );
        assert_eq!(records(&again), expected[..1]);
    }

    #[test]
    fn an_emptied_batch_keeps_offsets_producer_and_sequence() {
        for codec in codecs() {
            let (header, _) = batch(codec);
            let mut out = Vec::new();
            emptied(&header, &mut out);
            let made = BatchHeader::decode(&out).unwrap();
            assert!(made.crc_is_valid(&out));
            assert!(made.is_transactional());
            let expected = BatchHeader {
                size_bytes: 61,
                attributes: TRANSACTIONAL,
                base_timestamp: -1,
                record_count: 0,
                crc: made.crc,
                ..header
            };
            assert_eq!(made, expected, "{codec:?}");
            assert_eq!(made.last_sequence(), 53);
        }
    }

    #[test]
    fn attributes_that_mean_nothing_in_a_legacy_batch_are_dropped() {
        let (header, _) = batch(Compression::None);
        for (magic, kept) in [
            (0, 0),
            (1, LOG_APPEND_TIME),
            (2, LOG_APPEND_TIME | TRANSACTIONAL | CONTROL),
        ] {
            let mut out = Vec::new();
            emptied(
                &BatchHeader {
                    magic,
                    attributes: 0xff,
                    ..header
                },
                &mut out,
            );
            let made = BatchHeader::decode(&out).unwrap();
            assert_eq!((made.magic, made.attributes), (2, kept), "magic {magic}");
        }
    }

    #[test]
    fn a_legacy_batch_becomes_a_v2_batch() {
        // A v0 entry at offset 7 with "k1" and "v1".
        let v0 = b"\0\0\0\0\0\0\0\x07\0\0\0\x12\x57\xe7\x49\x6e\0\0\0\0\0\x02k1\0\0\0\x02v1";
        let (header, mut out) = (BatchHeader::decode(v0).unwrap(), Vec::new());
        retained(
            &header,
            v0,
            None,
            &[true],
            None,
            packing(&TopicSettings::default()),
            &mut out,
        )
        .unwrap();
        let made = BatchHeader::decode(&out).unwrap();
        assert!(made.crc_is_valid(&out));
        assert_eq!(
            (
                made.magic,
                made.base_offset,
                made.last_offset,
                made.record_count
            ),
            (2, 7, 7, 1)
        );
    }

    #[cfg(feature = "lz4")]
    #[test]
    fn records_that_readers_would_refuse_to_decompress_are_not_compressed() {
        let (header, bytes) = batch(Compression::Lz4);
        let plain = decompressed(&header, &bytes, 1 << 20).unwrap().unwrap();
        let settings = TopicSettings::default();
        let codec_of = |horizon, max_decompressed_bytes| {
            let (packing, mut out) = (
                Packing {
                    settings: &settings,
                    max_decompressed_bytes,
                    must_shrink: false,
                },
                Vec::new(),
            );
            retained(
                &header,
                &bytes,
                Some(&plain),
                &[true; 4],
                horizon,
                packing,
                &mut out,
            )
            .unwrap();
            assert_eq!(records(&out).len(), 4);
            BatchHeader::decode(&out).unwrap().codec().unwrap()
        };
        assert_eq!(codec_of(None, plain.len()), Compression::Lz4);
        // The timestamps of the records are now relative to the horizon, and take more bytes.
        assert_eq!(codec_of(Some(0), plain.len()), Compression::None);
        assert_eq!(codec_of(Some(0), 2 * plain.len()), Compression::Lz4);
    }
}
