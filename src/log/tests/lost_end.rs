//! A log that lost records below its log start in a power cut.

use super::*;

/// Regression: an assertion of the roll took the records that were lost below the log start for an
/// error.
#[test]
fn a_log_that_lost_its_end_below_its_start_goes_on() {
    let disk = SimulatedDisk::new(1);
    let open = |disk: &SimulatedDisk| Log::builder("log").storage(disk.clone()).open().unwrap();
    let log = open(&disk);
    let topic = log.create_topic("t", 1, TopicConfig::new()).unwrap();
    let partition = topic.partition(0).unwrap();
    partition.append("synced").unwrap();
    log.flush().unwrap();
    for value in ["b", "c", "d", "e"] {
        partition.append(value).unwrap();
    }
    partition.delete_records_before(4).unwrap();
    let partition = disk
        .crash_states()
        .map(|left| open(&left).topic("t").unwrap().partition(0).unwrap())
        .find(|partition| partition.segments().len() == 2)
        .expect("a power cut may take the records that are not synced");
    assert_eq!(partition.log_start_offset(), 4);
    partition.append("later").unwrap();
    partition.roll().unwrap();
    partition.append("last").unwrap();
    partition.roll().unwrap();
    let mut reader = partition.read(..).unwrap();
    for value in ["later", "last"] {
        assert_eq!(reader.next_record().unwrap().unwrap().text(), value);
    }
    assert!(reader.next_record().unwrap().is_none());
    partition.truncate_to(5).unwrap();
    assert_eq!(partition.log_end_offset(), 5);
}
