//! Tables of retention decisions: from segments and facts about their files to the new start of the
//! log.

use std::path::PathBuf;

use super::*;
use crate::error::Corruption;
use crate::topic_partition::TopicPartition;

const DAY: i64 = 24 * 3600 * 1000;
/// A day in November 2023.
const NOW: i64 = 1_700_000_000_000;

/// Modification times of the files, and the timestamps in the headers if they differ from the
/// index. One entry for each segment.
#[derive(Default)]
struct Files {
    modified: Vec<i64>,
    confirmed: Vec<Option<i64>>,
    damaged: bool,
}

impl Files {
    fn index(segment: &SegmentInfo) -> usize {
        usize::try_from(segment.base_offset / 10).unwrap()
    }
}

impl Evidence for Files {
    fn modified(&self, segment: &SegmentInfo) -> Result<Timestamp> {
        Ok(Timestamp::from_millis(
            self.modified
                .get(Self::index(segment))
                .copied()
                .unwrap_or(NOW),
        ))
    }

    fn confirmed(&self, segment: &SegmentInfo) -> Result<Option<Timestamp>> {
        if self.damaged {
            return Err(Error::Corrupt(Box::new(Corruption {
                partition: TopicPartition::new("t", 0),
                path: PathBuf::from("t-0/00000000000000000000.log"),
                position: 0,
                offsets: 0..10,
                reason: "a test".to_owned(),
            })));
        }
        Ok(match self.confirmed.get(Self::index(segment)) {
            Some(confirmed) => confirmed.map(Timestamp::from_millis),
            None => segment.max_timestamp,
        })
    }
}

/// Creates segments of ten records and 100 bytes each; the last one is active.
fn segments(largest: &[Option<i64>]) -> Vec<SegmentInfo> {
    let count = largest.len() as u64;
    let info = |(index, largest): (u64, &Option<i64>)| SegmentInfo {
        base_offset: index * 10,
        next_offset: index * 10 + 10,
        bytes: 100,
        max_timestamp: largest.map(Timestamp::from_millis),
        is_active: index + 1 == count,
        path: PathBuf::from(format!("t-0/{:020}.log", index * 10)),
    };
    (0..).zip(largest).map(info).collect()
}

fn of_age(days: &[i64]) -> Vec<SegmentInfo> {
    segments(
        &days
            .iter()
            .map(|days| Some(NOW - days * DAY))
            .collect::<Vec<_>>(),
    )
}

/// Returns the new start of a log of these segments after retention of a week at `now`.
fn after_a_week(segments: &[SegmentInfo], now: i64, files: &Files) -> Option<u64> {
    let high_watermark = segments.last().unwrap().next_offset;
    expired(
        segments,
        high_watermark,
        7 * DAY,
        Timestamp::from_millis(now),
        files,
    )
    .unwrap()
}

#[test]
fn size_limit_deletes_the_oldest_segments_and_keeps_at_least_the_limit() {
    let three = of_age(&[0, 0, 0]);
    for (limit, end) in [
        (200, Some(10)),
        (201, None),
        (199, Some(10)),
        (100, Some(20)),
        (0, Some(30)),
        (300, None),
        (-1, None),
    ] {
        assert_eq!(over_size(&three, 30, limit), end, "limit {limit}");
    }
    assert_eq!(over_size(&three, 30, i64::MAX), None);
    assert_eq!(over_size(&[], 0, 0), None);
}

#[test]
fn segment_above_the_high_watermark_is_kept() {
    let three = of_age(&[9, 9, 9]);
    for (high_watermark, end) in [
        (0, None),
        (9, None),
        (10, Some(10)),
        (25, Some(20)),
        (30, Some(30)),
    ] {
        assert_eq!(
            over_size(&three, high_watermark, 0),
            end,
            "size, high watermark {high_watermark}"
        );
        let aged = expired(
            &three,
            high_watermark,
            7 * DAY,
            Timestamp::from_millis(NOW),
            &Files::default(),
        )
        .unwrap();
        assert_eq!(aged, end, "age, high watermark {high_watermark}");
    }
}

#[test]
fn empty_last_segment_is_kept() {
    let mut two = of_age(&[9, 9]);
    two[1] = SegmentInfo {
        bytes: 0,
        next_offset: 10,
        max_timestamp: None,
        ..two[1].clone()
    };
    assert_eq!(after_a_week(&two, NOW, &Files::default()), Some(10));
    assert_eq!(over_size(&two, 10, 0), Some(10));
    two.remove(0);
    assert_eq!(
        after_a_week(
            &two,
            NOW,
            &Files {
                modified: vec![0, 0],
                ..Files::default()
            }
        ),
        None
    );
}

#[test]
fn age_counts_from_the_largest_timestamp_and_ends_at_the_first_kept_segment() {
    for (ages, end) in [
        (&[9, 8, 1][..], Some(20)),
        (&[9, 8, 8], Some(30)),
        (&[7, 7, 7], None),
        (&[1, 9, 9], None),
        (&[9, 1, 9], Some(10)),
        (&[0], None),
    ] {
        assert_eq!(
            after_a_week(&of_age(ages), NOW, &Files::default()),
            end,
            "{ages:?}"
        );
    }
    let old = of_age(&[9, 9]);
    assert_eq!(
        expired(&old, 20, -1, Timestamp::from_millis(NOW), &Files::default()).unwrap(),
        None,
        "kept for ever"
    );
    assert_eq!(
        expired(
            &old,
            20,
            i64::MAX,
            Timestamp::from_millis(NOW),
            &Files::default()
        )
        .unwrap(),
        None
    );
    assert_eq!(
        expired(&old, 20, 0, Timestamp::from_millis(NOW), &Files::default()).unwrap(),
        Some(20)
    );
}

#[test]
fn segment_without_timestamps_counts_from_its_modification_time() {
    let none = segments(&[None, None, None]);
    let files = Files {
        modified: vec![NOW - 9 * DAY, NOW - 8 * DAY, NOW],
        ..Files::default()
    };
    assert_eq!(after_a_week(&none, NOW, &files), Some(20));
}

#[test]
fn time_index_with_too_low_a_timestamp_deletes_nothing() {
    let claims = of_age(&[9, 9, 0]);
    let files = Files {
        confirmed: vec![Some(NOW - 9 * DAY), Some(NOW - DAY)],
        ..Files::default()
    };
    assert_eq!(after_a_week(&claims, NOW, &files), Some(10));
}

#[test]
fn damaged_segment_is_deleted_when_its_file_is_old_too() {
    let old = of_age(&[9, 9, 0]);
    let touched = |days| Files {
        modified: vec![NOW - days * DAY; 3],
        damaged: true,
        ..Files::default()
    };
    assert_eq!(after_a_week(&old, NOW, &touched(8)), Some(20));
    assert_eq!(after_a_week(&old, NOW, &touched(1)), None);
}

#[test]
fn timestamp_from_the_future_does_not_keep_a_segment_for_ever() {
    let bogus = segments(&[Some(NOW + 9_000 * DAY), Some(NOW - 8 * DAY), Some(NOW)]);
    let written = |days: [i64; 3]| Files {
        modified: days.map(|days| NOW - days * DAY).to_vec(),
        ..Files::default()
    };
    assert_eq!(
        after_a_week(&bogus, NOW, &written([6, 5, 0])),
        None,
        "written less than a week ago"
    );
    assert_eq!(after_a_week(&bogus, NOW, &written([9, 8, 0])), Some(20));
    // The clock was wrong when the first file was written, so the time of the next file counts.
    assert_eq!(
        after_a_week(&bogus, NOW, &written([-9_000, 8, 0])),
        Some(20)
    );
    assert_eq!(after_a_week(&bogus, NOW, &written([-9_000, 6, 0])), None);
    assert_eq!(
        after_a_week(&bogus, NOW, &written([-9_000, -9_000, -9_000])),
        None,
        "no file has a time that counts"
    );
}

#[test]
fn clock_that_jumps_back_deletes_nothing() {
    // The middle segment holds imported old records. Their timestamps must not count for the first
    // segment.
    let imported = segments(&[Some(NOW), Some(NOW - 30 * DAY), Some(NOW)]);
    let files = Files {
        modified: vec![NOW; 3],
        ..Files::default()
    };
    for back in [0, 1, 20, 29, 40, 19_000] {
        assert_eq!(
            after_a_week(&imported, NOW - back * DAY, &files),
            None,
            "{back} days back"
        );
    }
}

#[test]
fn jump_ahead_is_accepted_by_the_second_pass() {
    let at = Timestamp::from_millis;
    let minutes = |minutes: i64| minutes * 60_000;
    let mut time = SteadyTime::new(at(NOW), Duration::from_secs(300));
    assert_eq!(time.believe(at(NOW + minutes(5))), at(NOW + minutes(5)));
    let doubted = time.believe(at(NOW + 9_000 * DAY));
    assert_eq!(
        doubted,
        at(NOW + minutes(5 + 70)),
        "at most two intervals and an hour ahead"
    );
    assert_eq!(
        time.believe(at(NOW + minutes(15))),
        at(NOW + minutes(15)),
        "a corrected clock is accepted"
    );
    time.believe(at(NOW + 9_000 * DAY));
    let later = at(NOW + 9_000 * DAY + minutes(5));
    assert_eq!(time.believe(later), later, "a lasting jump is accepted");
    assert_eq!(
        time.believe(at(0)),
        at(0),
        "a jump back is accepted, because it deletes nothing"
    );
}

#[test]
fn log_start_frees_whole_sealed_segments() {
    let three = of_age(&[0, 0, 0]);
    for (log_start, end) in [
        (0, None),
        (9, None),
        (10, Some(10)),
        (19, Some(10)),
        (20, Some(20)),
        (30, Some(20)),
    ] {
        assert_eq!(
            below_log_start(&three, log_start),
            end,
            "log start {log_start}"
        );
    }
}

#[test]
fn limit_on_all_partitions_deletes_their_oldest_segments_first() {
    let candidate = |written, bytes, next_offset| Candidate {
        written: Timestamp::from_millis(written),
        bytes,
        next_offset,
    };
    let a = vec![candidate(5, 100, 10), candidate(50, 100, 20)];
    let b = vec![
        candidate(3, 10, 7),
        candidate(4, 10, 9),
        candidate(60, 10, 12),
    ];
    let partitions = [a, Vec::new(), b];
    for (excess, ends) in [
        (0, [None, None, None]),
        (1, [None, None, Some(7)]),
        (20, [None, None, Some(9)]),
        (21, [Some(10), None, Some(9)]),
        (121, [Some(20), None, Some(9)]),
        (10_000, [Some(20), None, Some(12)]),
    ] {
        assert_eq!(oldest(&partitions, excess), ends, "excess {excess}");
    }
    // Older segments cannot be deleted before a newer segment that comes before them.
    let reversed = [
        vec![candidate(9, 10, 1), candidate(1, 10, 2)],
        vec![candidate(5, 10, 1)],
    ];
    assert_eq!(oldest(&reversed, 10), [None, Some(1)]);
}

#[test]
fn maintenance_results_add_up() {
    let done = |count, bytes_freed| Maintenance {
        segments_deleted: count,
        bytes_freed,
        segments_compacted: 2 * count,
        records_removed: 3 * count,
        bytes_not_compacted: 4 * count,
        batches_left_alone: 5 * count,
    };
    let mut sum = done(1, 10);
    sum += done(2, 30);
    assert_eq!(sum, done(3, 40));
}
