//! The steps that a case can contain, and the settings of its log.

use std::time::Duration;

use annals::{CleanupPolicy, Compression, Durability, Isolation, TopicConfig};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::CODECS;

/// The topics of a case, of one partition each.
pub(super) const PARTS: usize = 2;
pub(super) const NAMES: [&str; PARTS] = ["one", "two"];
pub(super) const PRODUCERS: usize = 3;
/// Retention deletes records that are older, if the policy of the topic says so.
pub(super) const RETENTION: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug)]
pub(super) struct TopicSettings {
    pub(super) policy: CleanupPolicy,
    segment_bytes: u32,
    durability: Durability,
}

impl TopicSettings {
    pub(super) fn config(self) -> TopicConfig {
        TopicConfig::new()
            .cleanup_policy(self.policy)
            .segment_bytes(self.segment_bytes)
            .index_interval_bytes(64)
            .durability(self.durability)
            .retention(RETENTION)
            .delete_retention(Duration::from_secs(10))
            .min_cleanable_dirty_ratio(0.01)
    }

    pub(super) fn is_synced(self) -> bool {
        self.durability == Durability::Synced
    }
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) topics: [TopicSettings; PARTS],
    pub(super) seed: u64,
    /// The isolation of the consumer in a group.
    pub(super) isolation: Isolation,
}

/// A record to be sent. Its value is `None` for a tombstone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft {
    pub(super) key: u8,
    pub(super) length: Option<usize>,
}

/// One change of the log. A place is a share of the offsets, in 1/256.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Append(usize, Vec<Draft>),
    Send(usize, usize, Vec<Draft>),
    /// Adds the positions of the member to a transaction.
    SendPositions(usize),
    CommitPositions,
    Commit(usize),
    Abort(usize),
    Drop(usize),
    Fence(usize),
    Roll(usize),
    Compact(usize),
    /// Lets the partition recover while the log is open.
    Reopen(usize),
    Compress(usize, Compression),
    DeleteBefore(usize, u8),
    Truncate(usize, u8),
    /// Empties the partition. It continues at this place and so many offsets further.
    RestartAt(usize, u8, u64),
    Advance(Duration),
    Maintain,
    Flush,
    Close,
    Kill,
    CutPower,
}

impl Change {
    /// Returns whether the log is opened again after this change.
    pub(super) fn ends_the_log(&self) -> bool {
        matches!(self, Self::Close | Self::Kill | Self::CutPower)
    }
}

/// The end of the machine or of the process within a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    /// The number of disk calls of the change that are made.
    pub(super) calls: u64,
    /// Whether only the process ends.
    pub(super) is_kill: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) change: Change,
    pub(super) stop: Option<Stop>,
    /// Bit `n` is set if the readers of kind `n` do not read after this step.
    pub(super) pauses: u8,
    /// The share of the offsets from which new readers begin, in 1/256.
    pub(super) from: u8,
}

fn any_drafts() -> impl Strategy<Value = Vec<Draft>> {
    let draft = (0..5_u8, prop::option::weighted(0.85, 0..60_usize))
        .prop_map(|(key, length)| Draft { key, length });
    vec(draft, 1..6)
}

fn any_change() -> impl Strategy<Value = Change> {
    let (part, producer) = (0..PARTS, 0..PRODUCERS);
    let time = prop::sample::select(vec![1, 12, 4_000]).prop_map(Duration::from_secs);
    prop_oneof![
        6 => (part.clone(), any_drafts()).prop_map(|(part, drafts)| Change::Append(part, drafts)),
        10 => (producer.clone(), part.clone(), any_drafts())
            .prop_map(|(producer, part, drafts)| Change::Send(producer, part, drafts)),
        3 => producer.clone().prop_map(Change::SendPositions),
        3 => Just(Change::CommitPositions),
        5 => producer.clone().prop_map(Change::Commit),
        2 => producer.clone().prop_map(Change::Abort),
        1 => producer.clone().prop_map(Change::Drop),
        1 => producer.prop_map(Change::Fence),
        1 => part.clone().prop_map(Change::Roll),
        2 => part.clone().prop_map(Change::Compact),
        1 => part.clone().prop_map(Change::Reopen),
        1 => (part.clone(), prop::sample::select(CODECS.to_vec()))
            .prop_map(|(part, codec)| Change::Compress(part, codec)),
        1 => (part.clone(), any::<u8>()).prop_map(|(part, at)| Change::DeleteBefore(part, at)),
        1 => (part.clone(), any::<u8>()).prop_map(|(part, at)| Change::Truncate(part, at)),
        1 => (part, any::<u8>(), prop_oneof![Just(0), 0..50_u64])
            .prop_map(|(part, at, more)| Change::RestartAt(part, at, more)),
        1 => time.prop_map(Change::Advance),
        2 => Just(Change::Maintain),
        1 => Just(Change::Flush),
        1 => Just(Change::Close),
        1 => Just(Change::Kill),
        1 => Just(Change::CutPower),
    ]
}

/// Returns the number of disk calls that such a change often makes. The change that opens the log
/// again stops in the opening.
fn usual_calls(change: &Change) -> u64 {
    match change {
        Change::Append(..) | Change::Abort(_) | Change::Drop(_) | Change::Compress(..) => 6,
        Change::SendPositions(_) | Change::CommitPositions => 8,
        Change::Fence(_) | Change::Roll(_) | Change::DeleteBefore(..) => 12,
        Change::Send(..) => 16,
        Change::Commit(_) | Change::Reopen(_) => 35,
        Change::Compact(_) | Change::Truncate(..) | Change::RestartAt(..) | Change::Flush => 60,
        Change::Maintain | Change::Close | Change::Kill | Change::CutPower => 100,
        Change::Advance(_) => 1,
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let stop = prop::option::weighted(0.12, (any::<u64>(), any::<bool>()));
    (any_change(), stop, any::<u8>(), any::<u8>()).prop_map(|(change, stop, pauses, from)| {
        let stop = stop.map(|(calls, is_kill)| Stop {
            calls: calls % usual_calls(&change),
            is_kill,
        });
        Step {
            change,
            stop,
            pauses,
            from,
        }
    })
}

pub(super) fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    vec(any_step(), 1..50)
}

fn any_topic() -> impl Strategy<Value = TopicSettings> {
    let policies = vec![
        CleanupPolicy::Delete,
        CleanupPolicy::Compact,
        CleanupPolicy::CompactAndDelete,
    ];
    let (policy, segment_bytes) = (prop::sample::select(policies), 450..1_500_u32);
    let durability = prop::sample::select(vec![Durability::Os, Durability::Os, Durability::Synced]);
    (policy, segment_bytes, durability).prop_map(|(policy, segment_bytes, durability)| {
        TopicSettings {
            policy,
            segment_bytes,
            durability,
        }
    })
}

pub(super) fn any_settings() -> impl Strategy<Value = Settings> {
    let isolation =
        prop::sample::select(vec![Isolation::ReadCommitted, Isolation::ReadUncommitted]);
    ([any_topic(), any_topic()], any::<u64>(), isolation).prop_map(|(topics, seed, isolation)| {
        Settings {
            topics,
            seed,
            isolation,
        }
    })
}
