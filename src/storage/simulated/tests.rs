//! Each way in which the disk loses, tears, fills up and fails.

use super::*;
use crate::storage::{read_file, replace_file};
use std::collections::BTreeSet;

fn disk_with(name: &str, bytes: &[u8]) -> SimulatedDisk {
    let disk = SimulatedDisk::new(7);
    replace_file(&disk, Path::new(name), bytes).unwrap();
    disk
}

fn content(disk: &SimulatedDisk, name: &str) -> Option<Vec<u8>> {
    read_file(disk, Path::new(name), 1 << 20).ok()
}

fn states(disk: &SimulatedDisk, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    disk.crash_states().map(|left| content(&left, name)).collect()
}

fn open(disk: &SimulatedDisk, name: &str) -> Arc<dyn StorageFile> {
    disk.open(Path::new(name), Access::OpenOrCreate).unwrap()
}

#[test]
fn unsynced_writes_are_lost_kept_or_longer_than_they_are() {
    let disk = disk_with("/f", b"ab");
    open(&disk, "/f").write_all_at(b"c", 2).unwrap();
    let expected = [&b"ab"[..], b"ab\0", b"abc"].map(|state| Some(state.to_vec()));
    assert_eq!(states(&disk, "/f"), expected.into());
}

#[test]
fn later_writes_may_be_there_without_earlier_ones() {
    let disk = disk_with("/f", b"--");
    let file = open(&disk, "/f");
    file.write_all_at(b"1", 0).unwrap();
    file.write_all_at(b"2", 1).unwrap();
    let expected = [b"--", b"1-", b"-2", b"12"].map(|state| Some(state.to_vec()));
    assert_eq!(states(&disk, "/f"), expected.into());
}

#[test]
fn writes_are_torn_at_the_borders_of_sectors() {
    let disk = disk_with("/f", &[0; 1024]);
    open(&disk, "/f").write_all_at(&[1; 600], 400).unwrap();
    let image = |first, second| {
        let parts = [vec![0; 400], vec![first; 112], vec![second; 488], vec![0; 24]];
        Some(parts.concat())
    };
    assert_eq!(states(&disk, "/f"), [image(0, 0), image(0, 1), image(1, 0), image(1, 1)].into());
}

#[test]
fn what_is_synced_stays() {
    let disk = disk_with("/f", b"a");
    let file = open(&disk, "/f");
    file.write_all_at(b"b", 1).unwrap();
    file.sync_data().unwrap();
    assert_eq!(states(&disk, "/f"), [Some(b"ab".to_vec())].into());
    assert!(file.bytes().is_err(), "a handle of before the crash");
}

#[test]
fn names_need_a_sync_of_their_directory() {
    let disk = SimulatedDisk::new(1);
    let file = open(&disk, "/f");
    file.write_all_at(b"a", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(states(&disk, "/f"), [None, Some(b"a".to_vec())].into());
}

#[test]
fn a_rename_is_the_old_or_the_new() {
    let disk = disk_with("/f", b"old");
    let new = open(&disk, "/t");
    new.write_all_at(b"new", 0).unwrap();
    new.sync_data().unwrap();
    disk.rename(Path::new("/t"), Path::new("/f")).unwrap();
    assert_eq!(states(&disk, "/f"), [b"old", b"new"].map(|state| Some(state.to_vec())).into());
}

#[test]
fn a_failed_sync_leaves_nothing_on_the_device() {
    let disk = disk_with("/f", b"a");
    let file = open(&disk, "/f");
    file.write_all_at(b"b", 1).unwrap();
    disk.fail_call(disk.calls(), io::Error::from_raw_os_error(5));
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    file.sync_data().unwrap();
    assert_eq!(content(&disk, "/f").unwrap(), b"ab");
    file.drop_cache(0).unwrap();
    assert_eq!(content(&disk, "/f").unwrap(), b"a\0");
    let left = disk.crash();
    assert_ne!(content(&left, "/f").unwrap(), b"ab");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = disk_with("/f", b"abc");
    disk.set_capacity(5);
    let file = open(&disk, "/g");
    let full = file.write_all_at(b"defg", 0).unwrap_err();
    assert_eq!((full.kind(), content(&disk, "/g").unwrap()), (ErrorKind::StorageFull, b"de".to_vec()));
    disk.remove_file(Path::new("/f")).unwrap();
    file.write_all_at(b"defg", 0).unwrap();
}

#[test]
fn a_killed_process_loses_locks_and_no_bytes() {
    let disk = disk_with("/f", b"a");
    let file = open(&disk, "/f");
    file.write_all_at(b"b", 1).unwrap();
    let _lock = disk.lock(Path::new("/l")).unwrap();
    assert_eq!(disk.lock(Path::new("/l")).unwrap_err().kind(), ErrorKind::WouldBlock);
    let left = disk.process_killed();
    assert_eq!(content(&left, "/f").unwrap(), b"ab");
    assert!(left.lock(Path::new("/l")).is_ok());
    assert!(file.write_all_at(b"c", 2).is_err());
    assert_eq!(states(&left, "/f").len(), 3, "what was not durable still is not");
}

#[test]
fn calls_fail_where_they_are_told_to() {
    let disk = disk_with("/f", b"abcd");
    let file = open(&disk, "/f");
    disk.fail_call_short(disk.calls(), ErrorKind::QuotaExceeded.into());
    assert_eq!(file.write_all_at(b"1234", 0).unwrap_err().kind(), ErrorKind::QuotaExceeded);
    assert_eq!(content(&disk, "/f").unwrap(), b"12cd");
    disk.fail_calls_from(disk.calls() + 1, ErrorKind::Interrupted.into());
    assert!(file.bytes().is_ok() && file.bytes().is_err() && disk.list(Path::new("/")).is_err());
    disk.heal();
    let mut read = [0; 4];
    disk.flip_on_read(disk.calls(), 8);
    file.read_at(&mut read, 0).unwrap();
    assert_eq!(&read, b"13cd");
    disk.flip_bits("/f", 3, 0xff).unwrap();
    assert_eq!(content(&disk, "/f").unwrap(), [b'1', b'2', b'c', b'd' ^ 0xff]);
}

#[test]
fn a_seed_gives_the_same_disk() {
    let left = |seed| {
        let disk = SimulatedDisk::new(seed);
        for number in 0..9_u8 {
            open(&disk, &format!("/{number}")).write_all_at(&[number; 5000], 0).unwrap();
        }
        disk.crash().fingerprint()
    };
    assert_eq!(left(3), left(3));
    assert_ne!(left(3), left(4));
}
