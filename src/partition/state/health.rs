//! Whether a partition is open, and whether it takes writes.
//!
//! | state | set by | reads | writes |
//! | --- | --- | --- | --- |
//! | open | opening | yes | unless refused |
//! | unavailable | opening that failed | return its error | return its error |
//! | closed | [`Health::close`] | `Closed` | `Closed` |
//! | deleted | [`Health::mark_deleted`] | `UnknownTopic` | `UnknownTopic` |
//!
//! Closed and deleted are final. An open partition refuses writes after damage was found below its
//! recovery point, or after a write or an fsync failed and left the end of the log unknown;
//! recovery and truncation lift the refusal.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::topic_partition::TopicPartition;

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const DELETED: u8 = 2;

/// Why writes are refused. Both reasons may hold.
#[derive(Debug, Default)]
struct Refusal {
    /// Damage was found below the recovery point.
    damage: Option<Box<Error>>,
    /// A write or an fsync failed.
    poison: Option<Arc<io::Error>>,
    /// The number of failures that poisoned the partition.
    poisonings: u64,
}

/// The health of one partition.
#[derive(Debug)]
pub(in crate::partition) struct Health {
    id: TopicPartition,
    state: AtomicU8,
    /// The error that every call returns if the partition could not be opened.
    unavailable: Option<Box<Error>>,
    refusal: Mutex<Refusal>,
    /// Whether `refusal` has a reason, so that an append need not take the lock. Changed only while
    /// the lock is held.
    is_refusing: AtomicBool,
}

impl Health {
    /// Returns the health of an open partition, which refuses writes if opening it found `damage`.
    pub(in crate::partition) fn new(id: TopicPartition, damage: Option<Error>) -> Self {
        let is_refusing = AtomicBool::new(damage.is_some());
        let refusal = Mutex::new(Refusal {
            damage: damage.map(Box::new),
            ..Refusal::default()
        });
        Self {
            id,
            state: AtomicU8::new(OPEN),
            unavailable: None,
            refusal,
            is_refusing,
        }
    }

    /// Returns the health of a partition that could not be opened because of `error`. It counts as
    /// damaged, so that its log is not marked as cleanly closed.
    pub(in crate::partition) fn unavailable(id: TopicPartition, error: Error) -> Self {
        Self {
            unavailable: Some(Box::new(error.clone())),
            ..Self::new(id, Some(error))
        }
    }

    pub(in crate::partition) fn unavailable_because(&self) -> Option<&Error> {
        self.unavailable.as_deref()
    }

    /// Returns an error unless the partition is open.
    pub(in crate::partition) fn check_open(&self) -> Result<()> {
        match self.state.load(Ordering::Acquire) {
            OPEN => self.unavailable_because().cloned().map_or(Ok(()), Err),
            DELETED => Err(Error::UnknownTopic(Arc::clone(&self.id.topic))),
            _ => Err(Error::Closed),
        }
    }

    /// Returns `UnknownTopic` once the topic was deleted. A partition that is being closed still
    /// exists.
    pub(in crate::partition) fn check_exists(&self) -> Result<()> {
        match self.state.load(Ordering::Acquire) {
            DELETED => self.check_open(),
            _ => Ok(()),
        }
    }

    /// Returns the error of an append to an open partition that refuses writes.
    pub(in crate::partition) fn check_takes_writes(&self) -> Result<()> {
        if !self.is_refusing.load(Ordering::Acquire) {
            return Ok(());
        }
        self.check_not_poisoned()?;
        self.damage().map_or(Ok(()), Err)
    }

    /// Returns `Poisoned` if a write or an fsync failed. Damage is no obstacle: truncation removes
    /// it.
    pub(in crate::partition) fn check_not_poisoned(&self) -> Result<()> {
        match &self.refusal.lock().poison {
            None => Ok(()),
            Some(cause) => Err(Error::Poisoned {
                partition: self.id.clone(),
                cause: Arc::clone(cause),
            }),
        }
    }

    /// Returns the damage because of which writes are refused.
    pub(in crate::partition) fn damage(&self) -> Option<Error> {
        self.refusal.lock().damage.as_deref().cloned()
    }

    /// Refuses writes from now on, until the files were looked at again. The first cause stays.
    pub(in crate::partition) fn poison(&self, cause: io::Error) -> Arc<io::Error> {
        let cause = Arc::new(cause);
        self.change(|refusal| {
            refusal.poison.get_or_insert_with(|| Arc::clone(&cause));
            refusal.poisonings += 1;
        });
        cause
    }

    /// Replaces the refusal after recovery looked at the files again: writes are refused only if it
    /// found `damage`.
    pub(in crate::partition) fn set_damage(&self, damage: Option<Error>) {
        self.change(|refusal| {
            refusal.damage = damage.map(Box::new);
            refusal.poison = None;
        });
    }

    /// Does the work of [`set_damage`](Self::set_damage) for a recovery that began when
    /// [`poisonings`](Self::poisonings) was `before`. If a write has failed since, writes stay
    /// refused: nobody has looked at the files after that.
    pub(in crate::partition) fn set_damage_since(&self, before: u64, damage: Option<Error>) {
        self.change(|refusal| {
            refusal.damage = damage.map(Box::new);
            if refusal.poisonings == before {
                refusal.poison = None;
            }
        });
    }

    /// Returns how often the partition was poisoned so far.
    pub(in crate::partition) fn poisonings(&self) -> u64 {
        self.refusal.lock().poisonings
    }

    /// Lifts the refusal if all of the damage was at or above `end`, where the log was cut.
    pub(in crate::partition) fn forget_damage_from(&self, end: u64) {
        self.change(|refusal| {
            let is_removed = matches!(
                refusal.damage.as_deref(),
                Some(Error::Corrupt(damage)) if damage.offsets.start >= end
            );
            if is_removed {
                refusal.damage = None;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Refusal)) {
        let mut refusal = self.refusal.lock();
        change(&mut refusal);
        let is_refusing = refusal.damage.is_some() || refusal.poison.is_some();
        self.is_refusing.store(is_refusing, Ordering::Release);
    }

    /// Closes the partition and returns whether it was open. A deleted partition stays deleted.
    pub(in crate::partition) fn close(&self) -> bool {
        self.state
            .compare_exchange(OPEN, CLOSED, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Marks the partition as deleted with its topic.
    pub(in crate::partition) fn mark_deleted(&self) {
        self.state.store(DELETED, Ordering::SeqCst);
    }

    /// Returns the state in a word, without waiting for a lock.
    pub(in crate::partition) fn name(&self, is_read_only: bool) -> fmt::Arguments<'static> {
        match self.state.load(Ordering::Acquire) {
            OPEN if self.unavailable.is_some() => format_args!("unavailable"),
            OPEN if is_read_only => format_args!("read-only"),
            OPEN if self.is_refusing.load(Ordering::Acquire) => format_args!("refuses writes"),
            OPEN => format_args!("open"),
            DELETED => format_args!("deleted"),
            _ => format_args!("closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Corruption;

    fn id() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    fn damage(start: u64) -> Error {
        let path = "orders-0".into();
        Error::Corrupt(Box::new(Corruption {
            partition: id(),
            path,
            position: 0,
            offsets: start..9,
            reason: "torn".to_owned(),
        }))
    }

    #[test]
    fn closed_and_deleted_are_final() {
        let health = Health::new(id(), None);
        assert!(health.check_open().is_ok());
        assert!(health.close());
        assert!(!health.close());
        assert!(matches!(health.check_open(), Err(Error::Closed)));
        assert!(health.check_exists().is_ok());
        health.mark_deleted();
        assert!(!health.close());
        assert!(
            matches!(health.check_open(), Err(Error::UnknownTopic(topic)) if &*topic == "orders")
        );
        assert!(matches!(health.check_exists(), Err(Error::UnknownTopic(_))));
    }

    #[test]
    fn a_poisoned_partition_must_be_looked_at_again_even_if_it_is_damaged() {
        let health = Health::new(id(), Some(damage(5)));
        assert!(matches!(
            health.check_takes_writes(),
            Err(Error::Corrupt(_))
        ));
        health.poison(io::Error::other("no device"));
        assert!(matches!(
            health.check_takes_writes(),
            Err(Error::Poisoned { .. })
        ));
        assert!(health.damage().is_some());
        health.forget_damage_from(0);
        assert!(health.check_not_poisoned().is_err());
        health.set_damage(None);
        assert!(health.check_takes_writes().is_ok());
    }

    #[test]
    fn a_failure_after_a_recovery_began_is_not_lifted_by_it() {
        let health = Health::new(id(), None);
        health.poison(io::Error::other("no device"));
        let before = health.poisonings();
        health.poison(io::Error::other("still no device"));
        health.set_damage_since(before, None);
        assert!(health.check_not_poisoned().is_err());
        health.set_damage_since(health.poisonings(), None);
        assert!(health.check_takes_writes().is_ok());
    }

    #[test]
    fn only_a_cut_below_the_damage_lifts_its_refusal() {
        let health = Health::new(id(), Some(damage(5)));
        health.forget_damage_from(6);
        assert!(health.damage().is_some());
        health.forget_damage_from(5);
        assert!(health.damage().is_none());
        assert!(health.check_takes_writes().is_ok());
        health.poison(io::Error::other("no device"));
        health.forget_damage_from(0);
        assert!(health.check_not_poisoned().is_err());
    }

    #[test]
    fn a_partition_that_could_not_be_opened_returns_the_reason() {
        let health = Health::unavailable(id(), Error::ReadOnly);
        assert!(matches!(health.check_open(), Err(Error::ReadOnly)));
        assert!(health.damage().is_some());
        assert_eq!(health.name(false).to_string(), "unavailable");
    }

    #[test]
    fn the_state_has_a_name() {
        let health = Health::new(id(), None);
        assert_eq!(health.name(true).to_string(), "read-only");
        assert_eq!(health.name(false).to_string(), "open");
        health.set_damage(Some(damage(0)));
        assert_eq!(health.name(false).to_string(), "refuses writes");
        health.close();
        assert_eq!(health.name(false).to_string(), "closed");
        health.mark_deleted();
        assert_eq!(health.name(false).to_string(), "deleted");
    }
}
