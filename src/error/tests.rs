//! Size, texts and kinds of errors.

use super::*;

#[test]
fn an_error_is_small_and_can_be_sent_to_other_threads() {
    fn assert_sendable<T: Clone + Send + Sync + 'static>() {}
    assert_sendable::<Error>();
    assert!(size_of::<Error>() <= 64, "{}", size_of::<Error>());
}

#[test]
fn debug_prints_the_text_and_alternate_debug_prints_the_fields() {
    #[derive(Debug, thiserror::Error)]
    #[error("the cable is out")]
    struct Deep;
    #[derive(Debug, thiserror::Error)]
    #[error("the device is gone")]
    struct Cause(#[source] Deep);

    let error = Error::io("list", Path::new("data"), io::Error::other(Cause(Deep)));
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
