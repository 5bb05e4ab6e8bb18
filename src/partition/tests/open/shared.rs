//! Files that have other names, in a snapshot or in another copy of the directory made of hard
//! links. No write to one copy changes another.

use crate::partition::tests::write::appending::append;
use crate::partition::tests::*;
use crate::storage::{MemoryDisk, SimulatedDisk};

const COPY: &str = "/copy/t-0";

/// Makes a copy of the partition whose files are hard links, as `cp -al` does.
fn link_all(disk: &impl Storage) {
    disk.create_dir_all(COPY.as_ref()).unwrap();
    for entry in disk.list(DIR.as_ref()).unwrap() {
        let (from, to) = (
            Path::new(DIR).join(&entry.name),
            Path::new(COPY).join(&entry.name),
        );
        disk.hard_link(&from, &to).unwrap();
    }
}

fn spec_in(dir: &str, end: u64, clean: bool) -> PartitionSpec {
    PartitionSpec {
        dir: dir.into(),
        clean,
        ..spec(0, end, i64::MAX)
    }
}

fn open(disk: &(impl Storage + Clone), dir: &str, end: u64, clean: bool) -> Arc<PartitionCore> {
    let (core, report) = PartitionCore::open(&context(disk), &spec_in(dir, end, clean)).unwrap();
    assert!(report.damage.is_none(), "{report:?}");
    core
}

/// Appends `text` records and returns all records.
fn grown(core: &Arc<PartitionCore>, text: &str) -> Vec<String> {
    for _ in 0..4 {
        core.append(Durability::Os, [Record::new(text)]).unwrap();
    }
    core.flush().unwrap();
    texts(core)
}

fn texts(core: &Arc<PartitionCore>) -> Vec<String> {
    let records = read(core).unwrap().into_iter();
    records.map(|(_, text)| text).collect()
}

#[test]
fn appends_to_a_linked_copy_do_not_reach_the_original() {
    for (count, clean) in [
        (0, true),
        (1, true),
        (9, true),
        (0, false),
        (1, false),
        (9, false),
    ] {
        let disk = MemoryDisk::new();
        let core = written(&disk, 0, count);
        let before = texts(&core);
        core.close(true).unwrap();
        link_all(&disk);
        let end = count as u64;
        let (core, copy) = (open(&disk, DIR, end, clean), open(&disk, COPY, end, clean));
        let expected = |text: &str| [before.clone(), vec![text.to_owned(); 4]].concat();
        assert_eq!(grown(&copy, "copy"), expected("copy"));
        assert_eq!(grown(&core, "original"), expected("original"));
        copy.close(true).unwrap();
        core.close(true).unwrap();
        let end = end + 4;
        assert_eq!(texts(&open(&disk, DIR, end, true)), expected("original"));
        assert_eq!(texts(&open(&disk, COPY, end, true)), expected("copy"));
    }
}

#[test]
fn a_new_segment_begins_only_if_the_last_file_has_other_names() {
    let disk = MemoryDisk::new();
    written(&disk, 0, 2).close(true).unwrap();
    let segments = |core: Arc<PartitionCore>| {
        let bases: Vec<u64> = core
            .segments()
            .snapshot()
            .iter()
            .map(|segment| segment.base_offset)
            .collect();
        core.close(true).unwrap();
        bases
    };
    assert_eq!(segments(open(&disk, DIR, 2, true)), [0]);
    link_all(&disk);
    assert_eq!(segments(open(&disk, DIR, 2, true)), [0, 2]);
    assert_eq!(
        segments(open(&disk, DIR, 2, true)),
        [0, 2],
        "the new file has one name"
    );
}

#[test]
fn recovery_of_a_linked_copy_cuts_no_file_of_the_original() {
    for torn in [true, false] {
        let disk = MemoryDisk::new();
        let core = written(&disk, 0, 2);
        drop(core);
        let log = disk.open(LOG.as_ref(), Access::Write).unwrap();
        let whole = log.bytes().unwrap();
        let rest: &[u8] = if torn { b"half a batch" } else { &[0; 9] };
        log.write_all_at(rest, whole).unwrap();
        link_all(&disk);
        let copy = open(&disk, COPY, 0, false);
        assert_eq!(copy.log_end_offset(), 2);
        append(&copy, 1).unwrap();
        let mut bytes = vec![0; 2 * usize::try_from(whole).unwrap()];
        let read = log.read_at(&mut bytes, 0).unwrap() as u64;
        assert_eq!(read, whole + rest.len() as u64, "torn: {torn}");
        assert!(bytes[usize::try_from(whole).unwrap()..].starts_with(rest));
        assert_eq!(open(&disk, DIR, 0, false).log_end_offset(), 2);
    }
}

/// A full disk once left the entries of a sealed segment to the next flush, which extended the
/// files.
#[test]
fn a_flush_replaces_the_index_files_of_a_sealed_segment() {
    let disk = MemoryDisk::new();
    let core = written(&disk, 0, 2);
    core.flush().unwrap();
    append(&core, 1).unwrap();
    append(&core, 1).unwrap();
    let active = Arc::clone(core.segments().snapshot().last().unwrap());
    active.seal_in_memory();
    let index = active.path(file_name::OFFSET_INDEX);
    let linked = Path::new("/linked");
    disk.hard_link(&index, linked).unwrap();
    let before = disk.metadata(linked).unwrap().bytes;
    active.write_indexes(true, false).unwrap();
    assert_eq!(disk.metadata(linked).unwrap().bytes, before);
    assert!(disk.metadata(&index).unwrap().bytes > before);
}

#[test]
fn an_opening_that_is_cut_off_leaves_both_copies_whole() {
    for call in 0.. {
        let disk = SimulatedDisk::new(call);
        let core = written(&disk, 0, 3);
        let before = texts(&core);
        core.close(true).unwrap();
        link_all(&disk);
        for dir in ["/", "/data", "/copy", DIR, COPY] {
            disk.sync_dir(dir.as_ref()).unwrap();
        }
        disk.cut_power_at(disk.calls() + call);
        let opened = PartitionCore::open(&context(&disk), &spec_in(COPY, 3, true));
        let appended = opened.and_then(|(core, _)| {
            append(&core, 1)?;
            core.flush()
        });
        if !disk.has_lost_power() {
            appended.unwrap();
            assert!(call > 10, "only {call} calls");
            break;
        }
        for left in disk.crash_states().take(20) {
            assert_eq!(texts(&open(&left, DIR, 3, true)), before, "call {call}");
            let copy = open(&left, COPY, 3, false);
            assert_eq!(texts(&copy)[..3], before, "call {call}");
        }
    }
}
