//! Tests of `contents`.

use super::*;
use crate::storage::{Access, MemoryDisk};

fn disk(dirs: &[&str], files: &[impl AsRef<str>]) -> MemoryDisk {
    let disk = MemoryDisk::default();
    disk.create_dir_all(Path::new("/data")).unwrap();
    for dir in dirs {
        disk.create_dir_all(&Path::new("/data").join(dir)).unwrap();
    }
    for file in files
        .iter()
        .map(AsRef::as_ref)
        .filter(|file| !file.is_empty())
    {
        drop(
            disk.open(&Path::new("/data").join(file), Access::CreateNew)
                .unwrap(),
        );
    }
    disk
}

fn read(dirs: &[&str], files: &[impl AsRef<str>]) -> Result<Contents> {
    Contents::read(&disk(dirs, files), Path::new("/data"))
}

#[test]
fn names_in_a_directory_are_sorted_by_their_meaning() {
    let deleted = "orders-1.0123456789abcdef0123456789abcdef-delete";
    let stray = "orders-2.0123456789abcdef0123456789abcdef-stray";
    let contents = read(
        &[
            "orders-0",
            "orders-10",
            "a-b-3",
            deleted,
            stray,
            "remote-log-index-cache",
        ],
        &[
            "a-b-3/partition.metadata",
            "orders.topic",
            "old.gone",
            ".lock",
            "meta.properties",
            "0123456789abcdef.tmp",
            "notes.txt",
        ],
    )
    .unwrap();
    let partitions = [
        ("a-b".to_owned(), BTreeSet::from([3])),
        ("orders".to_owned(), BTreeSet::from([0, 10])),
    ];
    assert_eq!(contents.partitions, BTreeMap::from(partitions));
    assert_eq!(contents.topic_files, BTreeSet::from(["orders".to_owned()]));
    assert_eq!(contents.gone, BTreeSet::from(["old".to_owned()]));
    assert_eq!(contents.deleted_dirs, [deleted]);
    assert_eq!(contents.temporary, ["0123456789abcdef.tmp"]);
    assert_eq!(
        contents.stray_of(&TopicPartition::new("orders", 2)),
        Some(stray)
    );
    assert_eq!(
        contents.files,
        BTreeSet::from([".lock", "meta.properties"].map(str::to_owned))
    );
    assert_eq!(
        contents.foreign,
        BTreeMap::from([("notes.txt".to_owned(), false)])
    );
    assert!(contents.is_log());
}

#[test]
fn unknown_directories_are_foreign() {
    let dirs = [
        "lost+found",
        "src",
        ".cache",
        "orders",
        "orders-01",
        "orders.topic",
        "backup",
    ];
    for dir in dirs {
        let topic_file = if dir == "orders.topic" {
            "orders-0/partition.metadata"
        } else {
            "orders.topic"
        };
        let contents = read(&["orders-0", dir], &[topic_file, "meta.properties"]).unwrap();
        assert_eq!(contents.foreign, BTreeMap::from([(dir.to_owned(), true)]));
        assert!(contents.check_is_log(Path::new("/data")).is_ok());
    }
}

#[test]
fn a_directory_without_a_topic_must_have_files_of_a_partition() {
    let inside = |file| {
        let disk = disk(&["backup-2024"], &[file]);
        Contents::read(&disk, Path::new("/data")).unwrap()
    };
    let is_foreign = |contents: &Contents| {
        contents.partitions.is_empty() && contents.foreign.contains_key("backup-2024")
    };
    assert!(is_foreign(&inside("backup-2024/photo.jpg")));
    assert!(!is_foreign(&inside("backup-2024/00000000000000000000.log")));
    assert!(!is_foreign(&inside("backup-2024/partition.metadata")));
    assert!(!is_foreign(&inside("backup.topic")));
    assert!(
        is_foreign(&read(&["backup-2024"], &[] as &[&str]).unwrap()),
        "an empty directory"
    );
    let neighbours = read(&["backup-0", "backup-1"], &["backup-0/partition.metadata"]).unwrap();
    assert_eq!(
        neighbours.partitions["backup"],
        BTreeSet::from([0, 1]),
        "a killed broker leaves an empty directory"
    );
}

#[test]
fn only_an_empty_directory_can_become_a_log() {
    let check =
        |dirs: &[&str], files: &[&str]| read(dirs, files).unwrap().check_is_log(Path::new("/data"));
    assert!(check(&[], &[]).is_ok());
    assert!(check(&[], &[".gitkeep"]).is_ok());
    assert!(check(&[], &[".lock", "notes.txt"]).is_ok());
    let reason = |dirs: &[&str], files: &[&str]| match check(dirs, files) {
        Err(Error::NotALog { path, reason }) if path == Path::new("/data") => reason.into_owned(),
        other => panic!("{other:?}"),
    };
    assert!(reason(&[], &["notes.txt"]).starts_with("it contains \"notes.txt\" and no log"));
    assert!(
        reason(&[".git", "b", "c"], &["backup-20240131", ".x"])
            .contains("\".git\", \"b\", \"backup-20240131\" and 1 more")
    );
    assert!(reason(&["lost+found"], &[]).contains("lost+found"));
    assert!(reason(&["wal-0"], &["wal-0/lone-partition"]).contains("wal-0"));
}

#[test]
fn a_single_partition_is_not_a_log() {
    let segment = "00000000000000000000.log";
    let single: [&[&str]; 6] = [
        &[
            "lone-partition",
            ".lock",
            ".kafka_cleanshutdown",
            "recovery-point-offset-checkpoint",
        ],
        &["leader-epoch-checkpoint", segment, "partition.metadata"],
        &[segment, "00000000000000000000.index"],
        &[segment, ".lock"],
        &["lone-partition", segment, "meta.properties"],
        &["partition.metadata"],
    ];
    for files in single {
        let contents = read(&[], files).unwrap();
        for check in [
            contents.check_is_log(Path::new("/data")),
            contents.check_is_log_already(Path::new("/data")),
        ] {
            assert!(
                check.is_err_and(|error| error.to_string().contains("use `Partition::open`")),
                "{files:?}"
            );
        }
        assert!(
            contents.check_is_partition(Path::new("/data")).is_ok(),
            "{files:?}"
        );
    }
    let logs: [(&[&str], &[&str]); 5] = [
        (&[], &["meta.properties", segment]),
        (&["t-0"], &["t.topic", "lone-partition", segment]),
        (
            &["t-0"],
            &["t-0/partition.metadata", "recovery-point-offset-checkpoint"],
        ),
        (&[], &["old.gone", ".lock"]),
        (&[], &["meta.properties"]),
    ];
    for (dirs, files) in logs {
        let contents = read(dirs, files).unwrap();
        assert!(
            contents.check_is_log(Path::new("/data")).is_ok(),
            "{files:?}"
        );
        assert!(
            contents
                .check_is_partition(Path::new("/data"))
                .is_err_and(|error| error.to_string().contains("`Log::open`"))
        );
    }
    let new = read(&[], &[".lock", ".gitkeep"]).unwrap();
    assert!(new.check_is_partition(Path::new("/data")).is_ok());
    let other = read(&["photos"], &["notes.txt"])
        .unwrap()
        .check_is_partition(Path::new("/data"))
        .unwrap_err();
    assert!(
        other
            .to_string()
            .contains("\"notes.txt\", \"photos\" and no partition"),
        "{other}"
    );
}

#[test]
fn a_stray_directory_is_found_by_its_partition() {
    let long = "x".repeat(249);
    let (stray, cut) = (
        "t-1.0123456789abcdef0123456789abcdef-stray",
        format!("{}-0.{:032x}-stray", "x".repeat(214), 7),
    );
    let contents = read(&[stray, &cut], &[] as &[&str]).unwrap();
    assert_eq!(contents.stray_of(&TopicPartition::new("t", 1)), Some(stray));
    assert_eq!(contents.stray_of(&TopicPartition::new("t", 0)), None);
    assert_eq!(
        contents.stray_of(&TopicPartition::new(long, 0)),
        Some(&*cut)
    );
    assert!(contents.check_is_log(Path::new("/data")).is_ok());
}

#[test]
fn a_missing_directory_or_a_file_is_not_a_log() {
    let disk = disk(&[], &["file"]);
    for path in ["/nowhere", "/data/file"] {
        assert!(
            matches!(
                Contents::read(&disk, Path::new(path)),
                Err(Error::NotALog { .. })
            ),
            "{path}"
        );
    }
}
