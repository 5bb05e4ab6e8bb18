//! Records that cannot be shown, and bytes of any kind. The tests in `tests/it/inspect` compare the
//! lines with those of Kafka's tool.

use proptest::prelude::*;

use super::{Decoder, Shown};

const COMMIT_KEY: &[u8] = b"\0\x01\0\x01g\0\x01t\0\0\0\0";
const COMMIT: &[u8] = b"\0\x03\0\0\0\0\0\0\0\x2a\xff\xff\xff\xff\0\0\0\0\x01\x8b\xcf\xe5h\0";

fn skipped(key: &str) -> Shown {
    Shown {
        key: key.to_owned(),
        value: None,
    }
}

#[test]
fn records_are_shown_as_json() {
    let shown = Decoder::Offsets.show(7, Some(COMMIT_KEY), Some(COMMIT));
    let key = r#"{"type":"1","data":{"group":"g","topic":"t","partition":0}}"#;
    assert_eq!(shown.key, key);
    assert_eq!(
        shown.value.as_deref(),
        Some(
            r#"{"version":"3","data":{"offset":42,"leaderEpoch":-1,"metadata":"","commitTimestamp":1700000000000}}"#
        )
    );
    let deleted = Decoder::Offsets.show(7, Some(COMMIT_KEY), None);
    assert_eq!(deleted.value.as_deref(), Some("<DELETE>"));
}

#[test]
fn unknown_types_and_versions_are_skipped() {
    let show = |decoder: Decoder, key: &[u8], value: &[u8]| decoder.show(3, Some(key), Some(value));
    assert_eq!(
        show(Decoder::Transactions, COMMIT_KEY, COMMIT),
        skipped("Unknown record type 1 at offset 3, skipping.")
    );
    assert_eq!(
        show(Decoder::Offsets, COMMIT_KEY, b"\0\x05"),
        skipped("Error at offset 3, skipping. Found an unknown record version 5 for 1 type")
    );
    assert_eq!(
        show(Decoder::Offsets, b"\0", COMMIT),
        skipped("Error at offset 3, skipping. Could not read version from key's buffer.")
    );
    assert_eq!(
        Decoder::Offsets.show(3, None, Some(COMMIT)),
        skipped("Error at offset 3, skipping. The record has no key.")
    );
}

proptest! {
    #[test]
    fn showing_any_bytes_does_not_panic(
        kind in 0..25_u8,
        key in prop::collection::vec(any::<u8>(), 0..30),
        version in 0..5_u8,
        value in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let (key, value) = ([&[0, kind][..], &key].concat(), [&[0, version][..], &value].concat());
        for decoder in [Decoder::Offsets, Decoder::Transactions] {
            drop(decoder.show(0, Some(&key), Some(&value)));
            drop(decoder.show(0, Some(COMMIT_KEY), Some(&value)));
            drop(decoder.show(0, Some(&value), Some(&key)));
        }
    }

    #[test]
    fn the_shown_text_is_within_a_bound_of_the_bytes(
        kind in 0..25_u8,
        value in prop::collection::vec(0..4_u8, 0..300),
    ) {
        let key = [0, kind, 0, 1, b'g', 0, 1, b'm', 0, 0, 0, 0];
        let value = [&[0, 0][..], &value].concat();
        let shown = Decoder::Offsets.show(0, Some(&key), Some(&value));
        let bytes = shown.value.map_or(0, |value| value.len());
        prop_assert!(bytes <= 1_000 + 300 * value.len(), "{bytes}");
    }
}
