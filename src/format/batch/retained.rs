//! What compaction leaves of a batch: some of its records, or nothing but its header.

use super::packing::Packing;
use super::{
    BatchHeader, CONTROL, DELETE_HORIZON, HEADER_BYTES, LOG_APPEND_TIME, RecordCursor, TOO_LONG,
    TRANSACTIONAL, codec_bits,
};
use crate::config::TimestampType;
use crate::format::Malformed;
use crate::format::record::{self, Record};

/// Makes the batch anew in `out`, which is cleared, with those of its records that `is_kept` names,
/// in their order: offsets, timestamps, producer and sequence numbers stay, and so does the codec
/// unless readers would refuse the new batch. It covers the offsets of the old one, so that nobody
/// takes the gaps for damage.
///
/// With a `delete_horizon` that becomes the base timestamp, as one that is there already stays. The
/// new batch is a v2 batch, whatever the old one was. `decompressed` is as from the function of
/// that name; at least one record is kept.
pub(crate) fn retained(
    header: &BatchHeader,
    batch: &[u8],
    decompressed: Option<&[u8]>,
    is_kept: &[bool],
    delete_horizon: Option<i64>,
    packing: Packing<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    out.clear();
    out.resize(HEADER_BYTES, 0);
    let delete_horizon = delete_horizon.or_else(|| header.delete_horizon());
    // A legacy wrapper does not tell its base; its first record may.
    let (mut base, mut record_count, mut max_timestamp) = (None, 0, -1);
    let mut cursor = RecordCursor::new(header, batch, decompressed)?;
    let mut is_kept = is_kept.iter();
    while let Some(raw) = cursor.next(header, batch, decompressed) {
        let raw = raw?;
        if !is_kept.next().copied().unwrap_or(false) {
            continue;
        }
        let base_offset = if header.magic >= 2 {
            header.base_offset
        } else {
            raw.offset
        };
        let (base_offset, base_timestamp) =
            *base.get_or_insert((base_offset, delete_horizon.unwrap_or(raw.timestamp)));
        let delta = raw
            .offset
            .checked_sub(base_offset)
            .and_then(|delta| u32::try_from(delta).ok());
        let delta = delta.ok_or(Malformed("the offset of a record is out of range"))?;
        record::encode(
            out,
            raw.timestamp.wrapping_sub(base_timestamp),
            delta,
            &Record::from_raw(&raw),
        )?;
        record_count += 1;
        max_timestamp = raw.timestamp.max(max_timestamp);
    }
    let (base_offset, base_timestamp) = base.ok_or(Malformed("nothing is left of a batch"))?;
    let codec = packing.pack(header.codec()?, out)?;
    let is_append_time = header.timestamp_type() == Some(TimestampType::LogAppendTime);
    let attributes = codec_bits(codec) | header.attributes & lasting(header);
    let size_bytes = u32::try_from(out.len())
        .ok()
        .filter(|size| *size <= i32::MAX.cast_unsigned());
    let made = BatchHeader {
        base_offset,
        size_bytes: size_bytes.ok_or(TOO_LONG)?,
        magic: 2,
        attributes: attributes
            | if delete_horizon.is_some() {
                DELETE_HORIZON
            } else {
                0
            },
        base_timestamp,
        max_timestamp: if is_append_time {
            header.max_timestamp
        } else {
            max_timestamp
        },
        record_count,
        ..*header
    };
    made.write(out);
    Ok(())
}

/// The header alone, in `out`: it tells of the offsets and of the producer's last sequence number.
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

/// The attributes that a batch keeps whatever becomes of its records.
fn lasting(header: &BatchHeader) -> u16 {
    // Of v0 the bit of the timestamp type means nothing.
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
            // Long enough for a codec to make it smaller.
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

    /// Offset, timestamp and key of each record.
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
        assert!(made.is_transactional() && !made.is_control() && made.codec() == Ok(codec));
        (made, out)
    }

    #[test]
    fn records_keep_offset_and_time() {
        for codec in [Compression::None, Compression::Lz4] {
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
    fn a_horizon_is_the_base_timestamp_and_stays() {
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
    fn an_empty_batch_is_as_kafka_writes_it() {
        let (header, _) = batch(Compression::Gzip);
        let mut out = Vec::new();
        emptied(&header, &mut out);
        let made = BatchHeader::decode(&out).unwrap();
        assert!(made.crc_is_valid(&out) && made.is_transactional());
        let expected = BatchHeader {
            size_bytes: 61,
            attributes: TRANSACTIONAL,
            base_timestamp: -1,
            record_count: 0,
            crc: made.crc,
            ..header
        };
        assert_eq!(made, expected);
        assert_eq!(made.last_sequence(), 53);
    }

    #[test]
    fn of_a_legacy_batch_only_what_its_attributes_mean_is_kept() {
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
            assert_eq!((made.magic, made.attributes), (2, kept), "of magic {magic}");
        }
    }

    #[test]
    fn what_is_kept_of_a_legacy_batch_is_a_current_one() {
        // Offset 7, "k1" and "v1".
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

    #[test]
    fn records_that_get_too_large_for_readers_are_not_compressed() {
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
        // The timestamps of the records are counted from the horizon, which takes more bytes.
        assert_eq!(codec_of(Some(0), plain.len()), Compression::None);
        assert_eq!(codec_of(Some(0), 2 * plain.len()), Compression::Lz4);
    }
}
