//! Bytes of brokers, malformed bytes, and states that round-trip.

use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
        .collect()
}

fn partitions(names: &[(&str, u32)]) -> Vec<TopicPartition> {
    names.iter().map(|&name| name.into()).collect()
}

fn empty() -> TransactionState {
    TransactionState::empty("tx", (4, 0), 60_000, 1_700_000_000_000)
}

/// Asserts that the value decodes to `state`, and that `state` has exactly these bytes.
fn check(state: &TransactionState, hex: &str) {
    let value = bytes(hex);
    let version = ValueVersion::of(&value).unwrap();
    let decoded = TransactionState::decode_value(&state.transactional_id, &value);
    assert_eq!(decoded.as_ref(), Ok(state));
    assert_eq!(state.encode_value(version), value);
}

#[test]
fn a_key_has_kafkas_bytes() {
    let key = TransactionKey::encode("txA");
    assert_eq!(key, bytes("0000 0003 747841"));
    assert_eq!(
        TransactionKey::decode(&key),
        Ok(TransactionKey::State("txA"))
    );
}

#[test]
fn an_empty_state_has_a_null_array_of_partitions() {
    let tail = "0000018bcfe56800 ffffffffffffffff";
    let head = "0000000000000004 0000 0000ea60 00";
    check(&empty(), &format!("0001 {head} 00 {tail} 00"));
    check(&empty(), &format!("0000 {head} ffffffff {tail}"));
}

#[test]
fn values_of_a_broker_are_read_and_written() {
    let id = "0000000000000004";
    let tags = format!("02 00 08 {id} 02 02 0002");
    let mut state = TransactionState {
        last_update_ms: 0x01a2_29d4_6da3,
        previous_producer_id: 4,
        ..empty()
    };
    check(
        &state,
        &format!("0001 {id} 0000 0000ea60 00 00 000001a229d46da3 ffffffffffffffff 01 00 08 {id}"),
    );
    state.status = TransactionStatus::Ongoing;
    state.partitions = partitions(&[("t1", 2)]);
    state.last_update_ms = 0x01a2_29d4_6e02;
    state.start_ms = state.last_update_ms;
    // The client has transactions of version 1: tag 2 is absent.
    check(
        &state,
        &format!(
            "0001 {id} 0000 0000ea60 01 02 03 7431 02 00000002 00 000001a229d46e02 000001a229d46e02 01 00 08 {id}"
        ),
    );
    state.client_version = 2;
    check(
        &state,
        &format!(
            "0001 {id} 0000 0000ea60 01 02 03 7431 02 00000002 00 000001a229d46e02 000001a229d46e02 {tags}"
        ),
    );
    state.status = TransactionStatus::PrepareCommit;
    state.producer_epoch = 1;
    state.partitions = partitions(&[("t1", 2), ("t1", 1)]);
    state.last_update_ms = 0x01a2_29d4_6e37;
    check(
        &state,
        &format!(
            "0001 {id} 0001 0000ea60 02 02 03 7431 03 00000002 00000001 00 000001a229d46e37 000001a229d46e02 {tags}"
        ),
    );
    state.status = TransactionStatus::CompleteCommit;
    state.partitions.clear();
    state.last_update_ms = 0x01a2_29d4_6e3a;
    check(
        &state,
        &format!("0001 {id} 0001 0000ea60 04 01 000001a229d46e3a 000001a229d46e02 {tags}"),
    );
}

/// The last records of the two ids in the directory of a broker that was stopped between
/// `PrepareCommit` and the markers.
#[test]
fn prepared_transactions_of_a_broker_are_read() {
    let of_offsets = "0001000000000000000400000000ea60020303743202000000020013\
        5f5f636f6e73756d65725f6f666673657473020000000000000001a229e0e1d3000001a229e0e1bc\
        0100080000000000000004";
    let state = TransactionState {
        transactional_id: "px".into(),
        status: TransactionStatus::PrepareCommit,
        partitions: partitions(&[("t2", 2), ("__consumer_offsets", 0)]),
        last_update_ms: 0x01a2_29e0_e1d3,
        start_ms: 0x01a2_29e0_e1bc,
        previous_producer_id: 4,
        ..empty()
    };
    check(&state, of_offsets);
    let of_three = "000100000000000003e800000000ea600202037432040000000200000001000000000000\
        0001a229e7afa8000001a229e7af2801000800000000000003e8";
    let state = TransactionState {
        transactional_id: "txA".into(),
        producer_id: 1000,
        partitions: partitions(&[("t2", 2), ("t2", 1), ("t2", 0)]),
        last_update_ms: 0x01a2_29e7_afa8,
        start_ms: 0x01a2_29e7_af28,
        previous_producer_id: 1000,
        ..state
    };
    check(&state, of_three);
}

#[test]
fn version_0_has_arrays_of_fixed_size_and_no_tagged_fields() {
    let state = TransactionState {
        status: TransactionStatus::PrepareAbort,
        partitions: partitions(&[("t", 7), ("u", 0), ("u", 1)]),
        start_ms: 5,
        ..empty()
    };
    let head = "0000 0000000000000004 0000 0000ea60 03";
    let tail = "0000018bcfe56800 0000000000000005";
    let topics = "00000002 0001 74 00000001 00000007 0001 75 00000002 00000000 00000001";
    check(&state, &format!("{head} {topics} {tail}"));
    let moved = TransactionState {
        previous_producer_id: 3,
        next_producer_id: 5,
        client_version: 2,
        next_producer_epoch: 0,
        ..state.clone()
    };
    let value = moved.encode_value(ValueVersion::V0);
    assert_eq!(TransactionState::decode_value("tx", &value), Ok(state));
}

#[test]
fn partitions_of_a_topic_are_written_together() {
    let state = TransactionState {
        status: TransactionStatus::Ongoing,
        partitions: partitions(&[("u", 3), ("t", 0), ("u", 1)]),
        ..empty()
    };
    for version in [ValueVersion::V0, ValueVersion::V1] {
        let value = state.encode_value(version);
        let decoded = TransactionState::decode_value("tx", &value).unwrap();
        let expected = partitions(&[("u", 3), ("u", 1), ("t", 0)]);
        assert_eq!(decoded.partitions, expected);
    }
}

#[test]
fn other_record_types_are_recognized() {
    for (key, kind) in [("0001 0002 7478", 1), ("7fff", i16::MAX), ("ffff", -1)] {
        let key = bytes(key);
        let decoded = TransactionKey::decode(&key);
        assert_eq!(decoded, Ok(TransactionKey::Other(kind)), "{key:x?}");
    }
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let value = "0001 0000000000000004 0000 0000ea60 01 02 02 74 02 00000000 \
        02 00 01 ff 63 00 0000018bcfe56800 ffffffffffffffff";
    let decode =
        |tags: &str| TransactionState::decode_value("tx", &bytes(&format!("{value} {tags}")));
    let known = TransactionState {
        status: TransactionStatus::Ongoing,
        partitions: partitions(&[("t", 0)]),
        next_producer_id: 9,
        next_producer_epoch: 3,
        ..empty()
    };
    let tags = "04 01 08 0000000000000009 03 02 0003 04 02 ffff 8001 00";
    assert_eq!(decode(tags), Ok(known));
    for bad in [
        "",
        "01",
        "01 01 07 00000000000009",
        "01 02 04 00000002",
        "00 00",
        "ffffffff0f",
    ] {
        assert!(decode(bad).is_err(), "{bad}");
    }
}

#[test]
fn malformed_states_are_refused() {
    for key in [
        "",
        "00",
        "0000",
        "0000 ffff",
        "0000 0002 74",
        "0000 0001 74 00",
        "0000 0001 ff",
    ] {
        assert!(TransactionKey::decode(&bytes(key)).is_err(), "{key}");
    }
    let head = "0000000000000004 0000 0000ea60";
    let tail = "0000018bcfe56800 ffffffffffffffff";
    for value in [
        String::new(),
        "00".into(),
        format!("0002 {head} 00 00 {tail} 00"),
        format!("ffff {head} 00 00 {tail} 00"),
        // A status that no broker stores.
        format!("0001 {head} 06 01 {tail} 00"),
        format!("0001 {head} ff 01 {tail} 00"),
        // A transaction that has not started, with a partition.
        format!("0001 {head} 00 02 02 74 02 00000000 00 {tail} 00"),
        // A negative partition, a null topic, and one that is not UTF-8.
        format!("0001 {head} 01 02 02 74 02 ffffffff 00 {tail} 00"),
        format!("0001 {head} 01 02 00 02 00000000 00 {tail} 00"),
        format!("0001 {head} 01 02 02 ff 02 00000000 00 {tail} 00"),
        // Lengths that the bytes do not have.
        format!("0001 {head} 01 ffffffff0f {tail} 00"),
        format!("0001 {head} 01 02 02 74 ffffffff0f 00000000 00 {tail} 00"),
        format!("0000 {head} 01 7fffffff {tail}"),
        format!("0000 {head} 01 fffffffe {tail}"),
        format!("0000 {head} 01 00000001 0001 74 7fffffff 00000000 {tail}"),
    ] {
        assert!(
            TransactionState::decode_value("tx", &bytes(&value)).is_err(),
            "{value}"
        );
    }
}

fn any_state() -> impl Strategy<Value = TransactionState> {
    let names = prop::collection::vec(("[a-c._-]{1,3}", 0..=i32::MAX.cast_unsigned()), 0..20);
    let head = ("\\PC{0,40}", any::<(i64, i16, i32)>(), 0..=5_u8, names);
    (head, any::<(i64, i64, i64, i64, i16, i16)>()).prop_map(|(head, rest)| {
        let (transactional_id, (producer_id, producer_epoch, timeout_ms), status, names) = head;
        let status = TransactionStatus::decode(status).unwrap();
        let names: Vec<_> = names
            .iter()
            .map(|(topic, number)| (&**topic, *number))
            .collect();
        let mut partitions = partitions(&names);
        // A topic occurs once in an array, as in the records of a broker.
        partitions.sort();
        if status == TransactionStatus::Empty {
            partitions.clear();
        }
        let partition_ends = vec![rest.2.unsigned_abs(); partitions.len()];
        TransactionState {
            partition_ends,
            transactional_id,
            producer_id,
            producer_epoch,
            timeout_ms,
            status,
            partitions,
            last_update_ms: rest.0,
            start_ms: rest.1,
            previous_producer_id: rest.2,
            next_producer_id: rest.3,
            client_version: rest.4,
            next_producer_epoch: rest.5,
        }
    })
}

proptest! {
    #[test]
    fn states_round_trip_and_cut_states_are_refused(state in any_state()) {
        let key = TransactionKey::encode(&state.transactional_id);
        prop_assert_eq!(TransactionKey::decode(&key), Ok(TransactionKey::State(&state.transactional_id)));
        let value = state.encode_value(ValueVersion::V1);
        for length in 0..value.len() {
            prop_assert!(TransactionState::decode_value("", &value[..length]).is_err());
        }
        let decoded = TransactionState::decode_value(&state.transactional_id, &value);
        prop_assert_eq!(decoded.as_ref(), Ok(&state));
        if let Some(without_end) = state.partition_ends.split_last().map(|(_, rest)| rest.to_vec()) {
            let other = TransactionState { partition_ends: without_end, ..state.clone() };
            let value = other.encode_value(ValueVersion::V1);
            let is_refused = TransactionState::decode_value("", &value).is_err();
            prop_assert_eq!(is_refused, !other.partition_ends.is_empty());
        }

        let old = state.encode_value(ValueVersion::V0);
        for length in 0..old.len() {
            prop_assert!(TransactionState::decode_value("", &old[..length]).is_err());
        }
        let decoded = TransactionState::decode_value(&state.transactional_id, &old).unwrap();
        prop_assert_eq!(decoded.encode_value(ValueVersion::V0), old);
        prop_assert_eq!(decoded.partitions, state.partitions);
    }

    #[test]
    fn decoding_any_bytes_does_not_panic(version in 0..3_u8, rest in prop::collection::vec(any::<u8>(), 0..80)) {
        let bytes = [&[0, version][..], &rest].concat();
        drop((TransactionKey::decode(&bytes), TransactionState::decode_value("tx", &bytes)));
        drop((TransactionKey::decode(&rest), TransactionState::decode_value("tx", &rest)));
    }

    #[test]
    fn decoding_any_arrays_does_not_panic(version in 0..2_u8, rest in prop::collection::vec(any::<u8>(), 0..80)) {
        let bytes = [&[0, version][..], &[0; 14], &[1], &rest].concat();
        drop(TransactionState::decode_value("tx", &bytes));
    }
}
