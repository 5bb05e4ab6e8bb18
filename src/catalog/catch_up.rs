//! A read-only log beside a writer in another process: topics that were created, grew, were changed
//! or deleted since.
//!
//! A look lists the root and asks for the topic files. Only topics of which a name or a file
//! changed are read, so that asking for a topic costs no more where nothing happened. A topic that
//! was deleted and created again is another topic, by its id.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::Catalog;
use super::contents::Contents;
use super::load::{Known, Loaded, Plan, Root, run_all};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::storage::FileMetadata;
use crate::topic::{Slot, TopicCore};

/// What was there when the root was looked at last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// `None`: not looked at yet.
    contents: Option<Contents>,
    topic_files: BTreeMap<String, FileMetadata>,
}

impl Catalog {
    /// Brings the topics of a read-only log up to what stands at the root: its `contents`, and what
    /// is `known` of partitions by the checkpoints, which is asked only where something changed.
    pub(crate) fn catch_up(
        &self,
        contents: impl FnOnce() -> Result<Contents>,
        known: impl FnOnce(&Contents) -> Known,
    ) -> Result<()> {
        let mut seen = self.seen.lock();
        // The files first: what changes behind this look differs at the next one.
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
        let known = known(&contents);
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
            match self.home.context.storage.metadata(&path) {
                Ok(metadata) => drop(found.insert(topic.clone(), metadata)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("look at", &path, error)),
            }
        }
        Ok(found)
    }

    fn take_over(&self, contents: &Contents, known: &Known) -> Result<()> {
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
            // A listing beside a rename may pass over a name that is there.
            if !contents.gone.contains(&*name)
                && self
                    .known_topic(&name)
                    .is_ok_and(|topic| !topic.partitions().is_empty() && have_directories(&topic))
            {
                continue;
            }
            has_changed = true;
            let former = self.topics.write().remove(&name);
            if let Some(former) = former {
                former.mark_deleted();
                former.vacate();
            }
        }
        if has_changed {
            self.home.changes.announce();
        }
        Ok(())
    }
}

/// Whether a topic that is known is the one that stands there: by its id, else by its partitions.
fn is_still(topic: &TopicCore, planned: &Plan, known: &Known) -> bool {
    let in_file = planned
        .file
        .as_ref()
        .filter(|_| !known.broker_since)
        .map(|file| file.topic_id);
    match (topic.id(), in_file) {
        (Some(id), Some(stored)) => id == stored,
        // One of which no partition could be opened says nothing against it.
        _ => have_directories(topic),
    }
}

/// Whether its partitions, as far as they were opened, still have their directories.
fn have_directories(topic: &TopicCore) -> bool {
    topic
        .partitions()
        .iter()
        .all(|partition| partition.check_not_deleted().is_ok())
}
