//! Updating a read-only log to the writer's changes: topics that were created, extended, changed or
//! deleted.
//!
//! A look lists the root and the metadata of the topic files. Only topics with a changed name or
//! file are read, so a look without a change is cheap. A topic that was deleted and created again
//! has another id, and counts as another topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Catalog;
use super::contents::Contents;
use super::jobs::run_all;
use super::load::{Known, Loaded, Plan, Root};
use crate::error::{At, Result};
use crate::format::file_name;
use crate::storage::{FileMetadata, IfExists};
use crate::topic::{Slot, TopicCore};

/// The state of the root at the last look.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// `None` before the first look.
    contents: Option<Contents>,
    topic_files: BTreeMap<String, FileMetadata>,
}

impl Catalog {
    /// Updates the topics of a read-only log. `contents` lists the root, and `known` reads the
    /// checkpoints; `known` is called only if a topic has changed.
    pub(crate) fn catch_up(
        &self,
        contents: impl FnOnce() -> Result<Contents>,
        known: impl FnOnce(&Contents) -> Result<Known>,
    ) -> Result<()> {
        debug_assert!(
            self.home.context.read_only,
            "a log that is open for writing makes all changes itself"
        );
        let mut seen = self.seen.lock();
        // Listed before the topics are read: a later change then differs at the next look.
        let mut contents = contents()?;
        let topic_files = self.look_at_topic_files(&contents)?;
        let is_same = seen.contents.as_ref() == Some(&contents) && seen.topic_files == topic_files;
        if is_same
            && self
                .topics()
                .iter()
                .all(|topic| topic.slots().iter().all(|(_, slot)| slot.is_ok()))
        {
            return Ok(());
        }
        let known = known(&contents)?;
        self.take_over(&contents, &known)?;
        let has_unopened = self
            .topics()
            .iter()
            .any(|topic| topic.slots().iter().any(|(_, slot)| slot.is_err()));
        if has_unopened {
            contents = Contents::default();
        }
        *seen = Seen {
            contents: Some(contents),
            topic_files,
        };
        Ok(())
    }

    fn look_at_topic_files(&self, contents: &Contents) -> Result<BTreeMap<String, FileMetadata>> {
        let mut found = BTreeMap::new();
        for topic in &contents.topic_files {
            let path = self.home.root.join(file_name::topic_file(topic));
            let metadata = self.home.context.storage.metadata(&path).if_exists();
            let metadata = metadata.at("look at", &path)?;
            found.extend(metadata.map(|metadata| (topic.clone(), metadata)));
        }
        Ok(found)
    }

    fn take_over(&self, contents: &Contents, known: &Known) -> Result<()> {
        debug_assert!(
            self.seen.is_locked(),
            "one thread at a time changes the topics of a read-only log"
        );
        let mut gone: BTreeSet<Arc<str>> = self.topics.read().keys().map(Arc::clone).collect();
        let mut has_changed = false;
        let mut loaded = Loaded::default();
        let root = Root::new(&self.home, contents, known);
        for (name, found) in root.read_topic_files()? {
            let mut jobs = Vec::new();
            let planned = root.plan(Arc::clone(&name), found, &mut loaded, &mut jobs)?;
            let Some(planned) = planned else { continue };
            let present = self
                .topics
                .read()
                .get(&name)
                .map(Arc::clone)
                .filter(|topic| is_still(topic, &planned, known));
            if let Some(topic) = &present {
                let slots = topic.slots();
                let open: BTreeSet<u32> = slots
                    .iter()
                    .filter(|(_, slot)| slot.is_ok())
                    .map(|(number, _)| number)
                    .collect();
                jobs.retain(|job| !open.contains(&job.id().partition));
            }
            let opened = run_all(&self.home.context, &jobs, known.threads);
            let slots: BTreeMap<u32, Slot> = jobs
                .iter()
                .zip(opened)
                .map(|(job, (slot, _))| (job.id().partition, slot))
                .collect();
            if let Some(topic) = present {
                gone.remove(&name);
                has_changed |= slots.values().any(Result::is_ok);
                topic.take_over(planned.file, planned.config, slots)?;
                continue;
            }
            let topic = planned.topic(&self.home, slots, known)?;
            has_changed = true;
            gone.remove(&name);
            let former = self.topics.write().insert(name, topic);
            if let Some(former) = former {
                former.mark_deleted();
                former.vacate();
            }
        }
        for name in gone {
            // A listing may miss a name that is being renamed.
            if !contents.gone.contains(&*name)
                && self
                    .known_topic(&name)
                    .is_ok_and(|topic| !topic.partitions().is_empty() && have_directories(&topic))
            {
                continue;
            }
            has_changed = true;
            let Some(former) = self.topics.write().remove(&name) else {
                unreachable!("{name} was in the catalog when this look began");
            };
            former.mark_deleted();
            former.vacate();
        }
        if has_changed {
            self.home.changes.announce();
        }
        Ok(())
    }
}

/// Returns whether a known topic is the one that is on disk now: by its id, or else by its
/// partitions.
fn is_still(topic: &TopicCore, planned: &Plan, known: &Known) -> bool {
    let in_file = planned
        .file
        .as_ref()
        .filter(|_| !known.broker_since)
        .map(|file| file.topic_id);
    match (topic.id(), in_file) {
        (Some(id), Some(stored)) => id == stored,
        // A topic of which no partition could be opened counts as the same topic.
        _ => have_directories(topic),
    }
}

/// Returns whether all opened partitions of the topic still have their directories.
fn have_directories(topic: &TopicCore) -> bool {
    topic
        .partitions()
        .iter()
        .all(|partition| partition.check_not_deleted().is_ok())
}
