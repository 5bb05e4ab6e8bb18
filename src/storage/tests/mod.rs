//! Behavior that all disks share.

mod views;

use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;

/// Runs a test in an empty directory of each disk.
fn on_each_disk(test: impl Fn(&dyn Storage, &Path)) {
    let dir = TempDir::new().unwrap();
    test(&Disk, dir.path());
    for disk in in_memory() {
        disk.create_dir_all(Path::new("/some/where")).unwrap();
        test(&*disk, Path::new("/some/where"));
    }
}

fn in_memory() -> [Box<dyn Storage>; 2] {
    [Box::new(MemoryDisk::new()), Box::new(SimulatedDisk::new(1))]
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("the call must fail"),
        Err(error) => error.kind(),
    }
}

fn create(disk: &dyn Storage, path: &Path, content: &[u8]) -> Arc<dyn StorageFile> {
    let file = disk.open(path, Access::CreateNew).unwrap();
    file.write_all_at(content, 0).unwrap();
    file
}

fn content(file: &dyn StorageFile) -> Vec<u8> {
    let mut content = vec![0; 100];
    let read = file.read_at(&mut content, 0).unwrap();
    content.truncate(read);
    content
}

fn names(disk: &dyn Storage, dir: &Path) -> Vec<(String, bool)> {
    let mut names: Vec<_> = disk
        .list(dir)
        .unwrap()
        .into_iter()
        .map(|entry| (entry.name, entry.is_dir))
        .collect();
    names.sort();
    names
}

#[test]
fn access_decides_whether_a_file_must_exist_and_may_be_written() {
    on_each_disk(|disk, dir| {
        let path = dir.join("a");
        for access in [Access::Read, Access::Write] {
            assert_eq!(kind(disk.open(&path, access)), ErrorKind::NotFound);
        }
        create(disk, &path, b"abc");
        assert_eq!(
            kind(disk.open(&path, Access::CreateNew)),
            ErrorKind::AlreadyExists
        );
        assert_eq!(
            content(&*disk.open(&path, Access::OpenOrCreate).unwrap()),
            b"abc"
        );
        assert_eq!(content(&*disk.open(&path, Access::Write).unwrap()), b"abc");
        let reader = disk.open(&path, Access::Read).unwrap();
        assert!(reader.write_all_at(b"x", 0).is_err());
        assert!(reader.set_len(0).is_err());
        assert_eq!(content(&*reader), b"abc");
        disk.open(&dir.join("b"), Access::OpenOrCreate)
            .unwrap()
            .write_all_at(b"x", 0)
            .unwrap();
        assert_eq!(
            kind(disk.open(&dir.join("a").join("b"), Access::OpenOrCreate)),
            ErrorKind::NotADirectory
        );
        assert_eq!(
            kind(disk.open(&dir.join("absent").join("b"), Access::OpenOrCreate)),
            ErrorKind::NotFound
        );
        assert_eq!(kind(disk.open(dir, Access::Write)), ErrorKind::IsADirectory);
    });
}

#[test]
fn reads_and_writes_are_positional() {
    on_each_disk(|disk, dir| {
        let file = create(disk, &dir.join("a"), b"abc");
        file.write_all_at(b"xyz", 5).unwrap();
        file.write_all_at(b"B", 1).unwrap();
        file.write_all_at(b"", 50).unwrap();
        assert_eq!(content(&*file), b"aBc\0\0xyz");
        file.write_all_at(b"Z!", 7).unwrap();
        assert_eq!(file.bytes().unwrap(), 9);
        let mut buffer = [b'-'; 4];
        assert_eq!(file.read_at(&mut buffer, 6).unwrap(), 3);
        assert_eq!(&buffer, b"yZ!-");
        assert_eq!(file.read_at(&mut buffer, 9).unwrap(), 0);
        assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
        assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
        file.sync_data().unwrap();
        file.drop_cache(3).unwrap();
        assert_eq!(content(&*file), b"aBc\0\0xyZ!");
    });
}

#[test]
fn set_len_cuts_and_extends_with_zeros() {
    on_each_disk(|disk, dir| {
        let file = create(disk, &dir.join("a"), b"abcdef");
        file.set_len(2).unwrap();
        file.set_len(4).unwrap();
        assert_eq!(content(&*file), b"ab\0\0");
        assert_eq!(disk.metadata(&dir.join("a")).unwrap().bytes, 4);
    });
}

#[test]
fn an_open_file_survives_the_loss_of_its_name() {
    on_each_disk(|disk, dir| {
        let (a, b) = (dir.join("a"), dir.join("b"));
        let old = create(disk, &a, b"old");
        let new = create(disk, &b, b"new");
        disk.rename(&b, &a).unwrap();
        assert_eq!(content(&*old), b"old");
        old.write_all_at(b"er", 3).unwrap();
        assert_eq!(content(&*old), b"older");
        assert_eq!(read_file(disk, &a, 9).unwrap(), b"new");
        assert_eq!(kind(disk.metadata(&b)), ErrorKind::NotFound);
        disk.remove_file(&a).unwrap();
        disk.sync_dir(dir).unwrap();
        new.write_all_at(b"er", 3).unwrap();
        assert_eq!(content(&*new), b"newer");
        assert!(names(disk, dir).is_empty());
    });
}

#[test]
fn directories_are_created_listed_renamed_and_removed() {
    on_each_disk(|disk, dir| {
        let orders = dir.join("logs").join("orders-0");
        disk.create_dir_all(&orders).unwrap();
        disk.create_dir_all(&orders).unwrap();
        create(disk, &orders.join("0.log"), b"abc");
        create(disk, &dir.join("logs").join(".lock"), b"");
        assert_eq!(
            names(disk, &dir.join("logs")),
            [(".lock".to_owned(), false), ("orders-0".to_owned(), true)]
        );
        let metadata = disk.metadata(&orders).unwrap();
        assert_eq!((metadata.is_dir, metadata.bytes), (true, 0));

        let leaving = dir.join("logs").join("orders-0.x-delete");
        disk.rename(&orders, &leaving).unwrap();
        disk.sync_dir(&dir.join("logs")).unwrap();
        assert_eq!(read_file(disk, &leaving.join("0.log"), 3).unwrap(), b"abc");
        assert_eq!(kind(disk.list(&orders)), ErrorKind::NotFound);
        assert!(disk.remove_file(&leaving).is_err());
        disk.remove_dir_all(&leaving).unwrap();
        assert_eq!(kind(disk.remove_dir_all(&leaving)), ErrorKind::NotFound);
        assert_eq!(
            kind(disk.remove_dir_all(&dir.join("logs").join(".lock"))),
            ErrorKind::NotADirectory
        );
        assert_eq!(
            names(disk, &dir.join("logs")),
            [(".lock".to_owned(), false)]
        );
        assert!(
            disk.create_dir_all(&dir.join("logs").join(".lock").join("x"))
                .is_err()
        );
        assert_eq!(
            kind(disk.sync_dir(&dir.join("absent"))),
            ErrorKind::NotFound
        );
    });
}

#[test]
fn a_rename_replaces_a_file_and_no_full_directory() {
    on_each_disk(|disk, dir| {
        let (full, empty, file) = (dir.join("full"), dir.join("empty"), dir.join("file"));
        disk.create_dir_all(&full.join("below")).unwrap();
        disk.create_dir_all(&empty).unwrap();
        create(disk, &file, b"abc");
        assert_eq!(
            kind(disk.rename(&dir.join("absent"), &file)),
            ErrorKind::NotFound
        );
        assert_eq!(
            kind(disk.rename(&file, &dir.join("absent").join("x"))),
            ErrorKind::NotFound
        );
        assert_eq!(kind(disk.rename(&file, &full)), ErrorKind::IsADirectory);
        assert_eq!(kind(disk.rename(&full, &file)), ErrorKind::NotADirectory);
        assert_eq!(
            kind(disk.rename(&empty, &full)),
            ErrorKind::DirectoryNotEmpty
        );
        assert_eq!(
            kind(disk.rename(&full, &full.join("below").join("x"))),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            kind(disk.rename(&file, &file.join("x"))),
            ErrorKind::NotADirectory
        );
        assert_eq!(
            kind(disk.rename(&dir.join("absent"), &dir.join("absent").join("x"))),
            ErrorKind::NotFound
        );
        disk.rename(&full, &full).unwrap();
        disk.rename(&file, &file).unwrap();
        disk.rename(&full, &empty).unwrap();
        assert_eq!(
            names(disk, dir),
            [("empty".to_owned(), true), ("file".to_owned(), false)]
        );
        assert_eq!(names(disk, &empty), [("below".to_owned(), true)]);
    });
}

#[test]
fn a_directory_has_one_canonical_path() {
    on_each_disk(|disk, dir| {
        let canonical = disk.canonical(dir).unwrap();
        disk.create_dir_all(&dir.join("a").join("b")).unwrap();
        assert!(canonical.is_absolute());
        assert_eq!(
            disk.canonical(&dir.join("a").join("..").join(".").join("a").join("b"))
                .unwrap(),
            canonical.join("a").join("b")
        );
        assert_eq!(
            kind(disk.canonical(&dir.join("absent"))),
            ErrorKind::NotFound
        );
    });
}

#[test]
fn a_lock_has_one_holder_until_it_is_dropped() {
    on_each_disk(|disk, dir| {
        let path = dir.join(".lock");
        assert_eq!(disk.lock_holder(&path), None);
        let held = disk.lock(&path).unwrap();
        assert_eq!(disk.metadata(&path).unwrap().bytes, 0);
        assert_eq!(kind(disk.lock(&path)), ErrorKind::WouldBlock);
        // Neither the failed attempt nor another open and close of the file releases the lock.
        drop(disk.open(&path, Access::Write).unwrap());
        assert_eq!(kind(disk.lock(&path)), ErrorKind::WouldBlock);
        drop(held);
        drop(disk.lock(&path).unwrap());
        assert_eq!(names(disk, dir), [(".lock".to_owned(), false)]);
        assert_eq!(
            kind(disk.lock(&dir.join("absent").join(".lock"))),
            ErrorKind::NotFound
        );
    });
}

#[test]
fn a_lock_in_memory_reports_this_process() {
    for disk in in_memory() {
        let path = Path::new(".lock");
        drop(create(&*disk, path, b""));
        assert_eq!(disk.lock_holder(path), None);
        let held = disk.lock(path).unwrap();
        assert_eq!(disk.lock_holder(path), Some(std::process::id()));
        drop(held);
        assert_eq!(disk.lock_holder(path), None);
    }
}

#[test]
fn a_lock_belongs_to_the_file_that_the_path_names() {
    on_each_disk(|disk, dir| {
        let path = dir.join(".lock");
        let old = disk.lock(&path).unwrap();
        disk.remove_file(&path).unwrap();
        let new = disk.lock(&path).unwrap();
        drop(old);
        assert_eq!(kind(disk.lock(&path)), ErrorKind::WouldBlock);
        drop(new);
        drop(disk.lock(&path).unwrap());
    });
}

#[test]
fn read_file_refuses_a_file_above_its_limit() {
    on_each_disk(|disk, dir| {
        let path = dir.join("a");
        assert_eq!(kind(read_file(disk, &path, 9)), ErrorKind::NotFound);
        create(disk, &path, b"abc");
        assert_eq!(read_file(disk, &path, 3).unwrap(), b"abc");
        assert_eq!(kind(read_file(disk, &path, 2)), ErrorKind::InvalidData);
    });
}

#[test]
fn read_if_fits_returns_none_for_a_missing_and_for_a_larger_file() {
    on_each_disk(|disk, dir| {
        let path = dir.join("small");
        assert_eq!(read_if_fits(disk, &path, 3).unwrap(), None);
        create(disk, &path, b"abc");
        assert_eq!(read_if_fits(disk, &path, 3).unwrap().unwrap(), b"abc");
        assert_eq!(read_if_fits(disk, &path, 2).unwrap(), None);
        let below_a_file = path.join("b");
        let refused = kind(read_if_fits(disk, &below_a_file, 3));
        assert_eq!(refused, ErrorKind::NotADirectory);
    });
}

#[test]
fn if_exists_turns_only_the_error_of_a_missing_file_into_none() {
    on_each_disk(|disk, dir| {
        let (file, missing) = (dir.join("a"), dir.join("b"));
        create(disk, &file, b"abc");
        let found = disk.metadata(&file).if_exists().unwrap();
        assert_eq!(found.map(|found| found.bytes), Some(3));
        assert_eq!(disk.metadata(&missing).if_exists().unwrap(), None);
        assert_eq!(disk.remove_file(&missing).if_exists().unwrap(), None);
        let taken = kind(disk.open(&file, Access::CreateNew).if_exists());
        assert_eq!(taken, ErrorKind::AlreadyExists);
        let not_a_dir = kind(disk.metadata(&file.join("b")).if_exists());
        assert_eq!(not_a_dir, ErrorKind::NotADirectory);
    });
}

#[test]
fn replace_file_leaves_the_new_file_or_the_old_one() {
    on_each_disk(|disk, dir| {
        let path = dir.join("recovery-point-offset-checkpoint");
        replace_file(disk, &path, b"one").unwrap();
        let reader = disk.open(&path, Access::Read).unwrap();
        replace_file(disk, &path, b"two").unwrap();
        assert_eq!(content(&*reader), b"one");
        assert_eq!(read_file(disk, &path, 9).unwrap(), b"two");
        assert_eq!(names(disk, dir).len(), 1);

        // A directory cannot be replaced by a file: the rename fails, and no temporary file stays.
        disk.create_dir_all(&dir.join("orders-0")).unwrap();
        assert_eq!(
            kind(replace_file(disk, &dir.join("orders-0"), b"x")),
            ErrorKind::IsADirectory
        );
        assert_eq!(
            kind(replace_file(disk, &dir.join("absent").join("x"), b"x")),
            ErrorKind::NotFound
        );
        assert_eq!(names(disk, dir).len(), 2);
    });
}

#[test]
fn a_new_file_is_removed_unless_it_is_put_in_place() {
    on_each_disk(|disk, dir| {
        let path = dir.join("a");
        create(disk, &path, b"old");
        let new = || NewFile::write(disk, &path, true, |file| file.write_all_at(b"new", 0));
        let left = new().unwrap();
        assert_eq!(names(disk, dir).len(), 2);
        drop(left);
        assert_eq!(names(disk, dir), [("a".to_owned(), false)]);
        assert_eq!(read_file(disk, &path, 10).unwrap(), b"old");
        let failed = NewFile::write(disk, &path, false, |_| Err(ErrorKind::StorageFull.into()));
        assert_eq!(kind(failed), ErrorKind::StorageFull);
        assert_eq!(names(disk, dir), [("a".to_owned(), false)]);
        new().unwrap().put_in_place().unwrap();
        assert_eq!(names(disk, dir), [("a".to_owned(), false)]);
        assert_eq!(read_file(disk, &path, 10).unwrap(), b"new");
    });
}

#[test]
fn a_replacement_that_cannot_create_its_file_fails_at_once() {
    let disk = SimulatedDisk::new(1);
    disk.fail_call(0, ErrorKind::PermissionDenied.into());
    assert_eq!(
        kind(replace_file(&disk, Path::new("/a"), b"abc")),
        ErrorKind::PermissionDenied
    );
    assert_eq!(disk.calls(), 1);
    assert!(names(&disk, Path::new("/")).is_empty());
}

#[test]
fn temporary_files_of_killed_replacements_are_recognized_and_not_reused() {
    on_each_disk(|disk, dir| {
        let path = dir.join("a");
        let (first, _) = create_temporary(disk, &path).unwrap();
        let (second, _) = create_temporary(disk, &path).unwrap();
        assert_ne!(first, second);
        replace_file(disk, &path, b"abc").unwrap();
        for (name, _) in names(disk, dir) {
            assert_eq!(is_temporary(&name), name != "a", "{name}");
            if is_temporary(&name) {
                assert!(remove_if_exists(disk, &dir.join(name)).unwrap());
            }
        }
        assert!(!remove_if_exists(disk, &first).unwrap());
        assert_eq!(names(disk, dir), [("a".to_owned(), false)]);
    });
    for name in [
        "0123456789abcde.tmp",
        "0123456789abcdeF.tmp",
        "0123456789abcdef.log",
        "0123456789abcdef0.tmp",
    ] {
        assert!(!is_temporary(name), "{name}");
    }
}

#[test]
fn directory_of_returns_a_directory_for_every_path() {
    assert_eq!(directory_of(Path::new("data/a")), Path::new("data"));
    assert_eq!(directory_of(Path::new("a")), Path::new("."));
    assert_eq!(directory_of(Path::new("/")), Path::new("/"));
}

#[test]
fn threads_write_and_read_their_parts_of_one_file() {
    on_each_disk(|disk, dir| {
        let file = create(disk, &dir.join("a"), b"");
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let file = &file;
                scope.spawn(move || {
                    for round in 0..50_u64 {
                        let position = (round * 4 + u64::from(thread)) * 8;
                        file.write_all_at(&[thread; 8], position).unwrap();
                        let mut read = [9; 8];
                        assert_eq!(file.read_at(&mut read, position).unwrap(), 8);
                        assert_eq!(read, [thread; 8]);
                    }
                });
            }
        });
        assert_eq!(file.bytes().unwrap(), 4 * 50 * 8);
    });
}

#[test]
fn set_modified_sets_the_time_of_a_file() {
    let (dir, memory) = (TempDir::new().unwrap(), MemoryDisk::new());
    let disks: [(&dyn Storage, PathBuf); 2] =
        [(&Disk, dir.path().join("a")), (&memory, "a".into())];
    for (disk, path) in disks {
        // Every file system stores whole seconds.
        let past = Timestamp::from_millis(1_600_000_000_000);
        create(disk, &path, b"abc").set_modified(past).unwrap();
        assert_eq!(disk.metadata(&path).unwrap().modified, past);
    }
}

#[test]
fn a_memory_disk_takes_its_times_from_its_clock() {
    let clock = ManualClock::at(Timestamp::from_millis(7));
    let disk = MemoryDisk::with_clock(clock.clone());
    let path = Path::new("data/a");
    disk.create_dir_all(Path::new("data")).unwrap();
    let file = create(&disk, path, b"abc");
    clock.set(Timestamp::from_millis(9));
    assert_eq!(
        disk.metadata(path).unwrap().modified,
        Timestamp::from_millis(7)
    );
    file.write_all_at(b"x", 0).unwrap();
    assert_eq!(
        disk.clone()
            .metadata(Path::new("/data/../data/./a"))
            .unwrap()
            .modified,
        Timestamp::from_millis(9)
    );
    let lock = disk.lock(path).unwrap();
    assert_eq!(
        format!("{disk:?} {file:?} {lock:?}"),
        "MemoryDisk { .. } MemoryFile(3 bytes) MemoryLock"
    );
}

#[test]
fn a_linked_file_has_two_names_and_one_content() {
    on_each_disk(|disk, dir| {
        let names_of = |name: &str| disk.metadata(&dir.join(name)).unwrap().names;
        create(disk, &dir.join("a"), b"abc");
        assert_eq!((names_of("a"), disk.metadata(dir).unwrap().names), (1, 1));
        disk.create_dir_all(&dir.join("d")).unwrap();
        let linked = dir.join("d").join("b");
        disk.hard_link(&dir.join("a"), &linked).unwrap();
        assert_eq!((names_of("a"), names_of("d/b")), (2, 2));
        assert_eq!(
            disk.metadata(&dir.join("a")).unwrap().id,
            disk.metadata(&linked).unwrap().id
        );
        disk.open(&dir.join("a"), Access::Write)
            .unwrap()
            .write_all_at(b"x", 1)
            .unwrap();
        assert_eq!(
            content(&*disk.open(&linked, Access::Read).unwrap()),
            b"axc",
            "both names have the same content"
        );
        disk.remove_file(&dir.join("a")).unwrap();
        assert_eq!(names_of("d/b"), 1);
        assert_eq!(
            content(&*disk.open(&linked, Access::Read).unwrap()),
            b"axc",
            "the file stays until its last name is removed"
        );
    });
}

#[test]
fn a_replaced_or_removed_name_is_not_counted() {
    on_each_disk(|disk, dir| {
        let names_of = |name: &str| disk.metadata(&dir.join(name)).unwrap().names;
        create(disk, &dir.join("a"), b"abc");
        for name in ["b", "c", "d"] {
            disk.hard_link(&dir.join("a"), &dir.join(name)).unwrap();
        }
        disk.create_dir_all(&dir.join("e")).unwrap();
        disk.hard_link(&dir.join("a"), &dir.join("e").join("f"))
            .unwrap();
        assert_eq!(names_of("a"), 5);
        create(disk, &dir.join("new"), b"new");
        disk.rename(&dir.join("new"), &dir.join("b")).unwrap();
        assert_eq!((names_of("a"), names_of("b")), (4, 1));
        disk.rename(&dir.join("c"), &dir.join("g")).unwrap();
        assert_eq!(names_of("g"), 4, "a rename keeps the number of names");
        disk.remove_dir_all(&dir.join("e")).unwrap();
        assert_eq!(names_of("a"), 3);
    });
}

#[test]
fn a_link_needs_a_file_and_a_free_name() {
    on_each_disk(|disk, dir| {
        create(disk, &dir.join("a"), b"abc");
        create(disk, &dir.join("b"), b"def");
        let link = |from: &str, to: &str| kind(disk.hard_link(&dir.join(from), &dir.join(to)));
        assert_eq!(link("a", "b"), ErrorKind::AlreadyExists);
        assert_eq!(link("a", "a"), ErrorKind::AlreadyExists);
        assert_eq!(link("absent", "c"), ErrorKind::NotFound);
        assert_eq!(link("a", "absent/c"), ErrorKind::NotFound);
        disk.create_dir_all(&dir.join("d")).unwrap();
        assert_eq!(link("d", "c"), ErrorKind::PermissionDenied);
        assert_eq!(link("a", "d"), ErrorKind::AlreadyExists);
        assert_eq!(disk.metadata(&dir.join("a")).unwrap().names, 1);
    });
}
