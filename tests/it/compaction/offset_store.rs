//! Committed offsets do not accumulate: the store takes at most twice the bytes of its live
//! records, plus one segment.

use annals::{
    ConsumerGroup, Log, LogConfig, ManualClock, Partition, Topic, TopicConfig, TopicPartition,
};

use super::{START, names};

const GROUPS: usize = 3;
const PARTITIONS: u32 = 4;

struct Store {
    dir: tempfile::TempDir,
    log: Log,
    groups: Vec<ConsumerGroup>,
    offsets: Topic,
}

impl Store {
    /// Creates a log with records to commit, and commits an offset of every group in every
    /// partition.
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let config = LogConfig::new().maintenance_interval(None);
        let log = Log::builder(dir.path())
            .clock(ManualClock::at(START))
            .config(config)
            .open()
            .unwrap();
        let topic = log.open_topic("t", PARTITIONS, TopicConfig::new()).unwrap();
        for partition in topic.partitions() {
            partition.append_batch(["x"; 1_000]).unwrap();
        }
        let groups = (0..GROUPS)
            .map(|number| log.consumer_group(&format!("group {number}")).unwrap())
            .collect();
        let mut store = Self {
            dir,
            groups,
            offsets: topic,
            log,
        };
        (0..GROUPS * PARTITIONS as usize).for_each(|number| store.commit(number));
        store.offsets = store.log.topic("__consumer_offsets").unwrap();
        store
    }

    /// Makes one commit. Successive numbers go through the groups, and then to the next partition.
    fn commit(&self, number: usize) {
        let partition = u32::try_from(number / GROUPS).unwrap() % PARTITIONS;
        self.groups[number % GROUPS]
            .commit([(
                TopicPartition::from(("t", partition)),
                offset_of(number).into(),
            )])
            .unwrap();
    }

    fn partition(&self) -> Partition {
        self.offsets.partition(0).unwrap()
    }

    /// Returns the size of all `.log` files of the store.
    fn bytes(&self) -> u64 {
        self.partition()
            .segments()
            .iter()
            .map(|segment| segment.bytes)
            .sum()
    }

    /// Commits `count` times, and maintains the log after every `pause` commits. Returns the
    /// largest size of the store after a maintenance.
    fn commit_and_maintain(&self, count: usize, pause: usize) -> u64 {
        let mut most = 0;
        for number in 0..count {
            self.commit(number);
            if number % pause == 0 {
                let _done = self.log.maintain().unwrap();
                most = most.max(self.bytes());
            }
        }
        most
    }

    fn check(&self, count: usize) {
        for number in count - GROUPS * PARTITIONS as usize..count {
            let partition =
                TopicPartition::from(("t", u32::try_from(number / GROUPS).unwrap() % PARTITIONS));
            let committed = self.groups[number % GROUPS]
                .committed(&partition)
                .unwrap()
                .unwrap();
            assert_eq!(committed.offset, offset_of(number));
        }
        assert!(names(&self.dir.path().join("__consumer_offsets-0"), ".cleaned").is_empty());
    }
}

fn offset_of(number: usize) -> u64 {
    number as u64 % 1_000
}

#[test]
fn the_offset_store_stays_bounded() {
    let store = Store::new();
    let live = store.bytes();
    let segment = 4 * u32::try_from(live).unwrap();
    store
        .offsets
        .update_config(TopicConfig::new().segment_bytes(segment))
        .unwrap();
    let most = store.commit_and_maintain(2_000, 10);
    assert!(
        most <= 2 * live + u64::from(segment),
        "the store has {most} bytes, {live} of them live, in segments of {segment}"
    );
    assert!(store.partition().log_end_offset() > 2_000);
    store.check(2_000);
}

#[test]
#[ignore = "ten million commits take a minute"]
fn the_offset_store_stays_bounded_over_ten_million_commits() {
    const COUNT: usize = 10_000_000;
    const SEGMENT: u64 = 100 << 20;
    let store = Store::new();
    let live = store.bytes();
    let most = store.commit_and_maintain(COUNT, 10_000);
    println!(
        "{most} bytes at most, {} at the end, {live} of them live, in segments of {SEGMENT}",
        store.bytes()
    );
    assert!(
        most <= 2 * live + SEGMENT,
        "the store has {most} bytes, {live} of them live"
    );
    store.check(COUNT);
}
