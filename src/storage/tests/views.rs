//! Views of files: how long they live, and whether the disk knows of them.

use super::*;

#[test]
fn a_file_is_viewed_until_its_last_view_is_dropped() {
    on_each_disk(|disk, dir| {
        let Some(unit) = disk.view_unit() else {
            return;
        };
        let path = dir.join("a");
        let file = create(disk, &path, &vec![7; unit as usize + 1]);
        assert!(!file.is_viewed());
        let first = file.view_in_place(unit as usize).unwrap().unwrap();
        let second = first.clone();
        let third = file.view(unit as usize).unwrap();
        file.write_all_at(b"more", u64::from(unit)).unwrap();
        drop((first, file));
        let file = disk.open(&path, Access::Read).unwrap();
        assert!(file.is_viewed(), "two views are left");
        assert!(!create(disk, &dir.join("b"), b"b").is_viewed());
        drop(second);
        assert!(file.is_viewed(), "one view is left");
        assert_eq!(&*third, vec![7; unit as usize]);
        drop(third);
        assert!(!file.is_viewed());
    });
}

#[test]
fn a_view_outlives_its_file() {
    on_each_disk(|disk, dir| {
        let file = create(disk, &dir.join("a"), b"abcdef");
        let view = file.view(4).unwrap();
        assert!(file.view(0).unwrap().is_empty());
        assert_eq!(kind(file.view(7)), ErrorKind::UnexpectedEof);
        file.write_all_at(b"ghi", 6).unwrap();
        drop(file);
        disk.remove_file(&dir.join("a")).unwrap();
        assert_eq!(&*view, b"abcd");
        assert!(
            create(disk, &dir.join("empty"), b"")
                .view(0)
                .unwrap()
                .is_empty()
        );
    });
}

#[test]
fn a_view_of_memory_is_copied_only_when_the_file_changes() {
    let disk = MemoryDisk::new();
    let file = create(&disk, Path::new("a"), b"abc");
    let view = file.view(3).unwrap();
    assert_eq!(file.view(3).unwrap().as_ptr(), view.as_ptr());
    file.write_all_at(b"xyz", 0).unwrap();
    assert_eq!(&*view, b"abc");
    assert_eq!(content(&*file), b"xyz");
}
