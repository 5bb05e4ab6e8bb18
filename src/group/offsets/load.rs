//! Reads the committed positions from `__consumer_offsets`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::config::{DamagedOffsets, Durability};
use crate::error::{Error, Result};
use crate::format::offset_commit;
use crate::partition::{KeepOpen, Partition, PartitionCore, ReadOptions, Reader};
use crate::topic::TopicCore;
use crate::topic_partition::TopicPartition;

use super::positions::Positions;

/// The topic of the committed positions.
pub(super) use crate::format::file_name::COMMITTED_OFFSETS as TOPIC;

/// The committed positions in memory.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// [`TOPIC`]; `None` until it exists.
    pub(super) topic: Option<Arc<TopicCore>>,
    pub(super) positions: Positions,
    /// Positions that were lowered here, and that a full disk has kept from being written.
    pub(super) unwritten: BTreeSet<(Arc<str>, TopicPartition)>,
    /// For each partition, the log end up to which it was read and how often it had been cut. Only
    /// in a read-only log.
    ends: Vec<(u64, u64)>,
}

/// The commits that are stored in [`TOPIC`].
pub(super) struct Stored<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) damaged: DamagedOffsets,
    pub(super) keep: &'a KeepOpen,
}

impl Stored<'_> {
    /// Returns whether another process has committed since the positions were loaded.
    pub(super) fn have_changed_since(&self, loaded: &Loaded) -> bool {
        match (self.catalog.topic(TOPIC), &loaded.topic) {
            (Ok(now), Some(topic)) => {
                !Arc::ptr_eq(&now, topic) || ends_of(&now).ok().as_ref() != Some(&loaded.ends)
            }
            (Err(_), None) => false,
            _ => true,
        }
    }

    /// Reads all commits.
    pub(super) fn load(&self) -> Result<Loaded> {
        let topic = match self.catalog.topic(TOPIC) {
            Ok(topic) => topic,
            Err(Error::UnknownTopic(_)) => return Ok(Loaded::default()),
            Err(error) => return Err(error),
        };
        let mut positions = Positions::default();
        // Before the partitions are read: records that are appended in the meantime may be read
        // twice, but are not missed.
        let ends = if self.catalog.context().read_only {
            ends_of(&topic)?
        } else {
            Vec::new()
        };
        for (_, slot) in topic.slots().iter() {
            match slot {
                Ok(core) => {
                    self.replay(&mut positions, Arc::clone(core), topic.partition_count())?;
                }
                // It is unknown whose positions this partition holds.
                Err(_) if self.damaged == DamagedOffsets::PassOver => {}
                Err(error) => return Err(error.clone()),
            }
        }
        Ok(Loaded {
            topic: Some(topic),
            positions,
            ends,
            ..Loaded::default()
        })
    }

    fn replay(
        &self,
        positions: &mut Positions,
        core: Arc<PartitionCore>,
        partitions: u32,
    ) -> Result<()> {
        let number = core.id().partition;
        let partition = Partition::new(core, Durability::Os, self.keep.clone());
        // Reads past an open transaction: its producer may never end it, and later commits of
        // other groups must count all the same.
        let mut from = partition.log_start_offset();
        loop {
            let mut reader = partition.read_with(from.., ReadOptions::all_committed())?;
            let read = self.replay_from(&mut reader, positions, partition.core(), |group| {
                offset_commit::partition_of(group, partitions) == number
            });
            match read {
                // Continues only if the damage ends after `from`, so that the loop ends.
                Err(Error::Corrupt(damage))
                    if self.damaged == DamagedOffsets::PassOver && damage.offsets.end > from =>
                {
                    from = damage.offsets.end;
                }
                read => return read,
            }
        }
    }

    fn replay_from(
        &self,
        reader: &mut Reader,
        positions: &mut Positions,
        core: &PartitionCore,
        belongs: impl Fn(&str) -> bool,
    ) -> Result<()> {
        while let Some(record) = reader.next_record()? {
            let Some(key) = record.key() else { continue };
            match positions.replay(record.offset(), key, record.value(), &belongs) {
                Err(_) if self.damaged == DamagedOffsets::PassOver => {}
                replayed => {
                    replayed
                        .map_err(|malformed| core.corrupt_record(record.offset(), malformed))?;
                }
            }
        }
        Ok(())
    }
}

/// Returns the log end of each partition, and how often it has been cut.
fn ends_of(topic: &TopicCore) -> Result<Vec<(u64, u64)>> {
    let end_of = |core: Arc<PartitionCore>| {
        core.refresh()?;
        Ok((core.log_end_offset(), core.truncations()))
    };
    topic.partitions().into_iter().map(end_of).collect()
}
