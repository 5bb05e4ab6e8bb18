//! The file system of the machine: views, syncs, links, locks.

use super::*;
use tempfile::TempDir;

#[test]
fn a_view_is_mapped_and_a_copy_has_the_same_bytes() {
    let dir = TempDir::new().unwrap();
    let file = DiskFile(open(&dir.path().join("a"), Access::CreateNew).unwrap());
    file.write_all_at(b"records", 0).unwrap();
    let (one, other, copy) = (
        file.view(7).unwrap(),
        file.view(7).unwrap(),
        file.copy(7).unwrap(),
    );
    drop(file);
    assert_eq!(
        (&*one, &*other, &*copy),
        (&b"records"[..], &b"records"[..], &b"records"[..])
    );
    assert_ne!(one.as_ptr(), other.as_ptr());
}

#[test]
fn a_copy_of_more_bytes_than_the_file_has_is_refused() {
    let dir = TempDir::new().unwrap();
    let file = DiskFile(open(&dir.path().join("a"), Access::CreateNew).unwrap());
    file.write_all_at(b"records", 0).unwrap();
    assert_eq!(file.copy(8).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(&*file.copy(6).unwrap(), b"record");
}

#[test]
fn pieces_are_written_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let file = Disk.open(&path, Access::CreateNew).unwrap();
    // More than one system call takes, and some are empty.
    let bytes: Vec<u8> = (0..=255).cycle().take(9_000).collect();
    let mut pieces: Vec<&[u8]> = bytes.chunks(3).collect();
    pieces.insert(0, &[]);
    pieces.insert(1_024, &[]);
    pieces.push(&[]);
    file.write_pieces_at(&pieces, 2).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [&[0, 0], &*bytes].concat());
    file.write_pieces_at(&[b"one"], 0).unwrap();
    file.write_pieces_at(&[&[], &[]], 0).unwrap();
    file.write_pieces_at(&[], 0).unwrap();
    assert_eq!(fs::read(&path).unwrap()[..3], *b"one");
    let read_only = Disk.open(&path, Access::Read).unwrap();
    assert!(read_only.write_pieces_at(&[b"a", b"b"], 0).is_err());
}

#[test]
fn a_read_that_fails_is_an_error() {
    let dir = TempDir::new().unwrap();
    // A directory can be opened, since it is opened to be synced.
    let file = Disk.open(dir.path(), Access::Read).unwrap();
    assert_eq!(
        file.read_at(&mut [0; 4], 0).unwrap_err().kind(),
        ErrorKind::IsADirectory
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_sync_or_cache_drop_that_is_refused_is_an_error() {
    let no_file = Disk.open(Path::new("/dev/null"), Access::Write).unwrap();
    assert_eq!(
        no_file.sync_data().unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let dir = TempDir::new().unwrap();
    let file = Disk.open(&dir.path().join("a"), Access::CreateNew).unwrap();
    file.sync_data().unwrap();
    file.drop_cache(1 << 62).unwrap();
    assert_eq!(
        file.drop_cache(u64::MAX).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

/// procfs returns `EINVAL`, as autofs and some network file systems do.
#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_cannot_be_synced_is_not_an_error() {
    assert_eq!(
        File::open("/proc").unwrap().sync_all().unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    Disk.sync_dir(Path::new("/proc")).unwrap();
    assert_eq!(
        Disk.sync_dir(Path::new("/proc/none")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn remove_dir_all_removes_a_link_and_the_directory_that_it_leads_to() {
    use std::os::unix::fs::symlink;
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("far/data/below")).unwrap();
    fs::write(at("far/data/below/file"), "x").unwrap();
    fs::write(at("kept"), "x").unwrap();
    symlink(at("kept"), at("far/data/link")).unwrap();
    symlink("data", at("far/second")).unwrap();
    symlink("far/second", at("first")).unwrap();
    Disk.remove_dir_all(&at("first")).unwrap();
    assert!(!at("far/data").exists());
    assert!(fs::symlink_metadata(at("first")).is_err());
    assert!(at("kept").exists(), "links inside are not followed");
    Disk.remove_dir_all(&at("far/second")).unwrap();
    assert!(
        fs::symlink_metadata(at("far/second")).is_err(),
        "a link that leads nowhere is removed"
    );
    symlink(at("kept"), at("file")).unwrap();
    assert_eq!(
        Disk.remove_dir_all(&at("file")).unwrap_err().kind(),
        ErrorKind::NotADirectory
    );
    assert!(at("kept").exists());
}

#[test]
fn links_to_directories_are_listed_as_directories() {
    let dir = TempDir::new().unwrap();
    let target = TempDir::new().unwrap();
    std::os::unix::fs::symlink(target.path(), dir.path().join("orders-0")).unwrap();
    std::os::unix::fs::symlink(target.path().join("absent"), dir.path().join("dangling")).unwrap();
    let mut listed = Disk.list(dir.path()).unwrap();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(
        listed
            .iter()
            .map(|entry| (&*entry.name, entry.is_dir))
            .collect::<Vec<_>>(),
        [("dangling", false), ("orders-0", true)]
    );
    assert_eq!(
        Disk.canonical(&dir.path().join("orders-0")).unwrap(),
        target.path().canonicalize().unwrap()
    );
}

#[test]
fn a_dropped_lock_is_released_although_a_copy_of_its_descriptor_is_open() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(".lock");
    let file = open(&path, Access::OpenOrCreate).unwrap();
    system::lock(&file).unwrap();
    let copy = file.try_clone().unwrap();
    drop(DiskLock(file, process::id()));
    drop(Disk.lock(&path).unwrap());
    drop(copy);
}

#[test]
fn is_at_recognizes_a_file_that_was_removed_or_replaced() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(".lock");
    let file = open(&path, Access::OpenOrCreate).unwrap();
    assert!(is_at(&file, &path).unwrap());
    fs::remove_file(&path).unwrap();
    assert!(!is_at(&file, &path).unwrap());
    let _new = open(&path, Access::OpenOrCreate).unwrap();
    assert!(!is_at(&file, &path).unwrap());
    assert_eq!(
        is_at(&file, &path.join("below")).unwrap_err().kind(),
        ErrorKind::NotADirectory
    );
}

/// A broker holds a POSIX lock on the same file.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe function takes a POSIX lock")]
#[test]
fn a_posix_lock_excludes_us_and_reports_its_process() {
    use std::os::fd::AsRawFd;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(".lock");
    let broker = open(&path, Access::OpenOrCreate).unwrap();
    let set = |kind: libc::c_int| {
        let request = libc::flock {
            l_type: kind.try_into().unwrap(),
            l_whence: 0,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        // SAFETY: The descriptor is open, and `request` has the type that this command reads.
        unsafe { libc::fcntl(broker.as_raw_fd(), libc::F_SETLK, &raw const request) }
    };
    assert_eq!(Disk.lock_holder(&path), None);
    assert_eq!(unix::advisory::posix_holder(&broker), None);
    assert_eq!(set(libc::F_WRLCK), 0);
    let holder = unix::advisory::posix_holder(&broker);
    assert_eq!(holder, Some(process::id()));
    // `lock_holder` closes a descriptor of the file, which releases the POSIX lock of this process.
    assert_eq!(Disk.lock_holder(&path), Some(process::id()));
    assert_eq!(set(libc::F_WRLCK), 0);
    assert_eq!(Disk.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);

    let held = Disk.lock(&path).unwrap();
    assert_eq!(set(libc::F_WRLCK), -1);
    drop(held);
    assert_eq!(set(libc::F_WRLCK), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_lock_of_this_process_reports_this_process() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(".lock");
    let _other = open(&path, Access::OpenOrCreate).unwrap();
    assert_eq!(
        Disk.lock_holder(&path),
        None,
        "the file is open and not locked"
    );
    let held = Disk.lock(&path).unwrap();
    assert_eq!(Disk.lock_holder(&path), Some(process::id()));
    drop(held);
    assert_eq!(Disk.lock_holder(&path), None);
}

#[test]
fn running_out_of_descriptors_is_recognized() {
    assert!(is_out_of_descriptors(&io::Error::from_raw_os_error(
        libc::EMFILE
    )));
    assert!(!is_out_of_descriptors(&ErrorKind::NotFound.into()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_whose_errors_are_remembered_stays_in_memory_without_a_descriptor() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a file");
    let file = Disk.open(&path, Access::CreateNew).unwrap();
    let is_mapped = || {
        let mapped = fs::read_to_string("/proc/self/maps").unwrap();
        mapped.contains(path.to_str().unwrap())
    };
    let errors = file.remember_errors().unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    file.set_len(0).unwrap();
    drop(file);
    assert!(is_mapped(), "an empty file too");
    drop(errors);
    assert!(!is_mapped());
}
