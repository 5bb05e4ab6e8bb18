//! The changes that a crash has stopped, and the state that each may have left.

use std::collections::BTreeMap;

use annals::SimulatedDisk;

use super::group::Positions;
use super::ledger::{Fate, Ledger, Seen, Stored, Txn};
use super::steps::{PARTS, Stop};

/// The way in which a log ends before it is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Closed,
    Killed,
    WithoutPower,
}

/// Returns whether a crash has stopped the change. If not, it does not stop the rest of the step.
pub(super) fn is_stopped(disk: &SimulatedDisk) -> bool {
    let is_stopped = disk.has_lost_power();
    if !is_stopped {
        disk.cut_power_at(u64::MAX);
    }
    is_stopped
}

impl Stop {
    pub(super) fn plan(self, disk: &SimulatedDisk) {
        disk.cut_power_at(disk.calls() + self.calls);
    }

    pub(super) fn end(self) -> End {
        if self.is_kill {
            End::Killed
        } else {
            End::WithoutPower
        }
    }
}

impl End {
    /// Returns the disk as the next process finds it.
    pub(super) fn disk_after(self, disk: &SimulatedDisk) -> SimulatedDisk {
        match self {
            Self::Closed => disk.clone(),
            Self::Killed => disk.process_killed(),
            Self::WithoutPower => disk.crash(),
        }
    }
}

/// A call that may have committed a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commit {
    pub(super) txn: Txn,
    /// Whether the call has returned that the transaction is committed.
    pub(super) is_acknowledged: bool,
}

/// The effects that a change may have had when it was stopped. A change that returned before the
/// crash has none: the ledgers have them already.
#[derive(Debug, Default)]
pub(super) struct Stopped {
    /// The records that the change may have appended, in order.
    pub(super) added: [Vec<Stored>; PARTS],
    pub(super) commit: Option<Commit>,
    /// The log start to which the change may have deleted.
    pub(super) start: Option<(usize, u64)>,
    /// The log end at which the change may have cut.
    pub(super) end: Option<(usize, u64)>,
    /// The offset at which the change may have let the empty partition continue.
    pub(super) restart: Option<(usize, u64)>,
    /// The committed positions of the group after the change.
    pub(super) positions: Option<Positions>,
    /// Whether the transaction was committed, or the truncation made. `None` if nothing shows it.
    pub(super) fate: Option<Fate>,
    /// Whether the change may have compacted each partition.
    pub(super) compacts: [bool; PARTS],
    /// Whether the change may have deleted records that are too old.
    pub(super) expires: bool,
}

impl Stopped {
    /// Returns whether the change has emptied the partition, which then continues at the offset of
    /// the change or at its former end.
    pub(super) fn has_emptied(&self, part: usize, ledger: &Ledger, found: u64) -> bool {
        let restart = self.restart.filter(|(restarted, _)| *restarted == part);
        restart.is_some_and(|(_, start)| found == start || found == ledger.end)
    }

    /// Checks the log start after a stopped deletion, which removes one segment after the other.
    pub(super) fn check_start(&self, part: usize, ledger: &Ledger, found: u64) {
        let highest = match self.start {
            Some((deleted, start)) if deleted == part => start,
            _ if self.expires => ledger.end,
            _ => ledger.start,
        };
        assert!(
            (ledger.start..=highest).contains(&found),
            "the log starts at {found}, not from {} to {highest}",
            ledger.start
        );
    }

    /// Returns the offset at which the change has cut the partition, as far as the records show it.
    /// Until a truncation is complete, the log may end where the gap before that offset begins.
    pub(super) fn cut(
        &self,
        part: usize,
        present: &BTreeMap<u64, Seen>,
        start: u64,
        log_end: u64,
    ) -> Option<u64> {
        let (_, end) = self.end.filter(|(cut, _)| *cut == part)?;
        let found_end = present.last_key_value().map_or(start, |(last, _)| last + 1);
        (found_end <= end).then_some(end.min(log_end.max(found_end)))
    }

    /// Returns the fate of the transaction that the change may have committed, or `None` if the log
    /// has no record of it. `committed` are the records of each partition that readers of committed
    /// records return.
    pub(super) fn fate_of(
        &self,
        commit: Commit,
        ledgers: &[Ledger; PARTS],
        committed: &[Vec<(u64, Seen)>; PARTS],
    ) -> Option<Fate> {
        let mut fate = commit.is_acknowledged.then_some(Fate::Committed);
        for ((ledger, added), committed) in ledgers.iter().zip(&self.added).zip(committed) {
            let written = ledger.records.values();
            let written = written.filter(|stored| stored.txn == Some(commit.txn));
            for stored in written.chain(added) {
                if committed.iter().any(|(_, seen)| *seen == stored.seen) {
                    return Some(Fate::Committed);
                }
                assert!(
                    !commit.is_acknowledged,
                    "an acknowledged transaction is aborted: {self:?}"
                );
                fate = Some(Fate::Aborted);
            }
        }
        fate
    }
}
