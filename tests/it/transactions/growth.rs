//! The internal topics do not grow with the number of transactions: `__consumer_offsets` takes one
//! segment and 700 bytes for each commit of the last `delete.retention.ms`, and
//! `__transaction_state` takes one segment.

use annals::{ConsumerConfig, LogConfig, ManualClock, MemoryDisk, Timestamp};

use super::*;

/// A group that commits its position in transactions, and the topics that store them.
struct Bench {
    log: Log,
    clock: ManualClock,
    /// The largest sizes of `__consumer_offsets` and `__transaction_state` after a maintenance.
    most: [u64; 2],
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
        let log = Log::builder("log")
            .storage(MemoryDisk::new())
            .clock(clock.clone())
            .config(LogConfig::new().maintenance_interval(None))
            .open()
            .unwrap();
        let most = [0, 0];
        Self { log, clock, most }
    }

    /// Commits `count` transactions of one record each, of which `per_day` take a day. Maintains
    /// the log after every `pause` of them.
    fn commit(&mut self, count: u64, per_day: u64, pause: u64) {
        let forever = TopicConfig::new().set("retention.ms", "-1").unwrap();
        let input = self.log.open_topic("in", 1, forever).unwrap();
        let before = part(&input, 0).log_end_offset();
        let group = self.log.consumer_group("g").unwrap();
        let config = ConsumerConfig::new().max_poll_records(1);
        let mut consumer = group.join_with("in", config).unwrap();
        let mut producer = self.log.transactional_producer("id").unwrap();
        let step = DAY / u32::try_from(per_day).unwrap();
        for number in 0..count {
            if number % 1_000 == 0 {
                fill(&input, 0, (count - number).min(1_000));
            }
            assert_eq!(consumer.poll(SOON).unwrap().iter().count(), 1);
            let mut transaction = producer.begin().unwrap();
            transaction.commit_offsets(&mut consumer).unwrap();
            transaction.commit().unwrap();
            self.clock.advance(step);
            if number % pause == 0 {
                let _done = self.log.maintain().unwrap();
                let sizes = INTERNAL.map(|name| self.log.topic(name).unwrap().size());
                self.most = [0, 1].map(|topic| self.most[topic].max(sizes[topic]));
            }
        }
        let position = group.committed(&id("in", 0)).unwrap().unwrap();
        assert_eq!(position.offset, before + count);
    }

    fn configure(&mut self, segment_bytes: u32, retention: Duration) {
        self.commit(1, 1, 1);
        for name in INTERNAL {
            let config = TopicConfig::new().segment_bytes(segment_bytes);
            let config = config.set("delete.retention.ms", &retention.as_millis().to_string());
            let topic = self.log.topic(name).unwrap();
            topic.update_config(config.unwrap()).unwrap();
        }
    }

    /// Checks the sizes, if this many commits were made in the time of retention.
    fn check(&self, segment_bytes: u32, commits: u64) {
        let [offsets, states] = self.most;
        let segment = u64::from(segment_bytes);
        let bound = segment + 700 * commits;
        assert!(offsets <= bound, "{offsets} bytes of positions > {bound}");
        let bound = segment + 1_000;
        assert!(states <= bound, "{states} bytes of states > {bound}");
    }
}

#[test]
fn internal_topics_stay_bounded() {
    const SEGMENT: u32 = 16 << 10;
    for (retention, commits) in [(DAY, 300), (DAY / 10, 30)] {
        let mut bench = Bench::new();
        bench.configure(SEGMENT, retention);
        bench.commit(3_000, 300, 20);
        bench.check(SEGMENT, commits);
        assert!(
            bench.most[0] > 78 * commits,
            "the markers of a day are kept"
        );
    }
}

#[test]
#[ignore = "a million commits take minutes"]
fn internal_topics_stay_bounded_over_a_million_commits() {
    const SEGMENT: u32 = 100 << 20;
    let mut bench = Bench::new();
    bench.commit(1_000_000, 50_000, 1_000);
    println!("{:?} bytes at most", bench.most);
    bench.check(SEGMENT, 50_000);
}
