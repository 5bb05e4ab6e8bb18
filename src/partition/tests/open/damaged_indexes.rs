//! Every index with each bit flipped, and cut, emptied, removed or extended. All reads and look-ups
//! stay right, in logs that annals or a broker wrote and that were closed or left by a killed
//! process.

use std::collections::BTreeMap;

use crate::format::batch::BatchHeader;
use crate::format::control::ControlRecord;
use crate::format::control::control_of;
use crate::format::index_entry::AbortedTransaction;
use crate::format::producer_snapshot;
use crate::partition::tests::read::times::stored_batch;
use crate::partition::tests::read_only::beside::reading;
use crate::partition::tests::*;
use crate::storage::{MemoryDisk, read_file};

pub(in crate::partition::tests) const TRANSACTIONAL: u16 = 1 << 4;
const CONTROL: u16 = 1 << 5;

/// A batch of one record: its kind, and the id of its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::partition::tests) enum Stored {
    Plain,
    Data(i64),
    Abort(i64),
    Commit(i64),
}

use Stored::{Abort, Commit, Data, Plain};

/// The batch at each offset. Transactions overlap, span several segments and reuse a producer id.
const STORED: [Stored; 22] = [
    Data(7),
    Data(8),
    Abort(7),
    Plain,
    Data(7),
    Commit(8),
    Data(8),
    Commit(7),
    Data(7),
    Plain,
    Abort(8),
    Abort(7),
    Data(7),
    Data(8),
    Commit(7),
    Plain,
    Abort(8),
    Data(8),
    Plain,
    Abort(8),
    Data(7),
    Commit(7),
];

/// The timestamp at each offset. Timestamps fall, and some repeat after a later one.
const TIMES: [i64; 22] = [
    0, 5, 1, 1, 9, 1, 9, 9, 3, 9, 10, 12, 10, 11, 12, 0, 14, 12, 13, 14, 15, 15,
];

/// Number of batches that annals appended before a broker appended the others.
const OURS: usize = 18;

/// Appends a batch without checking its producer.
pub(in crate::partition::tests) fn append(core: &PartitionCore, stored: Stored, time: i64) {
    let control = |producer_id, control: ControlRecord| {
        let (key, value) = control.encode().unwrap();
        stored_batch(
            &[time],
            producer_id,
            TRANSACTIONAL | CONTROL,
            &Record::new(value).key(key),
        )
    };
    let mut batch = match stored {
        Plain => stored_batch(&[time], -1, 0, &Record::new("plain")),
        Data(producer_id) => {
            stored_batch(&[time], producer_id, TRANSACTIONAL, &Record::new("data"))
        }
        Abort(producer_id) => control(
            producer_id,
            ControlRecord::Abort {
                coordinator_epoch: 0,
            },
        ),
        Commit(producer_id) => control(
            producer_id,
            ControlRecord::Commit {
                coordinator_epoch: 0,
            },
        ),
    };
    core.append_encoded(&mut batch).unwrap();
}

/// Returns the offsets of the committed records.
fn committed() -> Vec<u64> {
    let is_committed = |number: &usize| match STORED[*number] {
        Plain => true,
        Data(id) => {
            STORED[*number..]
                .iter()
                .find(|end| [Abort(id), Commit(id)].contains(end))
                == Some(&Commit(id))
        }
        Abort(_) | Commit(_) => false,
    };
    (0..STORED.len())
        .filter(is_committed)
        .map(|number| number as u64)
        .collect()
}

/// The files that a process left, and the spec to open them with.
#[derive(Clone)]
struct Left {
    files: BTreeMap<String, Vec<u8>>,
    spec: PartitionSpec,
}

impl Left {
    /// Creates a log of the first `count` batches and closes it. It was scanned before, so that it
    /// has all its indexes.
    fn closed(count: usize) -> Self {
        let disk = MemoryDisk::new();
        let core = PartitionCore::create(&context(&disk), &Self::spec()).unwrap();
        (0..count).for_each(|number| append(&core, STORED[number], TIMES[number]));
        drop(core);
        let (core, report) = PartitionCore::open(&context(&disk), &Self::spec()).unwrap();
        assert!(report.damage.is_none(), "{report:?}");
        assert_eq!(report.bytes_cut, 0, "{report:?}");
        core.close(true).unwrap();
        let names = disk
            .list(DIR.as_ref())
            .unwrap()
            .into_iter()
            .map(|entry| entry.name);
        let files = names.map(|name| {
            (
                name.clone(),
                read_file(&disk, &Path::new(DIR).join(name), 1 << 20).unwrap(),
            )
        });
        Self {
            files: files.collect(),
            spec: PartitionSpec {
                clean: true,
                recovery_point: count as u64,
                ..Self::spec()
            },
        }
    }

    fn spec() -> PartitionSpec {
        let settings = TopicSettings {
            segment_bytes: 420,
            index_interval_bytes: 100,
            ..TopicSettings::unconfigured()
        };
        PartitionSpec {
            settings,
            ..spec(0, 0, i64::MAX)
        }
    }

    /// Creates a log as a broker leaves it: without digests, and with a producer snapshot for each
    /// segment.
    fn by_a_broker() -> Self {
        let mut left = Self::closed(STORED.len());
        left.files.remove(file_name::INDEX_DIGESTS).unwrap();
        let mut states = ProducerStates::default();
        let (logs, rest): (BTreeMap<_, _>, _) = left
            .files
            .clone()
            .into_iter()
            .partition(|(name, _)| is_log(name));
        left.files = rest;
        for (name, mut bytes) in logs {
            let snapshot = name.replace(".log", ".snapshot");
            left.files
                .insert(snapshot, producer_snapshot::encode(&states.entries()));
            left.files.insert(name, bytes.clone());
            while !bytes.is_empty() {
                let header = BatchHeader::decode(&bytes).unwrap();
                states.replay(&header, control_of(&header, &bytes));
                bytes.drain(..header.size_bytes as usize);
            }
        }
        left.spec.broker_since = true;
        left
    }

    /// Returns the same log as a killed process leaves it, which had flushed up to
    /// `recovery_point`.
    fn killed_at(mut self, recovery_point: u64) -> Self {
        (self.spec.clean, self.spec.recovery_point) = (false, recovery_point);
        self
    }

    fn disk(&self) -> MemoryDisk {
        let disk = MemoryDisk::new();
        disk.create_dir_all(DIR.as_ref()).unwrap();
        for (name, bytes) in &self.files {
            put(&disk, Path::new(DIR).join(name), bytes);
        }
        disk
    }

    /// Opens the log read-only, then for writing, and again after a close, and checks reads each
    /// time. `kind` is the kind of the damaged index, if one is damaged.
    fn check(&self, kind: Option<&str>, case: &str) {
        let disk = self.disk();
        let check = |core: &Arc<PartitionCore>, case: &str| {
            if kind.is_none_or(|kind| kind == file_name::TRANSACTION_INDEX) {
                check_committed(core, case);
            }
            if kind != Some(file_name::TRANSACTION_INDEX) {
                check_places(core, case);
            }
        };
        let open = |context: &Arc<PartitionContext>, spec| {
            let (core, report) = PartitionCore::open(context, spec)
                .unwrap_or_else(|error| panic!("{case}: {error}"));
            assert!(report.damage.is_none(), "{case}: {report:?}");
            assert_eq!(report.bytes_cut, 0, "{case}: {report:?}");
            core
        };
        check(
            &open(&reading(&disk), &self.spec),
            &format!("{case}, read only"),
        );
        let core = open(&context(&disk), &self.spec);
        check(&core, case);
        core.close(true).unwrap();
        let again = PartitionSpec {
            clean: true,
            recovery_point: STORED.len() as u64,
            ..self.spec.clone()
        };
        check(
            &open(&context(&disk), &again),
            &format!("{case}, after a close"),
        );
    }

    /// Damages each index in one of every `stride` ways, beginning with way `first`.
    fn check_harms(&self, case: &str, first: usize, stride: usize) {
        self.check(None, case);
        let logs = self.files.keys().filter(|name| is_log(name));
        let indexes: Vec<_> = logs
            .flat_map(|log| file_name::INDEXES.map(|suffix| log.replace(file_name::LOG, suffix)))
            .collect();
        assert!(indexes.len() >= 12, "{indexes:?}");
        for name in indexes {
            let bytes = self.files.get(&name).cloned().unwrap_or_default();
            let mut harms = vec![
                ("emptied".to_owned(), Some(Vec::new())),
                ("removed".to_owned(), None),
            ];
            harms.extend((0..bytes.len() * 8).map(|bit| {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                (format!("bit {bit} flipped"), Some(flipped))
            }));
            harms.extend(
                (1..bytes.len())
                    .map(|length| (format!("cut to {length}"), Some(bytes[..length].to_vec()))),
            );
            for extra in extra_entries(&name, &bytes) {
                harms.push((
                    format!("with {extra:?} at its end"),
                    Some([&bytes[..], &extra].concat()),
                ));
            }
            for (harm, harmed) in harms.into_iter().skip(first).step_by(stride) {
                let mut left = self.clone();
                left.files.remove(&name);
                left.files
                    .extend(harmed.map(|harmed| (name.clone(), harmed)));
                left.check(name.rsplit('.').next(), &format!("{case}, {name} {harm}"));
            }
        }
    }
}

fn is_log(name: &str) -> bool {
    matches!(
        file_name::parse_segment_file(name),
        Some((_, file_name::LOG))
    )
}

/// Returns entries of zeros, a copy of the last entry, and aborted transactions that never
/// happened.
fn extra_entries(name: &str, bytes: &[u8]) -> Vec<Vec<u8>> {
    let size = match name.rsplit_once('.').unwrap().1 {
        file_name::OFFSET_INDEX => 8,
        file_name::TIME_INDEX => 12,
        _ => 34,
    };
    let mut extra = vec![vec![0; size], vec![0; 5 * size]];
    extra.extend(
        bytes
            .len()
            .checked_sub(size)
            .map(|last| bytes[last..].to_vec()),
    );
    if size == 34 {
        let base: u64 = name.split('.').next().unwrap().parse().unwrap();
        let never = [7, 8].map(|producer_id| AbortedTransaction {
            producer_id,
            first_offset: 4,
            last_offset: base + 3,
            last_stable_offset: base + 4,
        });
        extra.extend(never.map(|transaction| transaction.encode().to_vec()));
    }
    extra
}

fn offsets(core: &Arc<PartitionCore>, from: u64, options: ReadOptions, limit: usize) -> Vec<u64> {
    let mut reader = Reader::new(core, KeepOpen::nothing(), &(from..), options).unwrap();
    let mut offsets = Vec::new();
    while offsets.len() < limit
        && let Some(record) = reader.next_record().unwrap()
    {
        offsets.push(record.offset());
    }
    offsets
}

fn check_committed(core: &Arc<PartitionCore>, case: &str) {
    let expected = committed();
    for from in [0, 6, 13] {
        let rest: Vec<_> = expected
            .iter()
            .copied()
            .filter(|offset| *offset >= from)
            .collect();
        let options = ReadOptions::new().isolation(Isolation::ReadCommitted);
        assert_eq!(
            offsets(core, from, options, usize::MAX),
            rest,
            "{case}: committed from {from}"
        );
    }
}

/// Checks reads by offset and by time.
fn check_places(core: &Arc<PartitionCore>, case: &str) {
    for from in (0..STORED.len()).filter(|number| matches!(STORED[*number], Plain | Data(_))) {
        let options = ReadOptions::new().isolation(Isolation::ReadUncommitted);
        assert_eq!(
            offsets(core, from as u64, options, 1),
            [from as u64],
            "{case}: from {from}"
        );
    }
    for at in -1..17 {
        let expected = TIMES.iter().position(|time| *time >= at);
        let found = core
            .offset_for(OffsetSpec::Timestamp(Timestamp::from_millis(at)))
            .unwrap();
        assert_eq!(
            found.map(|found| found.offset),
            expected.map(|number| number as u64),
            "{case}: time {at}"
        );
    }
    let largest = core.offset_for(OffsetSpec::MaxTimestamp).unwrap();
    assert_eq!(
        largest.map(|found| found.offset),
        Some(20),
        "{case}: the largest time"
    );
}

/// Returns a log of each kind.
fn all() -> [(&'static str, Left); 5] {
    // A killed broker leaves indexes with room for more entries.
    let mut killed_broker = Left::by_a_broker().killed_at(12);
    let last = killed_broker
        .files
        .keys()
        .rfind(|name| is_log(name))
        .unwrap()
        .clone();
    for suffix in [file_name::OFFSET_INDEX, file_name::TIME_INDEX] {
        let index: &mut Vec<u8> = killed_broker
            .files
            .get_mut(&last.replace(file_name::LOG, suffix))
            .unwrap();
        index.resize(index.len() + 24, 0);
    }
    // The digests describe a shorter log. The broker that appended to it left no other trace.
    let (ours, mut appended_to) = (Left::closed(OURS), Left::closed(STORED.len()));
    appended_to.files.insert(
        file_name::INDEX_DIGESTS.to_owned(),
        ours.files[file_name::INDEX_DIGESTS].clone(),
    );
    [
        ("ours", Left::closed(STORED.len())),
        ("of a broker", Left::by_a_broker()),
        (
            "of a killed process",
            Left::closed(STORED.len()).killed_at(12),
        ),
        ("of a killed broker", killed_broker),
        ("appended to by a broker", appended_to),
    ]
}

#[test]
fn damaged_index_does_not_change_reads() {
    let stride = all().len() * 2;
    for (number, (case, left)) in all().into_iter().enumerate() {
        left.check_harms(case, number * 2, stride);
    }
}

#[test]
#[ignore = "every bit of every index takes a minute"]
fn damaged_index_does_not_change_reads_for_any_bit() {
    for (case, left) in all() {
        left.check_harms(case, 0, 1);
    }
}
