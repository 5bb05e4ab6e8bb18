//! The ends of a log, and its state when it is opened again.

use annals::Isolation;

use super::ledger::Fate;
use super::readers::{How, read_from, written_from};
use super::steps::{PARTS, Stop};
use super::stopped::{End, Stopped};
use super::world::{World, builder, open};

impl World {
    /// Ends the log and opens it again. `stop` stops the opening, and then the log is opened once
    /// more. `stopped` is the change that the end has stopped.
    pub(super) fn reopen(&mut self, end: End, stop: Option<Stop>, mut stopped: Stopped) {
        let before: Vec<u64> = self.tails.iter().map(|tail| tail.next).collect();
        self.disk = end.disk_after(&self.disk);
        self.member.leave();
        self.workers = Default::default();
        self.tails.retain(|tail| tail.is_beside);
        let end = stop.map_or(end, |stop| self.stop_opening(end, stop));
        if end != End::Closed {
            self.tails.clear();
            self.beside = builder(&self.disk, &self.clock).open_read_only().unwrap();
        }
        self.log = open(&self.disk, &self.clock, &self.settings).unwrap();
        self.check_recovery(end);
        self.end_transaction(&mut stopped);
        for part in 0..PARTS {
            self.recover(part, end, &mut stopped);
        }
        self.member.join(&self.log, &self.ledgers, end, &stopped);
        let mut tails = std::mem::take(&mut self.tails);
        self.open_tails(&before);
        if end == End::Closed {
            self.tails.retain(|tail| !tail.is_beside);
            self.tails.append(&mut tails);
        }
    }

    /// Opens the log and stops that. Returns the way in which the log has ended since.
    fn stop_opening(&mut self, end: End, stop: Stop) -> End {
        stop.plan(&self.disk);
        let opened = open(&self.disk, &self.clock, &self.settings);
        let is_stopped = self.disk.has_lost_power();
        assert!(is_stopped || opened.is_ok(), "{:?}", opened.err());
        self.disk = stop.end().disk_after(&self.disk);
        drop(opened);
        end.max(stop.end())
    }

    fn check_recovery(&self, end: End) {
        let recovery = self.log.recovery();
        assert!(
            !recovery.has_losses() || end == End::WithoutPower,
            "{recovery:?}"
        );
        let mut partitions = recovery.partitions.iter();
        assert!(
            partitions.all(|(_, report)| report.damage.is_none()),
            "{recovery:?}"
        );
        assert!(recovery.clean || end != End::Closed, "{recovery:?}");
    }

    /// Finds out whether a stopped change has committed its transaction: in all partitions or in
    /// none.
    fn end_transaction(&mut self, stopped: &mut Stopped) {
        let Some(commit) = stopped.commit else {
            return;
        };
        let committed = std::array::from_fn(|part| {
            let partition = self.partition(part);
            read_from(&partition, None, How::Records, Isolation::ReadCommitted)
        });
        stopped.fate = stopped.fate_of(commit, &self.ledgers, &committed);
        if stopped.fate == Some(Fate::Committed) {
            let added = std::mem::take(&mut stopped.added);
            for (part, added) in added.iter().enumerate() {
                let present = written_from(&self.partition(part), self.ledgers[part].start);
                let ledger = &mut self.ledgers[part];
                let is_whole = ledger.take_added(&present, added);
                assert!(is_whole, "a part of a committed transaction is lost");
                ledger.decide(commit.txn, Fate::Committed);
            }
        }
    }

    /// Takes the state of a partition after the log was opened: its transactions have ended.
    fn recover(&mut self, part: usize, end: End, stopped: &mut Stopped) {
        let partition = self.partition(part);
        let start = partition.log_start_offset();
        let present = written_from(&partition, start);
        let ledger = &mut self.ledgers[part];
        let kept = match end {
            End::WithoutPower => ledger.durable,
            _ => ledger.end,
        };
        if present.is_empty() && stopped.has_emptied(part, ledger, start) {
            if start != ledger.start || ledger.records.range(..kept).next().is_some() {
                stopped.fate = Some(Fate::Committed);
            }
            ledger.restart_in_part(start);
        }
        stopped.check_start(part, &self.ledgers[part], start);
        if stopped.expires {
            self.expire(part, start);
        } else {
            self.ledgers[part].delete_before(start);
        }
        let log_end = partition.log_end_offset();
        let ledger = &mut self.ledgers[part];
        if let Some(cut) = stopped.cut(part, &present, start, log_end) {
            if cut < kept && ledger.records.range(cut..kept).next().is_some() {
                stopped.fate = Some(Fate::Committed);
            }
            ledger.cut(cut);
        }
        ledger.take_added(&present, &stopped.added[part]);
        if end == End::WithoutPower {
            ledger.take_lost_end(&present);
        }
        if stopped.compacts[part] {
            ledger.take_compacted(&present);
        }
        ledger.check_left(&present);
        for piece in ledger.pieces.values_mut() {
            if piece.fate == Fate::Open {
                piece.fate = Fate::Aborted;
            }
        }
        assert!(
            log_end >= ledger.end,
            "{end:?}: the log ends at {log_end}, not at {}",
            ledger.end
        );
        ledger.end_after_markers(log_end);
    }
}
