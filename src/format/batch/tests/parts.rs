//! The batches that cutting and compacting leave of another batch.

use super::*;

#[test]
fn the_max_timestamp_below_an_offset_is_that_of_the_records_there() {
    let at = |millis| Record::new("v").timestamp(Timestamp::from_millis(millis));
    let mut batch = built(&[at(T + 10), at(T + 20), at(T + 5), at(T + 90)]);
    stamp(&mut batch, 100, 0);
    let header = BatchHeader::decode(&batch).unwrap();
    let left = below(
        &header,
        &batch,
        None,
        103,
        packing(&TopicSettings::default()),
    )
    .unwrap()
    .unwrap();
    let header = BatchHeader::decode(&left).unwrap();
    assert!(header.crc_is_valid(&left));
    assert_eq!(
        (header.base_offset, header.last_offset, header.record_count),
        (100, 102, 3)
    );
    assert_eq!(
        (header.base_timestamp, header.max_timestamp),
        (T + 10, T + 20)
    );
    let times = records(&left)
        .unwrap()
        .iter()
        .map(|record| (record.0, record.1))
        .collect::<Vec<_>>();
    assert_eq!(times, [(100, T + 10), (101, T + 20), (102, T + 5)]);
}

#[test]
fn the_first_part_of_a_legacy_batch_is_a_v2_batch() {
    // A v0 entry at offset 7 with "k1" and "v1". The bit of the timestamp type is set, but has no
    // meaning in v0.
    let v0 = bytes("00000000000000070000001257e7496e0008000000026b31000000027631");
    let header = BatchHeader::decode(&v0).unwrap();
    let left = below(&header, &v0, None, 8, packing(&TopicSettings::default()))
        .unwrap()
        .unwrap();
    let header = BatchHeader::decode(&left).unwrap();
    assert!(header.crc_is_valid(&left));
    assert_eq!(
        (
            header.magic,
            header.attributes,
            header.base_offset,
            header.last_offset
        ),
        (2, 0, 7, 7)
    );
    assert_eq!(records(&left).unwrap(), [simple(7, -1, "k1", "v1")]);
}

#[test]
fn records_without_timestamps_are_copied_without_timestamps() {
    let mut batch = built(&["a".into(), "b".into()]);
    let header = BatchHeader {
        base_timestamp: -1,
        max_timestamp: -1,
        ..BatchHeader::decode(&batch).unwrap()
    };
    header.write(&mut batch);
    let left = below(&header, &batch, None, 1, packing(&TopicSettings::default()))
        .unwrap()
        .unwrap();
    assert_eq!(BatchHeader::decode(&left).unwrap().max_timestamp, -1);
    let mut kept = Vec::new();
    retained(
        &header,
        &batch,
        None,
        &[false, true],
        None,
        packing(&TopicSettings::default()),
        &mut kept,
    )
    .unwrap();
    assert_eq!(BatchHeader::decode(&kept).unwrap().max_timestamp, -1);
    assert_eq!(records(&kept).unwrap()[0].1, -1);
}
