//! Copies an open log, as it is at one moment, into another directory.
//!
//! | step | after an error or a crash that follows the step |
//! | --- | --- |
//! | `<target>.<16 hex digits>.tmp` is created next to the target, and locked (`place`) | an error removes it; after a crash, the next snapshot to the target does |
//! | all partitions are paused, and their moments are taken | the same |
//! | the partitions are copied, then the files at the root, with the clean-shutdown marker | the same |
//! | the directory gets the name of the target | the snapshot is complete |
//!
//! Everything in the directory is durable before it gets its name.
//!
//! While the partitions are paused, no file is opened, so appends wait only as long as it takes to
//! get the locks. A record is in the copy if its append was published before that moment. The copy
//! is thus what a kill at that moment would have left, with everything on the device. No position
//! of a group is above the end of its partition. A change that takes several steps in several
//! partitions is copied after one of its steps, and recovery knows each of them.

use std::path::Path;
use std::sync::Arc;

use super::core::LogCore;
use crate::catalog::checkpoints;
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::CLEAN_SHUTDOWN_TEXT;
use crate::partition::stated::Lines;
use crate::partition::{Moment, Paused, Target};
use crate::storage::IfExists;
use crate::topic::{Slots, TopicCore};

mod place;
#[cfg(test)]
mod tests;

use place::{Building, target_of};

/// Kafka's own metadata log, and the file with which a broker was formatted. They are not part of
/// the log, but a broker that keeps them in the same directory needs them.
const OF_BROKER: [&str; 2] = ["__cluster_metadata-0", "bootstrap.checkpoint"];

/// A report of a snapshot. From [`Log::snapshot`](crate::Log::snapshot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The bytes of the files that the snapshot shares with the log. They take no room as long as
    /// the log has the same files.
    pub bytes_linked: u64,
    /// The bytes that were copied.
    pub bytes_copied: u64,
}

/// A topic at one moment.
struct TopicMoment {
    topic: Arc<TopicCore>,
    slots: Arc<Slots>,
    partitions: Vec<Moment>,
}

impl LogCore {
    /// Copies the log into `dir`.
    pub(super) fn snapshot(&self, dir: &Path) -> Result<Snapshot> {
        self.check_open()?;
        if self.context().read_only {
            return Err(Error::ReadOnly);
        }
        let target = target_of(self.storage(), &self.dir, dir)?;
        let building = Building::begin(self.storage(), &target)?;
        let topics = self.moment()?;
        let report = self.fill(building.dir(), &topics)?;
        building.finish()?;
        Ok(report)
    }

    /// Returns all topics as they are at one moment.
    fn moment(&self) -> Result<Vec<TopicMoment>> {
        loop {
            self.check_open()?;
            let listed = self.listed();
            let mut partitions = Vec::new();
            for (_, slots) in &listed {
                for (_, slot) in slots.iter() {
                    match slot {
                        Ok(partition) => partitions.push(partition),
                        // A broker keeps it in another directory.
                        Err(Error::UnknownPartition(_)) => {}
                        Err(error) => return Err(error.clone()),
                    }
                }
            }
            // So that no copy has a commit of which only some markers are written.
            let _no_commit = self.transactions.pause_commits();
            let paused: Vec<_> = partitions.into_iter().map(|core| core.pause()).collect();
            let now = self.listed();
            let is_same = listed
                .iter()
                .zip(&now)
                .all(|((topic, slots), (now, then))| {
                    Arc::ptr_eq(topic, now) && Arc::ptr_eq(slots, then)
                });
            // No group commits a position while appends wait. So a topic or partition that is not
            // listed has no position in the copy.
            if listed.len() != now.len() || !is_same {
                continue;
            }
            let moments: Result<Vec<Moment>> = paused.iter().map(Paused::moment).collect();
            drop(paused);
            match moments {
                // A topic is being deleted.
                Err(Error::UnknownTopic(_)) => {}
                moments => return Ok(by_topic(listed, moments?)),
            }
        }
    }

    /// Returns all topics with their partitions, in the order in which they are paused: the topics
    /// that refer to the offsets of others come first.
    fn listed(&self) -> Vec<(Arc<TopicCore>, Arc<Slots>)> {
        let mut topics = self.catalog.topics();
        topics.retain(|topic| !topic.is_deleted());
        topics.sort_by_key(|topic| {
            (
                &**topic.name() != file_name::COMMITTED_OFFSETS,
                !topic.is_internal(),
            )
        });
        let with_slots = |topic: Arc<TopicCore>| {
            let slots = topic.slots();
            (topic, slots)
        };
        topics.into_iter().map(with_slots).collect()
    }

    /// Puts a durable copy of everything into a new directory.
    fn fill(&self, dir: &Path, topics: &[TopicMoment]) -> Result<Snapshot> {
        let mut lines = Lines::default();
        let mut root = Target::new(self.storage(), dir);
        for TopicMoment {
            topic,
            slots,
            partitions,
        } in topics
        {
            for moment in partitions {
                root.add(moment.put(&dir.join(moment.id().to_string()))?);
                add_lines(&mut lines, moment);
            }
            let starts = partitions
                .iter()
                .filter_map(|moment| Some((moment.id().partition, moment.log_start_line()?)));
            let is_dense = partitions.iter().all(Moment::is_dense);
            if let Some(text) = topic.file_of_copy(slots.count(), is_dense, starts.collect()) {
                let name = file_name::topic_file(topic.name());
                root.put(&name, text.as_bytes(), &self.dir)?;
            }
        }
        self.fill_root(&mut root, &lines)?;
        let mut moments = topics.iter().flat_map(|topic| &topic.partitions);
        if !moments.any(Moment::is_damaged) {
            let text = CLEAN_SHUTDOWN_TEXT.as_bytes();
            root.put(file_name::CLEAN_SHUTDOWN, text, &self.dir)?;
        }
        root.sync()?;
        Ok(Snapshot {
            bytes_linked: root.copied().linked,
            bytes_copied: root.copied().written,
        })
    }

    /// Writes the files at the root that all topics share.
    fn fill_root(&self, root: &mut Target<'_>, lines: &Lines) -> Result<()> {
        for (name, text) in checkpoints::files_of(lines) {
            root.put(name, text.as_bytes(), &self.dir)?;
        }
        root.share(&self.dir.join(file_name::META_PROPERTIES), true)?;
        for name in OF_BROKER {
            let path = self.dir.join(name);
            match self
                .storage()
                .metadata(&path)
                .if_exists()
                .at("look at", &path)?
            {
                Some(found) if found.is_dir => {
                    let dir = root.dir().join(name);
                    self.storage().create_dir_all(&dir).at("create", &dir)?;
                    let mut inner = Target::new(self.storage(), &dir);
                    for entry in self.storage().list(&path).at("list", &path)? {
                        if !entry.is_dir {
                            inner.share(&path.join(entry.name), false)?;
                        }
                    }
                    inner.sync()?;
                    root.add(inner.copied());
                }
                Some(_) => root.share(&path, false)?,
                None => {}
            }
        }
        Ok(())
    }
}

/// Gives each topic the moments of its partitions, which are in the same order.
fn by_topic(listed: Vec<(Arc<TopicCore>, Arc<Slots>)>, moments: Vec<Moment>) -> Vec<TopicMoment> {
    let mut moments = moments.into_iter();
    let topics = listed.into_iter().map(|(topic, slots)| {
        let opened = slots.iter().filter(|(_, slot)| slot.is_ok()).count();
        let partitions: Vec<_> = moments.by_ref().take(opened).collect();
        debug_assert!(
            partitions
                .iter()
                .all(|moment| moment.id().topic == *topic.name()),
            "each moment belongs to its topic"
        );
        TopicMoment {
            topic,
            slots,
            partitions,
        }
    });
    let topics = topics.collect();
    debug_assert!(moments.next().is_none(), "each moment has a topic");
    topics
}

fn add_lines(lines: &mut Lines, moment: &Moment) {
    let id = moment.id();
    lines
        .recovery_points
        .insert(id.clone(), moment.recovery_point());
    lines
        .log_starts
        .extend(moment.log_start_line().map(|offset| (id.clone(), offset)));
    lines
        .cleaned
        .extend(moment.cleaned_line().map(|offset| (id.clone(), offset)));
}
