//! Recovery sets segments aside and loses power while it does. Every state that this leaves ends at
//! the damage, even if gaps are not damage.

use crate::partition::tests::*;
use crate::storage::{Access, SimulatedDisk};

fn spec_with_gaps() -> PartitionSpec {
    PartitionSpec {
        is_dense: false,
        ..spec(0, 0, i64::MAX)
    }
}

/// Creates some segments that are all on the device.
fn whole() -> (SimulatedDisk, Vec<Arc<Segment>>) {
    let disk = SimulatedDisk::new(1);
    let core = PartitionCore::create(&context(&disk), &spec_with_gaps()).unwrap();
    for number in 0..20 {
        core.append(
            Durability::Synced,
            [Record::new(format!("record {number}"))],
        )
        .unwrap();
    }
    for dir in ["/", "/data"] {
        disk.sync_dir(dir.as_ref()).unwrap();
    }
    let segments = core.segments().snapshot().to_vec();
    assert!(segments.len() > 3, "{}", segments.len());
    (disk, segments)
}

/// Damages the second segment. Returns the disk and the number of records before the damage.
fn damaged() -> (SimulatedDisk, u64) {
    let (disk, segments) = whole();
    let second = &segments[1];
    let batches = u32::try_from(second.next_offset() - second.base_offset).unwrap();
    assert!(batches > 2);
    let file = disk.open(second.log_path(), Access::Write).unwrap();
    file.write_all_at(b"damage", u64::from(second.size() / batches + 70))
        .unwrap();
    file.sync_data().unwrap();
    (disk, second.base_offset + 1)
}

fn torn_files(disk: &SimulatedDisk) -> usize {
    disk.list(DIR.as_ref())
        .unwrap()
        .iter()
        .filter(|entry| entry.name.contains(".torn"))
        .count()
}

fn check_all(make: impl Fn() -> (SimulatedDisk, u64)) {
    let (disk, end) = make();
    let left: Vec<_> = (0..end)
        .map(|number| (number, format!("record {number}")))
        .collect();
    let (core, report) = PartitionCore::open(&context(&disk), &spec_with_gaps()).unwrap();
    assert_eq!(read(&core).unwrap(), left);
    assert!(report.kept.len() > 1, "{report:?}");
    assert_eq!(report.kept.len(), torn_files(&disk), "{report:?}");
    assert!(report.kept.is_sorted(), "{report:?}");
    let kept_bytes: u64 = report
        .kept
        .iter()
        .map(|path| disk.metadata(path).unwrap().bytes)
        .sum();
    assert_eq!(report.bytes_cut, kept_bytes);
    let names = report
        .kept
        .iter()
        .filter_map(|path| path.to_str()?.strip_suffix(".log.torn"));
    for (name, suffix) in names.flat_map(|name| file_name::INDEXES.map(|suffix| (name, suffix))) {
        assert!(
            disk.metadata(format!("{name}.{suffix}").as_ref()).is_err(),
            "a segment that is set aside has no {suffix}"
        );
    }
    let mut states = 0;
    for call in 0.. {
        let disk = make().0.fork();
        disk.cut_power_at(call);
        let _cut_short = PartitionCore::open(&context(&disk), &spec_with_gaps());
        if !disk.has_lost_power() {
            break;
        }
        let in_order = disk.crash_states().take(30);
        for (number, state) in in_order.chain((0..10).map(|_| disk.crash())).enumerate() {
            let case = format!("call {call}, state {number}");
            let (core, again) = PartitionCore::open(&context(&state), &spec_with_gaps()).unwrap();
            assert_eq!(read(&core).unwrap(), left, "{case}: {again:?}");
            assert!(
                torn_files(&state) >= report.kept.len(),
                "{case}: a part was not kept"
            );
            assert_eq!(
                core.append(Durability::Os, ["x"]).unwrap().offsets.start,
                end,
                "{case}"
            );
            states += 1;
        }
    }
    assert!(states > 100, "{states}");
}

#[test]
fn power_cut_during_recovery_leaves_no_hole_after_the_damage() {
    check_all(damaged);
}

/// No crash causes this state. Every batch is whole, so none of them is set aside.
#[test]
fn segment_that_begins_before_the_end_of_the_previous_one_is_damage() {
    let (disk, segments) = whole();
    let base = segments[2].base_offset;
    let name = |base| {
        segments[2]
            .log_path()
            .with_file_name(file_name::segment_file(base, file_name::LOG))
    };
    disk.rename(&name(base), &name(base - 1)).unwrap();
    let (core, report) = PartitionCore::open(&context(&disk), &spec_with_gaps()).unwrap();
    assert!(
        matches!(&report.damage, Some(Error::Corrupt(damage)) if damage.offsets == (base - 1..base)),
        "{report:?}"
    );
    assert_eq!((report.bytes_cut, torn_files(&disk)), (0, 0));
    assert_eq!(core.log_end_offset(), 20);
    let read = |offsets: std::ops::Range<u64>| {
        let mut reader =
            Reader::new(&core, KeepOpen::nothing(), &offsets, ReadOptions::new()).unwrap();
        offsets
            .map(|_| reader.next_record().unwrap().unwrap().offset())
            .collect::<Vec<_>>()
    };
    assert_eq!(read(0..base - 1), (0..base - 1).collect::<Vec<_>>());
    assert_eq!(read(base..20), (base..20).collect::<Vec<_>>());
}
