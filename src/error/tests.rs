//! Size, texts and kinds of errors.

use super::*;
use std::error::Error as _;

#[test]
fn an_error_is_small_and_can_be_sent_to_other_threads() {
    fn assert_sendable<T: Clone + Send + Sync + 'static>() {}
    assert_sendable::<Error>();
    assert!(size_of::<Error>() <= 64, "{}", size_of::<Error>());
}

#[test]
fn debug_prints_the_text_and_alternate_debug_prints_the_fields() {
    let deep = anyhow::anyhow!("the cable is out").context("the device is gone");
    let error = Error::io("list", Path::new("data"), io::Error::other(deep));
    assert_eq!(
        format!("{error:?}"),
        "cannot list data: the device is gone: the cable is out"
    );
    let fields = format!("{error:#?}");
    assert!(
        fields.starts_with("Io {\n    action: \"list\",\n    path: \"data\",\n    source: "),
        "{fields}"
    );

    let ended: std::result::Result<(), Error> = Err(Error::Closed);
    assert_eq!(format!("{ended:?}"), "Err(the log is closed)");
    assert_eq!(format!("{:#?}", Error::Closed), "Closed");
}

#[test]
fn result_has_one_error_type_next_to_anyhow_result() -> anyhow::Result<()> {
    assert_eq!(Result::Ok(1)?, 1);
    Ok(())
}

#[test]
fn offset_out_of_range_names_the_partition_and_its_bounds() {
    let error = Error::OffsetOutOfRange {
        partition: ("orders", 3).into(),
        requested: 9,
        log_start: 1,
        log_end: 4,
    };
    assert_eq!(
        error.to_string(),
        "offset 9 is out of range: orders-3 holds 1..4"
    );
}

#[test]
fn a_full_disk_is_an_error_of_its_own() {
    let full = Error::io(
        "append to",
        Path::new("x"),
        io::ErrorKind::StorageFull.into(),
    );
    assert!(matches!(full, Error::DiskFull { .. }));
    assert!(full.is_retriable());
    let other = Error::io("append to", Path::new("x"), io::Error::other("boom"));
    assert_eq!(other.to_string(), "cannot append to x: boom");
    assert!(!other.is_retriable());
}

#[test]
fn only_errors_of_the_system_have_a_source() {
    let source = Arc::new(io::Error::other("boom"));
    let sync = Error::SyncFailed {
        path: "p".into(),
        source: Arc::clone(&source),
    };
    assert_eq!(sync.source().unwrap().to_string(), "boom");
    let read = Error::io("read", Path::new("p"), io::Error::other("boom"));
    assert_eq!(read.source().unwrap().to_string(), "boom");
    let poisoned = Error::Poisoned {
        partition: ("orders", 3).into(),
        cause: source,
    };
    assert!(poisoned.source().is_none());
}

#[test]
fn damage_prints_its_place_and_the_offsets_around_it() {
    let damage = Corruption {
        partition: ("orders", 3).into(),
        path: "a.log".into(),
        position: 7,
        offsets: 3..9,
        reason: "the checksum is wrong".to_owned(),
    };
    assert_eq!(
        Error::Corrupt(Box::new(damage)).to_string(),
        "orders-3 is damaged at position 7 of a.log: the checksum is wrong; offsets 3 to 8 are \
         lost, reading can resume at 9"
    );
    let batch = OversizedBatch {
        partition: ("orders", 3).into(),
        path: "a.log".into(),
        position: 7,
        offsets: 3..9,
        limit: 99,
    };
    assert_eq!(
        Error::BatchTooLarge(Box::new(batch)).to_string(),
        "the batch of orders-3 at position 7 of a.log, offsets 3 to 8, decompresses to more than \
         99 bytes: open the log with a larger `LogConfig::max_decompressed_bytes`, or resume \
         reading at 9"
    );
}

#[test]
fn items_that_fail_are_kept_and_the_first_error_is_returned() {
    let mut numbers = vec![1, 2, 3, 4];
    let mut tried = Vec::new();
    let result = keep_failed(&mut numbers, |number| {
        tried.push(*number);
        match number % 2 {
            0 => Err(Error::UnknownPartition(TopicPartition::new("t", *number))),
            _ => Ok(()),
        }
    });
    assert_eq!((numbers, tried), (vec![2, 4], vec![1, 2, 3, 4]));
    assert!(matches!(result, Err(Error::UnknownPartition(id)) if id.partition == 2));
    assert!(keep_failed(&mut vec![1], |_| Ok(())).is_ok());
}
