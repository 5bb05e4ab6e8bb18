//! The ways in which the simulated disk loses, tears and fails.

use std::collections::BTreeSet;

use super::*;
use crate::storage::{read_file, replace_file};

fn disk_with(name: &str, bytes: &[u8]) -> SimulatedDisk {
    let disk = SimulatedDisk::new(7);
    replace_file(&disk, Path::new(name), bytes).unwrap();
    disk
}

fn content(disk: &SimulatedDisk, name: &str) -> Option<Vec<u8>> {
    read_file(disk, Path::new(name), 1 << 20).ok()
}

fn states(disk: &SimulatedDisk, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    states_in_order(disk, name).into_iter().collect()
}

/// Returns the content of the file after each power cut, in the order of `crash_states`. The order
/// matters, since a test reports the number of the state that failed.
fn states_in_order(disk: &SimulatedDisk, name: &str) -> Vec<Option<Vec<u8>>> {
    disk.crash_states()
        .map(|left| content(&left, name))
        .collect()
}

fn open(disk: &SimulatedDisk, name: &str) -> Arc<dyn StorageFile> {
    disk.open(Path::new(name), Access::OpenOrCreate).unwrap()
}

#[test]
fn an_unsynced_write_is_lost_kept_or_only_extends_the_file() {
    let disk = disk_with("/f", b"ab");
    open(&disk, "/f").write_all_at(b"c", 2).unwrap();
    let expected = [&b"ab"[..], b"ab\0", b"abc"].map(|state| Some(state.to_vec()));
    assert_eq!(states(&disk, "/f"), expected.into());
}

#[test]
fn a_power_cut_may_keep_later_writes_without_earlier_ones() {
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
        let parts = [
            vec![0; 400],
            vec![first; 112],
            vec![second; 488],
            vec![0; 24],
        ];
        Some(parts.concat())
    };
    assert_eq!(
        states(&disk, "/f"),
        [image(0, 0), image(0, 1), image(1, 0), image(1, 1)].into()
    );
}

#[test]
fn a_write_inside_a_sector_is_never_torn() {
    for (position, count) in [(0, 1), (0, 512), (512, 512), (1000, 24), (1535, 1)] {
        let disk = disk_with("/f", &[0; 2048]);
        open(&disk, "/f")
            .write_all_at(&vec![1; count], position as u64)
            .unwrap();
        let mut written = vec![0; 2048];
        written[position..position + count].fill(1);
        assert_eq!(
            states_in_order(&disk, "/f"),
            [Some(vec![0; 2048]), Some(written)],
            "{count} bytes at {position}"
        );
    }
}

#[test]
fn a_write_across_pages_is_torn_at_sectors_or_at_pages() {
    let disk = disk_with("/f", &[0; 8192]);
    // The write covers two sectors of the first page and one of the second.
    open(&disk, "/f")
        .write_all_at(&[1; 1536], 4096 - 1024)
        .unwrap();
    let image = |sectors: [u8; 3]| {
        let sectors = sectors.map(|byte| vec![byte; 512]).concat();
        Some([vec![0; 4096 - 1024], sectors, vec![0; 4096 - 512]].concat())
    };
    let by_sectors = (0..8_u8).map(|way| [way / 4, way / 2 % 2, way % 2]);
    let by_pages = (0..4_u8).map(|way| [way / 2, way / 2, way % 2]);
    let expected: Vec<_> = [[0; 3], [1; 3]]
        .into_iter()
        .chain(by_sectors)
        .chain(by_pages)
        .map(image)
        .collect();
    let found = states_in_order(&disk, "/f");
    assert_eq!(found.len(), 14);
    assert!(found == expected, "the images differ");
}

#[test]
fn the_first_crash_state_has_only_the_synced_bytes() {
    let disk = disk_with("/f", b"ab");
    let file = open(&disk, "/f");
    file.set_len(1).unwrap();
    file.write_all_at(b"xyz", 5).unwrap();
    open(&disk, "/g").write_all_at(b"new", 0).unwrap();
    disk.rename(Path::new("/f"), Path::new("/h")).unwrap();
    let left = disk.crash_states().next().unwrap();
    assert_eq!(
        ["/f", "/g", "/h"].map(|name| content(&left, name)),
        [Some(b"ab".to_vec()), None, None]
    );
}

#[test]
fn synced_bytes_survive_every_power_cut() {
    let disk = disk_with("/f", b"a");
    let file = open(&disk, "/f");
    file.write_all_at(b"b", 1).unwrap();
    file.sync_data().unwrap();
    assert_eq!(states(&disk, "/f"), [Some(b"ab".to_vec())].into());
    assert!(
        file.bytes().is_err(),
        "a handle from before the crash fails"
    );
}

#[test]
fn a_name_is_durable_after_a_sync_of_its_directory() {
    let disk = SimulatedDisk::new(1);
    let file = open(&disk, "/f");
    file.write_all_at(b"a", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(states(&disk, "/f"), [None, Some(b"a".to_vec())].into());
}

#[test]
fn a_power_cut_leaves_a_rename_done_or_not_done() {
    let disk = disk_with("/f", b"old");
    let new = open(&disk, "/t");
    new.write_all_at(b"new", 0).unwrap();
    new.sync_data().unwrap();
    disk.rename(Path::new("/t"), Path::new("/f")).unwrap();
    assert_eq!(
        states(&disk, "/f"),
        [b"old", b"new"].map(|state| Some(state.to_vec())).into()
    );
}

#[test]
fn a_lost_name_loses_its_file() {
    let disk = SimulatedDisk::new(1);
    open(&disk, "/f").write_all_at(b"a", 0).unwrap();
    let kept = [&b""[..], b"\0", b"a"].map(|state| Some(state.to_vec()));
    assert_eq!(states_in_order(&disk, "/f"), [&[None][..], &kept].concat());
}

#[test]
fn files_without_a_name_use_no_room_after_a_power_cut() {
    let disk = SimulatedDisk::new(1);
    disk.create_dir_all(Path::new("/d")).unwrap();
    replace_file(&disk, Path::new("/d/f"), b"abc").unwrap();
    let left = disk.crash_states().next().unwrap();
    assert_eq!(left.list(Path::new("/")).unwrap(), []);
    left.set_capacity(3);
    open(&left, "/g").write_all_at(b"abc", 0).unwrap();
}

#[test]
fn a_lost_name_loses_the_names_that_it_was_renamed_to() {
    let disk = disk_with("/f", b"old");
    replace_file(&disk, Path::new("/t"), b"new").unwrap();
    disk.rename(Path::new("/t"), Path::new("/f")).unwrap();
    disk.rename(Path::new("/f"), Path::new("/g")).unwrap();
    let left = disk
        .crash_states()
        .map(|left| ["/f", "/t", "/g"].map(|name| content(&left, name)));
    let (old, new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    let expected = [
        [old, new.clone(), None],
        [new.clone(), None, None],
        [None, None, new],
    ];
    assert_eq!(left.collect::<BTreeSet<_>>(), expected.into());
}

#[test]
fn a_directory_sync_makes_earlier_steps_of_its_names_durable() {
    let disk = SimulatedDisk::new(1);
    for dir in ["/x", "/y", "/z"] {
        disk.create_dir_all(Path::new(dir)).unwrap();
    }
    disk.sync_dir(Path::new("/")).unwrap();
    replace_file(&disk, Path::new("/x/t"), b"abc").unwrap();
    drop(open(&disk, "/x/other"));
    disk.rename(Path::new("/x/t"), Path::new("/y/t")).unwrap();
    disk.rename(Path::new("/y/t"), Path::new("/z/t")).unwrap();
    disk.sync_dir(Path::new("/z")).unwrap();
    let left =
        |left: SimulatedDisk| ["/x/t", "/y/t", "/z/t", "/x/other"].map(|name| content(&left, name));
    let expected = [None, Some(Vec::new())].map(|other| [None, None, Some(b"abc".to_vec()), other]);
    assert_eq!(disk.crash_states().map(left).collect::<Vec<_>>(), expected);
}

#[test]
fn a_file_without_a_name_is_freed_when_it_is_closed() {
    let disk = disk_with("/f", b"abc");
    let count = || disk.state.lock().tree.nodes.len();
    let before = count();
    let file = open(&disk, "/f");
    disk.remove_file(Path::new("/f")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!((count(), file.bytes().unwrap()), (before, 3));
    drop(file);
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(count(), before - 1);
}

#[test]
fn a_failed_sync_writes_no_bytes_to_the_device() {
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
#[should_panic(expected = "a change of the first 2 bytes, which a view shows")]
fn a_write_that_changes_viewed_bytes_panics() {
    let disk = disk_with("/f", b"abc");
    let file = open(&disk, "/f");
    let _view = file.view(2).unwrap();
    file.write_all_at(b"bx", 1).unwrap();
    file.write_all_at(b"x", 1).unwrap();
}

#[test]
#[should_panic(expected = "a change of the first 2 bytes, which a view shows")]
fn a_cut_of_viewed_bytes_panics() {
    let disk = disk_with("/f", b"abc");
    let file = open(&disk, "/f");
    let _view = file.view(2).unwrap();
    file.set_len(2).unwrap();
    file.set_len(1).unwrap();
}

#[test]
fn mapped_pages_stay_in_the_cache() {
    let disk = disk_with("/f", b"a");
    let file = open(&disk, "/f");
    file.write_all_at(b"b", 1).unwrap();
    disk.fail_call(disk.calls(), io::Error::from_raw_os_error(5));
    assert!(file.sync_data().is_err());
    let view = file.view(2).unwrap();
    file.drop_cache(0).unwrap();
    assert_eq!(content(&disk, "/f").unwrap(), b"ab");
    drop(view);
    file.drop_cache(0).unwrap();
    assert_eq!(content(&disk, "/f").unwrap(), b"a\0");
}

#[test]
fn a_full_disk_accepts_the_bytes_that_fit() {
    let disk = disk_with("/f", b"abc");
    disk.set_capacity(5);
    let file = open(&disk, "/g");
    let full = file.write_all_at(b"defg", 0).unwrap_err();
    assert_eq!(
        (full.kind(), content(&disk, "/g").unwrap()),
        (ErrorKind::StorageFull, b"de".to_vec())
    );
    disk.remove_file(Path::new("/f")).unwrap();
    file.write_all_at(b"defg", 0).unwrap();
}

#[test]
fn a_disk_is_full_when_its_last_byte_is_used() {
    let disk = disk_with("/f", b"abc");
    disk.set_capacity(5);
    let (old, new) = (open(&disk, "/f"), open(&disk, "/g"));
    new.write_all_at(b"de", 0).unwrap();
    let is_full = || {
        let end = new.bytes().unwrap();
        let errors = [new.write_all_at(b"x", end), new.set_len(end + 1)]
            .map(|result| result.map_err(|error| error.kind()));
        errors == [Err(ErrorKind::StorageFull); 2]
    };
    assert!(is_full());
    old.write_all_at(b"ABC", 0).unwrap();
    // An open file keeps its bytes when its name is removed.
    disk.remove_file(Path::new("/f")).unwrap();
    assert!(is_full());
    drop(old);
    new.write_all_at(b"fgh", 2).unwrap();
    assert!(is_full());
    assert_eq!(content(&disk, "/g").unwrap(), b"defgh");
}

#[test]
fn a_killed_process_loses_its_locks_and_no_bytes() {
    let disk = disk_with("/f", b"a");
    let file = open(&disk, "/f");
    file.write_all_at(b"b", 1).unwrap();
    let _lock = disk.lock(Path::new("/l")).unwrap();
    assert_eq!(
        disk.lock(Path::new("/l")).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    let left = disk.process_killed();
    assert_eq!(content(&left, "/f").unwrap(), b"ab");
    assert!(left.lock(Path::new("/l")).is_ok());
    assert!(file.write_all_at(b"c", 2).is_err());
    assert_eq!(
        states(&left, "/f").len(),
        3,
        "unsynced bytes are still not durable"
    );
}

#[test]
fn calls_fail_at_the_planned_numbers() {
    let disk = disk_with("/f", b"abcd");
    let file = open(&disk, "/f");
    disk.fail_call_short(disk.calls(), ErrorKind::QuotaExceeded.into());
    assert_eq!(
        file.write_all_at(b"1234", 0).unwrap_err().kind(),
        ErrorKind::QuotaExceeded
    );
    assert_eq!(content(&disk, "/f").unwrap(), b"12cd");
    disk.fail_calls_from(disk.calls() + 1, ErrorKind::Interrupted.into());
    assert!(file.bytes().is_ok());
    assert!(file.bytes().is_err());
    assert!(disk.list(Path::new("/")).is_err());
    disk.heal();
    let mut read = [0; 4];
    disk.flip_on_read(disk.calls(), 8);
    file.read_at(&mut read, 0).unwrap();
    assert_eq!(&read, b"13cd");
    disk.flip_bits("/f", 3, 0xff).unwrap();
    assert_eq!(
        content(&disk, "/f").unwrap(),
        [b'1', b'2', b'c', b'd' ^ 0xff]
    );
}

#[test]
fn a_failed_write_has_no_effect_unless_it_is_planned_as_short() {
    let disk = disk_with("/f", b"abcd");
    let file = open(&disk, "/f");
    disk.fail_call(disk.calls(), ErrorKind::QuotaExceeded.into());
    assert_eq!(
        file.write_all_at(b"1234", 0).unwrap_err().kind(),
        ErrorKind::QuotaExceeded
    );
    assert_eq!(content(&disk, "/f").unwrap(), b"abcd");
}

#[test]
fn flip_on_read_flips_one_bit_of_one_read() {
    let disk = disk_with("/f", &[0b0101_0011, 0b1010_1100]);
    let file = open(&disk, "/f");
    let read = || {
        let mut read = [0; 2];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), 2);
        read
    };
    let right = read();
    for bit in 0..16 {
        disk.flip_on_read(disk.calls(), bit);
        let mut wrong = right;
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert_eq!((read(), read()), (wrong, right), "bit {bit}");
    }
    disk.flip_on_read(disk.calls(), 3);
    assert_eq!(
        file.read_at(&mut [0; 2], 2).unwrap(),
        0,
        "no bytes are read, so none are flipped"
    );
    assert_eq!(read(), right);
}

#[test]
fn debug_names_the_kind_of_an_open_file_or_lock() {
    let disk = disk_with("/f", b"abc");
    let (file, lock) = (open(&disk, "/f"), disk.lock(Path::new("/f")).unwrap());
    let node = disk.metadata(Path::new("/f")).unwrap().id;
    assert_eq!(
        format!("{disk:?} {file:?} {lock:?}"),
        format!("SimulatedDisk {{ .. }} SimulatedFile({node}) SimulatedLock")
    );
}

#[test]
fn a_seed_determines_the_disk_after_a_crash() {
    let left = |seed| {
        let disk = SimulatedDisk::new(seed);
        for number in 0..9_u8 {
            open(&disk, &format!("/{number}"))
                .write_all_at(&[number; 5000], 0)
                .unwrap();
        }
        disk.crash().fingerprint()
    };
    assert_eq!(left(3), left(3));
    assert_ne!(left(3), left(4));
}

#[test]
fn a_link_is_durable_with_its_directory_and_takes_no_room() {
    let disk = disk_with("/f", b"abc");
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.set_capacity(3);
    disk.hard_link(Path::new("/f"), Path::new("/d/g")).unwrap();
    let whole = Some(b"abc".to_vec());
    assert_eq!(
        content(&disk.fork(), "/d/g"),
        whole,
        "a killed process keeps its links"
    );
    let unsynced = disk_with("/f", b"abc");
    unsynced
        .hard_link(Path::new("/f"), Path::new("/g"))
        .unwrap();
    assert_eq!(states(&unsynced, "/g"), [None, whole.clone()].into());
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.remove_file(Path::new("/f")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(states(&disk, "/d/g"), [whole].into());
}

#[test]
fn a_write_to_a_linked_file_is_torn_under_both_names() {
    let disk = disk_with("/f", b"--");
    disk.hard_link(Path::new("/f"), Path::new("/g")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    open(&disk, "/f").write_all_at(b"1", 0).unwrap();
    for left in disk.crash_states() {
        assert_eq!(content(&left, "/f"), content(&left, "/g"));
    }
}
