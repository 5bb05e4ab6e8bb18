//! A power cut tears a batch at the border of a sector within its base offset or its length, which
//! the checksum does not cover. Recovery took the rest for a whole batch in a wrong place: the
//! partition was damaged and refused appends. Now the batch counts as torn and is cut.

use annals::{Log, Partition, SimulatedDisk, Storage, Topic, TopicConfig};

const FILE: &str = "log/t-0/00000000000000000000.log";
const SECTOR: u64 = 512;

fn partition(topic: &Topic) -> Partition {
    topic.partition(0).unwrap()
}

/// Appends records and makes them durable, so that the next batch begins `before` bytes before the
/// border of a sector.
fn fill(disk: &SimulatedDisk, records: usize, before: u64) -> Log {
    let open = |disk: &SimulatedDisk| Log::builder("log").storage(disk.clone()).open().unwrap();
    let filled = |disk: &SimulatedDisk, more: usize| {
        let log = open(disk);
        let topic = log.create_topic("t", 1, TopicConfig::new()).unwrap();
        let first = std::iter::once("a".repeat(64 + more));
        let batch: Vec<String> = first.chain((1..records).map(|_| String::new())).collect();
        partition(&topic).append_batch(&batch).unwrap();
        log.flush().unwrap();
        log
    };
    let trial = SimulatedDisk::new(0);
    let _log = filled(&trial, 0);
    let bytes = trial.metadata(FILE.as_ref()).unwrap().bytes;
    let more = (2 * SECTOR - before - bytes % SECTOR) % SECTOR;
    // A value of 64 bytes or more has a length of two bytes.
    let log = filled(disk, usize::try_from(more).unwrap());
    let bytes = disk.metadata(FILE.as_ref()).unwrap().bytes;
    assert_eq!(bytes % SECTOR, SECTOR - before);
    log
}

#[test]
fn a_batch_that_is_torn_within_its_offset_or_its_length_is_cut() {
    for records in [1, 300] {
        for before in 1..=12 {
            let disk = SimulatedDisk::new(0);
            let log = fill(&disk, records, before);
            let end = records as u64;
            partition(&log.topic("t").unwrap()).append("b").unwrap();
            let mut ends = Vec::new();
            for left in disk.crash_states() {
                let log = Log::builder("log").storage(left).open().unwrap();
                let partition = partition(&log.topic("t").unwrap());
                let label = format!("{records} records, {before} bytes before the border");
                assert!(partition.recovery().damage.is_none(), "{label}");
                let found = partition.log_end_offset();
                assert_eq!(partition.append("c").unwrap().offset, found, "{label}");
                ends.push(found);
            }
            ends.sort_unstable();
            ends.dedup();
            assert_eq!(ends, [end, end + 1]);
        }
    }
}
