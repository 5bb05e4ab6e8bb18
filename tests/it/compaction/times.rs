//! Searches by time agree with one that looks at every record, for any times and after any
//! sequence of appends, rolls, compactions, deletions and cuts. A log that was opened only to read
//! follows the changes, and must agree too.

use annals::OffsetSpec;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// The times of the records, in milliseconds since [`START`].
const TIMES: i64 = 30;

#[derive(Clone, Debug)]
enum Step {
    /// Appends a batch of records, each with a key and a time.
    Append(Vec<(u8, i64)>),
    Roll,
    Compact,
    DeleteBefore(Index),
    Truncate(Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => vec((0_u8..6, 0..TIMES), 1..4).prop_map(Step::Append),
        2 => Just(Step::Roll),
        1 => Just(Step::Compact),
        1 => any::<Index>().prop_map(Step::DeleteBefore),
        1 => any::<Index>().prop_map(Step::Truncate),
    ];
    vec(step, 1..80)
}

fn at(time: i64) -> Timestamp {
    Timestamp::from_millis(START.as_millis() + time)
}

fn run(partition: &Partition, step: &Step) {
    let range = partition.log_start_offset()..=partition.log_end_offset();
    let place = |index: &Index| {
        let count = usize::try_from(range.end() - range.start()).unwrap() + 1;
        range.start() + index.index(count) as u64
    };
    match step {
        Step::Append(records) => {
            let records = records.iter().map(|(key, time)| {
                Record::new("a value")
                    .key(vec![*key])
                    .timestamp(at(*time))
                    .into_owned()
            });
            partition.append_batch(records).unwrap();
        }
        Step::Roll => partition.roll().unwrap(),
        Step::Compact => drop(partition.compact().unwrap()),
        Step::DeleteBefore(index) => drop(partition.delete_records_before(place(index)).unwrap()),
        Step::Truncate(index) => partition.truncate_to(place(index)).unwrap(),
    }
}

/// Compares each search by time with one that looks at every record.
fn check(partition: &Partition, case: &str) {
    let mut reader = partition.read(..).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push((record.offset(), record.timestamp().unwrap()));
    }
    let find = |spec| {
        let found = partition.offset_for(spec).unwrap();
        found.map(|found| (found.offset, found.timestamp.unwrap()))
    };
    for time in -1..=TIMES {
        let expected = records.iter().find(|(_, found)| *found >= at(time));
        let found = find(OffsetSpec::Timestamp(at(time)));
        assert_eq!(found.as_ref(), expected, "{case}: {time} in {records:?}");
    }
    let largest = records.iter().rev().max_by_key(|(_, time)| *time);
    let found = find(OffsetSpec::MaxTimestamp);
    assert_eq!(found.as_ref(), largest, "{case}: largest of {records:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn searches_by_time_agree_with_one_that_looks_at_every_record(steps in steps()) {
        let bench = Bench::new(START);
        let config = compacted(300).cleanup_policy(CleanupPolicy::CompactAndDelete);
        let partition = bench.partition("t", config);
        let other = Log::builder(bench.dir.path()).open_read_only().unwrap();
        let follower = other.topic("t").unwrap().partition(0).unwrap();
        for (number, step) in steps.iter().enumerate() {
            run(&partition, step);
            let case = format!("step {number}, {step:?}");
            check(&partition, &case);
            check(&follower, &format!("{case}, read only"));
        }
    }
}
