//! Invalid input returns a typed error and leaves the directory unchanged.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use annals::{Error, Log, LogConfig, Partition, TopicConfig};

use super::{assert_unchanged, one_partition, tree};

#[test]
fn invalid_topic_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let before = tree(dir.path());
    let (too_long, longest) = ("x".repeat(250), "y".repeat(249));
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "../x",
        "a b",
        "caf\u{e9}",
        "a\0b",
        "a\nb",
        &too_long,
        "__consumer_offsets",
        "__transaction_state",
    ] {
        for result in [
            log.create_topic(name, 1, TopicConfig::new()),
            log.open_topic(name, 1, TopicConfig::new()),
        ] {
            assert!(
                matches!(result, Err(Error::InvalidTopic { .. })),
                "{name:?}: {result:?}"
            );
        }
    }
    assert_unchanged(&before, &tree(dir.path()));
    log.create_topic(&longest, 1, TopicConfig::new())
        .unwrap()
        .append("a")
        .unwrap();
    log.delete_topic(&longest).unwrap();
}

#[test]
fn an_empty_path_is_refused() {
    let refused = [
        Log::open("").map(drop),
        Log::open_read_only("").map(drop),
        Partition::open("", TopicConfig::new()).map(drop),
    ];
    for result in refused {
        let text = result.unwrap_err().to_string();
        assert_eq!(
            text,
            "invalid setting `dir`: the path is empty; `.` is the current directory"
        );
    }
}

#[test]
fn topic_names_that_differ_only_in_dots_and_underscores_are_refused() {
    let log = Log::in_memory();
    one_partition(&log, "a.b_c");
    for name in ["a_b.c", "a.b.c", "a_b_c"] {
        let result = log.open_topic(name, 1, TopicConfig::new());
        assert!(
            matches!(&result, Err(Error::TopicCollides { existing, .. }) if existing == "a.b_c"),
            "{result:?}"
        );
        let text = result.unwrap_err().to_string();
        assert!(text.contains(name), "{text}");
        assert!(text.contains("\"a.b_c\""), "{text}");
    }
    assert!(matches!(
        log.create_topic("a.b_c", 1, TopicConfig::new()),
        Err(Error::TopicExists(_))
    ));
    assert_eq!(log.topics().len(), 1);
}

#[test]
fn invalid_numbers_of_partitions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.open_topic("t", 3, TopicConfig::new()).unwrap();
    let before = tree(dir.path());
    for count in [0, 1 << 31, u32::MAX] {
        let result = log.create_topic("u", count, TopicConfig::new());
        assert!(
            matches!(&result, Err(Error::InvalidConfig { key, .. }) if key == "partitions"),
            "{count}: {result:?}"
        );
    }
    for total in [0, 1, 2, 3, u32::MAX] {
        let result = topic.increase_partitions_to(total);
        assert!(
            matches!(&result, Err(Error::InvalidConfig { key, .. }) if key == "partitions"),
            "{total}: {result:?}"
        );
    }
    assert_unchanged(&before, &tree(dir.path()));
    assert_eq!(topic.partitions().len(), 3);
}

#[test]
fn unknown_topics_and_partitions_are_refused() {
    let log = Log::in_memory();
    let topic = one_partition(&log, "t");
    assert!(matches!(log.topic("u"), Err(Error::UnknownTopic(name)) if &*name == "u"));
    assert!(matches!(log.delete_topic("u"), Err(Error::UnknownTopic(_))));
    for index in [1, u32::MAX] {
        assert!(
            matches!(topic.partition(index), Err(Error::UnknownPartition(id)) if id.partition == index)
        );
    }
}

#[test]
fn invalid_settings_are_refused_before_the_topic_is_looked_up() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    one_partition(&log, "t");
    let before = tree(dir.path());
    let wrong = TopicConfig::new()
        .set("min.compaction.lag.ms", "2")
        .unwrap()
        .set("max.compaction.lag.ms", "1")
        .unwrap();
    for name in ["t", "u"] {
        assert!(
            matches!(
                log.open_topic(name, 1, wrong.clone()),
                Err(Error::InvalidConfig { .. })
            ),
            "{name}"
        );
        assert!(
            matches!(
                log.open_topic(name, 0, TopicConfig::new()),
                Err(Error::InvalidConfig { .. })
            ),
            "{name}"
        );
    }
    assert!(matches!(
        log.topic("t").unwrap().update_config(wrong),
        Err(Error::InvalidConfig { .. })
    ));
    assert_unchanged(&before, &tree(dir.path()));
    let refused = Log::builder(dir.path().join("new"))
        .config(LogConfig::new().max_open_files(0))
        .open();
    assert!(matches!(refused, Err(Error::InvalidConfig { .. })));
    assert!(!dir.path().join("new").exists());
}

#[test]
fn paths_that_are_not_a_log_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes.txt");
    fs::write(&file, "x").unwrap();
    let before = tree(dir.path());
    for place in [dir.path(), &file, &file.join("data")] {
        let result = Log::open(place);
        assert!(
            matches!(result, Err(Error::NotALog { .. })),
            "{}: {result:?}",
            place.display()
        );
    }
    for place in [dir.path().join("nowhere"), dir.path().to_owned(), file] {
        let result = Log::open_read_only(&place);
        assert!(
            matches!(result, Err(Error::NotALog { .. })),
            "{}: {result:?}",
            place.display()
        );
    }
    for place in [
        dir.path().to_owned(),
        dir.path().join("notes.txt"),
        dir.path().join("notes.txt").join("wal"),
    ] {
        let refused = Partition::open(&place, TopicConfig::new());
        assert!(
            matches!(refused, Err(Error::NotALog { .. })),
            "{}: {refused:?}",
            place.display()
        );
    }
    assert_unchanged(&before, &tree(dir.path()));
}

#[test]
fn a_directory_without_permission_is_an_io_error() {
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
    // A privileged user can read the directory all the same. Skip the check then.
    if fs::read_dir(&closed).is_err() {
        for result in [
            Log::open(&closed),
            Log::open_read_only(&closed),
            Log::open(closed.join("data")),
        ] {
            assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
        }
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(tree(&closed).is_empty());
}

/// Replaces a part of a topic file and updates the checksum.
fn rewrite_topic_file(text: &str, from: &str, to: &str) -> String {
    let (lines, _) = text.rsplit_once("crc=").unwrap();
    let lines = lines.replace(from, to);
    format!(
        "{lines}crc={:08x}\n",
        crc_fast::crc32_iso_hdlc(lines.as_bytes())
    )
}

#[test]
fn topic_files_of_a_later_version_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    one_partition(&log, "t");
    log.close().unwrap();
    let file = dir.path().join("t.topic");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(rewrite_topic_file(&text, "", ""), text);
    fs::write(&file, rewrite_topic_file(&text, "version=1", "version=2")).unwrap();
    let before = tree(dir.path());
    for result in [Log::open(dir.path()), Log::open_read_only(dir.path())] {
        assert!(
            matches!(&result, Err(Error::Unsupported { path, .. }) if path.ends_with("t.topic")),
            "{result:?}"
        );
    }
    assert_unchanged(&before, &tree(dir.path()));
}

#[test]
fn a_read_only_log_refuses_writes() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    one_partition(&log, "t").append("a").unwrap();
    log.close().unwrap();
    let before = tree(dir.path());
    let log = Log::open_read_only(dir.path()).unwrap();
    let topic = log.topic("t").unwrap();
    let is_refused =
        |result: Result<(), Error>| assert!(matches!(result, Err(Error::ReadOnly)), "{result:?}");
    is_refused(topic.append("b").map(drop));
    is_refused(topic.update_config(TopicConfig::new().retention(None)));
    is_refused(topic.increase_partitions_to(2));
    is_refused(log.create_topic("u", 1, TopicConfig::new()).map(drop));
    is_refused(log.open_topic("u", 1, TopicConfig::new()).map(drop));
    is_refused(log.delete_topic("t"));
    is_refused(log.maintain().map(drop));
    is_refused(
        topic
            .partition(0)
            .unwrap()
            .delete_records_before(1)
            .map(drop),
    );
    is_refused(topic.partition(0).unwrap().truncate_to(0));
    assert!(log.open_topic("t", 1, TopicConfig::new()).is_ok());
    log.close().unwrap();
    assert_unchanged(&before, &tree(dir.path()));
}
