//! A process that is killed while it appends: every acknowledged record is on disk, and the log
//! ends at the end of a batch.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::rerun::command_of;
use annals::{Durability, Log, TopicConfig};

/// The variable that marks the process to be killed. Its value is the directory of the log.
const VICTIM: &str = "ANNALS_TEST_RECOVERY_VICTIM";
/// The variable that selects the durability: `yes` for synced appends.
const SYNCED: &str = "ANNALS_TEST_RECOVERY_SYNCED";

#[test]
fn acknowledged_records_survive_repeated_kills() {
    for synced in ["no", "yes"] {
        let dir = tempfile::tempdir().unwrap();
        let mut least = 0;
        for round in 0..4 {
            let mut victim = command_of("recovery::victim::the_victim")
                .env(VICTIM, dir.path())
                .env(SYNCED, synced)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(victim.stdout.take().unwrap())
                .lines()
                .map(Result::unwrap);
            let ends = lines.filter_map(|line| line.strip_prefix("end ")?.parse::<u64>().ok());
            least = ends.take(40 + 13 * round).last().unwrap().max(least);
            victim.kill().unwrap();
            victim.wait().unwrap();
        }
        let log = Log::open(dir.path()).unwrap();
        assert!(!log.recovery().clean);
        let mut reports = log.recovery().partitions.iter();
        assert!(reports.all(|(_, found)| found.damage.is_none()));
        let partition = log.topic("t").unwrap().partition(0).unwrap();
        let end = partition.log_end_offset();
        assert!(
            end >= least,
            "the log ends at {end}, and {least} was acknowledged"
        );
        assert!(end.is_multiple_of(3), "{end} is not the end of a batch");
        let mut reader = partition.read(..).unwrap();
        for offset in 0..end {
            assert_eq!(
                reader.next_record().unwrap().unwrap().text(),
                format!("value {offset}")
            );
        }
        assert!(reader.next_record().unwrap().is_none());
    }
}

#[test]
#[ignore = "runs in the process that another test kills"]
fn the_victim() {
    let Some(dir) = std::env::var_os(VICTIM) else {
        return;
    };
    let log = Log::open(dir).unwrap();
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    let is_synced = std::env::var(SYNCED).is_ok_and(|synced| synced == "yes");
    let durability = if is_synced {
        Durability::Synced
    } else {
        Durability::Os
    };
    let config = TopicConfig::new()
        .segment_bytes(1_000)
        .durability(durability);
    let partition = log
        .open_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    loop {
        let end = partition.log_end_offset();
        let appended = partition
            .append_batch((end..end + 3).map(|offset| format!("value {offset}")))
            .unwrap();
        println!("end {}", appended.end);
    }
}
