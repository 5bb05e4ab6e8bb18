//! Names of files and directories. All of them are made and parsed here.
//!
//! | name | file or directory |
//! | --- | --- |
//! | `<topic>-<partition>/` | a partition, split at the last dash, because a topic name may contain dashes |
//! | `<topic>-<partition>.<32 hex digits>-delete/` | a partition that is being deleted (or `-stray`, `-future`), its topic cut to fit |
//! | `<base offset, 20 digits>.log` | the records of a segment; `.index`, `.timeindex` and `.txnindex` are its indexes |
//! | `<base offset>.log.cut.deleted` | the last segment after a cut that is not finished |
//! | `<offset, 20 digits>.snapshot` | the producer state up to that offset |
//! | `<base offset>-<position>.torn` | bytes that recovery cut off the end of the log, and kept |
//! | `<base offset>.log.torn` | a segment after the end of the log, kept by recovery; `.2.torn` and so on if the name is taken |
//! | `<topic>.topic` | the topic file of annals |
//! | `<topic>.gone` | the topic file of a topic that is being deleted |
//! | `<16 hex digits>.tmp` | a file that is being written, to be renamed when it is complete |
//!
//! A parser accepts exactly the names that its maker makes and that a broker writes. It returns
//! `None` for every other name: such files do not belong to us, and callers leave them alone.

use crate::topic_partition::TopicPartition;

/// The topic of the committed positions.
pub(crate) const COMMITTED_OFFSETS: &str = "__consumer_offsets";
/// The topic with the states of the transactional ids.
pub(crate) const TRANSACTION_STATE: &str = "__transaction_state";
/// The ending of a file that waits for its removal.
pub(crate) const DELETED: &str = ".deleted";
/// The ending of the output of a compaction until it counts.
pub(crate) const CLEANED: &str = ".cleaned";
/// The ending of the output of a compaction that counts, and has yet to get its name.
pub(crate) const SWAP: &str = ".swap";
/// The ending of the last segment after a cut that was promised, and has yet to be finished. A
/// broker removes the file, and so does not make the cut.
pub(crate) const CUT: &str = ".cut.deleted";
/// The suffix of a segment's records.
pub(crate) const LOG: &str = "log";
/// The suffix of a segment's offset index.
pub(crate) const OFFSET_INDEX: &str = "index";
/// The suffix of a segment's time index.
pub(crate) const TIME_INDEX: &str = "timeindex";
/// The suffix of a segment's transaction index.
pub(crate) const TRANSACTION_INDEX: &str = "txnindex";
/// The suffix of a producer snapshot.
pub(crate) const SNAPSHOT: &str = "snapshot";
/// The suffix of bytes and files that recovery cut off the end of a log.
pub(crate) const TORN: &str = "torn";
/// The suffixes of a segment's indexes.
pub(crate) const INDEXES: [&str; 3] = [OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX];
/// The suffixes of all files of a segment. The first is that of the `.log`, without which the
/// segment does not exist.
pub(crate) const SEGMENT: [&str; 5] = [LOG, OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX, SNAPSHOT];
/// A marker that exists only while the directory is closed after a clean shutdown.
pub(crate) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// The file that a process holds locked while it has the directory open.
pub(crate) const LOCK: &str = ".lock";
/// The ids of cluster, node and directory.
pub(crate) const META_PROPERTIES: &str = "meta.properties";
/// A checkpoint of the recovery points: everything below these offsets is on the device.
pub(crate) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// A checkpoint of the log starts that lie above the first segment's base offset.
pub(crate) const LOG_STARTS: &str = "log-start-offset-checkpoint";
/// A checkpoint that only brokers write. If it exists, a broker was the last to use the directory.
pub(crate) const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// A checkpoint of the first offset that was never compacted, for each partition.
pub(crate) const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
/// The first offset of each leader epoch, in a partition's directory.
pub(crate) const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
/// The topic id, in a partition's directory.
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
/// The lengths and checksums of sealed indexes, in a partition's directory.
pub(crate) const INDEX_DIGESTS: &str = "index-digests";
/// The settings that a topic file would hold, in the directory of a partition that is opened
/// without a log.
pub(crate) const LONE_PARTITION: &str = "lone-partition";
/// The suffix of a topic file, `<topic>.topic`.
pub(crate) const TOPIC: &str = "topic";
/// The suffix that a topic file has while its topic is being deleted.
pub(crate) const GONE: &str = "gone";
/// The end of the name of a partition's directory that is being deleted.
pub(crate) const DELETED_DIR: &str = "-delete";
/// The end of the name of a partition's directory that a broker's controller did not know.
pub(crate) const STRAY_DIR: &str = "-stray";
/// The end of the name of a partition's directory that a broker was moving between its log
/// directories.
pub(crate) const FUTURE_DIR: &str = "-future";

/// The greatest length of a topic name. It ensures that `<name>-<partition>` and `<name>.topic` fit
/// into a file name.
pub(crate) const MAX_TOPIC_BYTES: usize = 249;

const OFFSET_DIGITS: usize = 20;
const UNIQUE_DIGITS: usize = 32;
const TEMPORARY_DIGITS: usize = 16;
const MAX_NAME_BYTES: usize = 255;

/// Returns the name of a segment's file, such as `00000000000000000042.log`.
pub(crate) fn segment_file(base_offset: u64, suffix: &str) -> String {
    format!("{base_offset:020}.{suffix}")
}

/// Splits the name of a segment's file or snapshot into the offset and the rest after the first dot
/// (`log`, `index.deleted`).
pub(crate) fn parse_segment_file(name: &str) -> Option<(u64, &str)> {
    let (offset, suffix) = name.split_once('.')?;
    if offset.len() != OFFSET_DIGITS {
        return None;
    }
    let offset = parse_decimal(offset)?;
    i64::try_from(offset).ok()?;
    Some((offset, suffix))
}

/// Returns the name for the bytes of a segment from `position` on, such as
/// `00000000000000000042-1234.torn`.
pub(crate) fn torn_file(base_offset: u64, position: u32) -> String {
    format!("{base_offset:020}-{position}.{TORN}")
}

/// Returns the name to use if `name` is taken: `<stem>.<number>.torn`.
pub(crate) fn another_torn_file(name: &str, number: u32) -> String {
    let stem = name
        .strip_suffix(TORN)
        .and_then(|stem| stem.strip_suffix('.'))
        .unwrap_or(name);
    format!("{stem}.{number}.{TORN}")
}

/// Splits the name of a partition's directory, such as `orders-0`, at its last dash.
///
/// Returns `None` for every other name: an illegal topic, a number such as `+1`, `01` or one that
/// is too large, and the directories that end with `-delete`, `-stray` or `-future`.
pub(crate) fn parse_partition_dir(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    check_topic(topic).ok()?;
    Some(TopicPartition::new(topic, parse_partition(partition)?))
}

/// Returns [`DELETED_DIR`], [`STRAY_DIR`] or [`FUTURE_DIR`] for the name of a partition's directory
/// that ends with it: `<topic>-<p>.<32 hex>-delete`, `-stray` or `-future`.
pub(crate) fn parse_leaving_dir(name: &str) -> Option<&'static str> {
    let suffix = [DELETED_DIR, STRAY_DIR, FUTURE_DIR]
        .into_iter()
        .find(|suffix| name.ends_with(suffix))?;
    let (partition_dir, unique) = name.strip_suffix(suffix)?.rsplit_once('.')?;
    let (topic, partition) = partition_dir.rsplit_once('-')?;
    parse_partition(partition)?;
    // A topic that was cut to fit may have become a name that is illegal for a topic, such as `.`,
    // so we check only its characters.
    (topic.bytes().all(is_legal) && is_hex(unique, UNIQUE_DIGITS)).then_some(suffix)
}

/// Returns the partition of a directory that a broker set aside, `<topic>-<p>.<32 hex>-stray`, and
/// whether its topic may have been cut to fit.
pub(crate) fn parse_stray_dir(name: &str) -> Option<(TopicPartition, bool)> {
    parse_leaving_dir(name).filter(|suffix| *suffix == STRAY_DIR)?;
    let (partition_dir, _) = name.strip_suffix(STRAY_DIR)?.rsplit_once('.')?;
    let (topic, partition) = partition_dir.rsplit_once('-')?;
    Some((
        TopicPartition::new(topic, parse_partition(partition)?),
        name.len() >= MAX_NAME_BYTES,
    ))
}

/// Returns `<topic>-<p>.<32 hex>-delete`, with the topic cut so that the name has at most 255
/// bytes.
pub(crate) fn deleted_partition_dir(partition: &TopicPartition, unique: u128) -> String {
    let end = format!("-{}.{unique:032x}{DELETED_DIR}", partition.partition);
    let room = MAX_NAME_BYTES.saturating_sub(end.len());
    let topic = partition.topic.get(..room).unwrap_or(&partition.topic);
    format!("{topic}{end}")
}

/// Returns the name of a topic file, such as `orders.topic`.
pub(crate) fn topic_file(topic: &str) -> String {
    format!("{topic}.{TOPIC}")
}

/// Returns the topic of a topic file.
pub(crate) fn parse_topic_file(name: &str) -> Option<&str> {
    let topic = name.strip_suffix(TOPIC)?.strip_suffix('.')?;
    check_topic(topic).ok().map(|()| topic)
}

/// Returns the name that a topic file has while its topic is being deleted, such as `orders.gone`.
pub(crate) fn gone_file(topic: &str) -> String {
    format!("{topic}.{GONE}")
}

/// Returns the topic of a file that marks a topic as being deleted.
pub(crate) fn parse_gone_file(name: &str) -> Option<&str> {
    let topic = name.strip_suffix(GONE)?.strip_suffix('.')?;
    check_topic(topic).ok().map(|()| topic)
}

/// Returns `Ok` for a legal topic name, or else the reason why it is illegal.
pub(crate) fn check_topic(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("it is empty")
    } else if name == "." || name == ".." {
        Err("`.` and `..` are directories")
    } else if !name.bytes().all(is_legal) {
        Err("only ASCII letters, digits, `.`, `_` and `-` are allowed")
    } else if name.len() > MAX_TOPIC_BYTES {
        Err("it is longer than 249 characters")
    } else {
        Ok(())
    }
}

/// Returns whether two names cannot both be topics of one log.
///
/// Kafka's metrics do not distinguish `.` from `_`. A file system that does not distinguish `a`
/// from `A` would store both topics in the same files.
pub(crate) fn collides(a: &str, b: &str) -> bool {
    let fold = |byte: u8| match byte {
        b'.' => b'_',
        _ if cfg!(target_vendor = "apple") => byte.to_ascii_lowercase(),
        _ => byte,
    };
    a.bytes().map(fold).eq(b.bytes().map(fold))
}

/// Returns whether the name is that of a file that is to replace another one: `<16 hex
/// digits>.tmp`. The file is left over if the process stops in the meantime.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.strip_suffix(".tmp")
        .is_some_and(|unique| is_hex(unique, TEMPORARY_DIGITS))
}

/// Returns whether Kafka reserves the topic for itself.
pub(crate) fn is_internal_topic(name: &str) -> bool {
    matches!(
        name,
        COMMITTED_OFFSETS | TRANSACTION_STATE | "__share_group_state" | "__cluster_metadata"
    )
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Parses the number of a partition, at most `i32::MAX`. Leading zeros are refused, so that each
/// partition has only one possible directory.
fn parse_partition(text: &str) -> Option<u32> {
    if text.len() > 1 && text.starts_with('0') {
        return None;
    }
    let number = u32::try_from(parse_decimal(text)?).ok()?;
    i32::try_from(number).ok().map(|_| number)
}

/// Parses a number that consists of digits only; `str::parse` also accepts a sign.
fn parse_decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNIQUE: u128 = 0x00ff_0000_0000_0000_0000_0000_0000_00aa;

    #[test]
    fn a_segment_file_has_twenty_digits() {
        assert_eq!(segment_file(42, LOG), "00000000000000000042.log");
        assert_eq!(
            segment_file(i64::MAX.unsigned_abs(), OFFSET_INDEX),
            "09223372036854775807.index"
        );
        assert_eq!(
            parse_segment_file("00000000000000000042.log"),
            Some((42, "log"))
        );
        assert_eq!(
            parse_segment_file("00000000000000000042.index.deleted"),
            Some((42, "index.deleted"))
        );
        assert_eq!(
            parse_segment_file("09223372036854775807.snapshot"),
            Some((i64::MAX.unsigned_abs(), "snapshot"))
        );
    }

    #[test]
    fn other_names_do_not_parse_as_segment_files() {
        for name in [
            "",
            ".",
            ".log",
            "42.log",
            "000000000000000000042.log",
            "00000000000000000042",
            "+0000000000000000042.log",
            "0000000000000000004x.log",
            "09223372036854775808.log",
            "99999999999999999999.log",
            "00000000000000000042-17.torn",
            "partition.metadata",
            "leader-epoch-checkpoint",
        ] {
            assert_eq!(parse_segment_file(name), None, "{name}");
        }
    }

    #[test]
    fn a_torn_file_is_named_by_offset_and_position() {
        assert_eq!(torn_file(42, 17), "00000000000000000042-17.torn");
        assert_eq!(
            another_torn_file("00000000000000000042-17.torn", 2),
            "00000000000000000042-17.2.torn"
        );
    }

    #[test]
    fn a_partition_directory_is_split_at_its_last_dash() {
        for (name, topic, partition) in [
            ("orders-0", "orders", 0),
            ("a-b-10", "a-b", 10),
            ("a.name_with-all-2-0", "a.name_with-all-2", 0),
            ("--1", "-", 1),
            ("t-2147483647", "t", 2_147_483_647),
        ] {
            let parsed = parse_partition_dir(name).unwrap();
            assert_eq!((&*parsed.topic, parsed.partition), (topic, partition));
            assert_eq!(parsed.to_string(), name);
        }
    }

    #[test]
    fn other_names_do_not_parse_as_partition_directories() {
        let deleted = deleted_partition_dir(&TopicPartition::new("t", 0), UNIQUE);
        for name in [
            "",
            "t",
            "t-",
            "-0",
            "t-01",
            "t-00",
            "t-+1",
            "t--",
            "t-1x",
            "t-2147483648",
            "t-99999999999",
            "a b-0",
            "..-0",
            ".-0",
            "../x-0",
            "lost+found",
            &deleted,
        ] {
            assert_eq!(parse_partition_dir(name), None, "{name}");
        }
    }

    #[test]
    fn a_leaving_directory_is_recognized_by_its_suffix() {
        let partition = TopicPartition::new("a-b", 7);
        let deleted = deleted_partition_dir(&partition, UNIQUE);
        assert_eq!(deleted, "a-b-7.00ff00000000000000000000000000aa-delete");
        assert_eq!(parse_leaving_dir(&deleted), Some("-delete"));
        assert_eq!(
            parse_leaving_dir(&deleted.replace("-delete", "-stray")),
            Some("-stray")
        );
        assert_eq!(
            parse_leaving_dir(&deleted.replace("-delete", "-future")),
            Some("-future")
        );
        for name in [
            "",
            "-delete",
            "a-delete",
            "a-0",
            "a-0.ff-delete",
            &deleted.replace("-7", ""),
            &deleted.replace("aa", "AA"),
            "a-0.-stray",
        ] {
            assert_eq!(parse_leaving_dir(name), None, "{name}");
        }
    }

    #[test]
    fn a_stray_directory_parses_to_its_partition() {
        let stray = |topic: &str| {
            deleted_partition_dir(&TopicPartition::new(topic, 7), UNIQUE)
                .replace("-delete", "-stray")
        };
        assert_eq!(
            parse_stray_dir(&stray("a-b")),
            Some((TopicPartition::new("a-b", 7), false))
        );
        // `-stray` is one byte shorter than `-delete`.
        let cut = format!("{}-7.{UNIQUE:032x}-stray", "x".repeat(214));
        assert_eq!(
            parse_stray_dir(&cut),
            Some((TopicPartition::new("x".repeat(214), 7), true))
        );
        for name in [
            "a-b-7",
            "a-b-7.stray",
            &deleted_partition_dir(&TopicPartition::new("a", 0), UNIQUE),
        ] {
            assert_eq!(parse_stray_dir(name), None, "{name}");
        }
    }

    #[test]
    fn the_longest_topic_is_cut_in_the_name_of_a_deleted_directory() {
        let topic = "x".repeat(MAX_TOPIC_BYTES);
        let deleted = deleted_partition_dir(
            &TopicPartition::new(topic.as_str(), 2_147_483_647),
            u128::MAX,
        );
        assert_eq!(deleted.len(), 255);
        assert_eq!(parse_leaving_dir(&deleted), Some(DELETED_DIR));
        assert_eq!(topic_file(&topic).len(), 255);
    }

    #[test]
    fn illegal_topic_names_are_refused() {
        let longest = "x".repeat(249);
        for good in [
            "t",
            "a-b",
            "a.b_c-D9",
            "...",
            "-",
            "__consumer_offsets",
            &longest,
        ] {
            assert_eq!(check_topic(good), Ok(()), "{good}");
        }
        let too_long = "x".repeat(250);
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "a b",
            "a\0",
            "a\n",
            "a:b",
            "caf\u{e9}",
            "\u{1f600}",
            &too_long,
        ] {
            assert!(check_topic(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_that_differ_only_in_dots_and_underscores_collide() {
        for (a, b) in [("a.b", "a_b"), ("a.b.c", "a.b_c"), ("same", "same")] {
            assert!(collides(a, b), "{a} and {b}");
        }
        for (a, b) in [("a-b", "a_b"), ("a.b", "a_bc"), ("", ".")] {
            assert!(!collides(a, b), "{a} and {b}");
        }
        assert_eq!(collides("Orders", "orders"), cfg!(target_vendor = "apple"));
    }

    #[test]
    fn topic_files_are_recognized_by_their_suffix() {
        assert_eq!(parse_topic_file("orders.topic"), Some("orders"));
        assert_eq!(parse_topic_file("a.topic.topic"), Some("a.topic"));
        for name in [
            "",
            ".topic",
            "...topic",
            "orderstopic",
            "orders.topic.tmp",
            "a b.topic",
        ] {
            assert_eq!(parse_topic_file(name), None, "{name}");
        }
    }

    #[test]
    fn only_our_own_temporary_files_are_recognized() {
        assert!(is_temporary("00000000000000ff.tmp"));
        for name in ["ff.tmp", "meta.properties.tmp", "00000000000000FF.tmp"] {
            assert!(!is_temporary(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_that_is_made_is_parsed_back(
            topic in "[a-zA-Z0-9._-]{1,249}",
            partition in 0..=i32::MAX.unsigned_abs(),
            unique: u128,
            base in 0..=i64::MAX.unsigned_abs(),
        ) {
            prop_assume!(check_topic(&topic).is_ok());
            let id = TopicPartition::new(topic.as_str(), partition);
            prop_assert_eq!(parse_partition_dir(&id.to_string()), Some(id.clone()));
            let deleted = deleted_partition_dir(&id, unique);
            prop_assert!(deleted.len() <= 255);
            prop_assert_eq!(parse_leaving_dir(&deleted), Some(DELETED_DIR));
            prop_assert_eq!(parse_partition_dir(&deleted), None);
            let (topic_file, segment_file) = (topic_file(&topic), segment_file(base, TIME_INDEX));
            prop_assert_eq!(parse_topic_file(&topic_file), Some(topic.as_str()));
            prop_assert_eq!(parse_segment_file(&segment_file), Some((base, TIME_INDEX)));
        }

        #[test]
        fn a_name_that_parses_is_the_one_that_would_be_made(
            name in "\\PC{0,300}",
            dashed in "[a-z0-9.-]{0,60}(-delete|-stray|-future|-[0-9]{0,12})",
        ) {
            for name in [name, dashed] {
                if let Some(partition) = parse_partition_dir(&name) {
                    prop_assert_eq!(partition.to_string(), name.clone());
                }
                if let Some((offset, suffix)) = parse_segment_file(&name) {
                    prop_assert_eq!(segment_file(offset, suffix), name.clone());
                }
                let _ = (parse_leaving_dir(&name), parse_topic_file(&name), is_temporary(&name));
            }
        }
    }
}
