//! Opening all topics of a directory. The partitions are opened in parallel.
//!
//! Opening has three steps:
//!
//! 1. Finish the deletions that a crash interrupted.
//! 2. Plan each topic from its topic file, its directories and the checkpoints. Topics without a
//!    topic file are a broker's, and are opened as they are.
//! 3. Open, recover or create every partition. If one cannot be opened, its slot contains the
//!    error, and the others are opened.
//!
//! A missing directory is created only if the partition never existed. If a checkpoint knows the
//! partition, its records were lost, and a new partition with offsets from 0 would hide that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::contents::{Contents, Inside, look_inside};
use super::jobs::{Job, run_all};
use super::{Catalog, Leaving, Structure, of_deleted, rename_deleted};
use crate::config::{TopicConfig, TopicSettings};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::TopicFile;
use crate::partition::PartitionRecovery;
use crate::partition::stated::{Covered, Lines, Stated, is_of_topic};
use crate::storage::remove_if_exists;
use crate::sync::{Mutex, RwLock};
use crate::topic::stored::{Home, TopicParts, new_partition};
use crate::topic::topic_file::{Found, is_never_compacted, read_topic_file, unconfigured};
use crate::topic::{Slot, TopicCore, partition_dir};
use crate::topic_partition::TopicPartition;

/// Kafka's own metadata log. It is not a topic of an application, and only a read-only log shows
/// it.
const CLUSTER_METADATA: &str = "__cluster_metadata";

/// The facts that the files at the root state about the log.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The lines of its checkpoints.
    pub(crate) lines: Lines,
    /// Whether the log was closed cleanly, or has no partition.
    pub(crate) clean: bool,
    /// Whether the clean-shutdown marker exists. Then all topics had their directories.
    pub(crate) was_closed: bool,
    /// Whether a broker used the directory last. Then its files count if they and a topic file
    /// disagree.
    pub(crate) broker_since: bool,
    /// The number of partitions that are opened at the same time.
    pub(crate) threads: usize,
}

impl Known {
    /// Collects the facts from the files at the root and the lines of the checkpoints. At most
    /// `threads` partitions are opened at once.
    pub(crate) fn of(contents: &Contents, lines: Lines, threads: usize) -> Self {
        let has = |name| contents.files.contains(name);
        Self {
            lines,
            clean: has(file_name::CLEAN_SHUTDOWN) || contents.partitions.is_empty(),
            was_closed: has(file_name::CLEAN_SHUTDOWN),
            broker_since: has(file_name::HIGH_WATERMARKS),
            threads,
        }
    }
}

/// A report of what opening the topics found.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The partitions in which something was scanned, cut, rebuilt or found damaged.
    pub(crate) partitions: Vec<(TopicPartition, PartitionRecovery)>,
    /// The topics whose topic file is damaged. They are treated as if they had none.
    pub(crate) topics: Vec<(Arc<str>, Error)>,
    /// The names in the directory that do not belong to a log.
    pub(crate) foreign: Vec<String>,
}

/// The files at the root, and the facts that they state.
pub(super) struct Root<'a> {
    pub(super) home: &'a Home,
    pub(super) contents: &'a Contents,
    pub(super) known: &'a Known,
    /// The partitions of which only a directory that a broker set aside is left, by topic.
    missing: BTreeMap<Arc<str>, BTreeSet<u32>>,
}

impl<'a> Root<'a> {
    pub(super) fn new(home: &'a Home, contents: &'a Contents, known: &'a Known) -> Self {
        let mut missing = BTreeMap::<Arc<str>, BTreeSet<u32>>::new();
        let is_there = |id: &TopicPartition| {
            contents
                .partitions
                .get(&*id.topic)
                .is_some_and(|numbers| numbers.contains(&id.partition))
        };
        for id in contents
            .stray
            .keys()
            .filter(|id| file_name::check_topic(&id.topic).is_ok() && !is_there(id))
        {
            missing
                .entry(Arc::clone(&id.topic))
                .or_default()
                .insert(id.partition);
        }
        Self {
            home,
            contents,
            known,
            missing,
        }
    }
}

/// Opens all topics in `contents`. Returns only errors that concern the log as a whole.
pub(crate) fn load(home: Home, mut contents: Contents, known: &Known) -> Result<(Catalog, Loaded)> {
    if !home.context.read_only {
        contents.partitions.remove(CLUSTER_METADATA);
    }
    let root = Root::new(&home, &contents, known);
    // Before the first change: a log of a later version must stay as it is.
    let files = root.read_topic_files()?;
    let structure = if home.context.read_only {
        Structure::default()
    } else {
        finish_deletions(&home, &contents)
    };
    let mut loaded = Loaded::default();
    let mut plans = Vec::new();
    let mut jobs = Vec::new();
    for (name, found) in files {
        if let Some(plan) = root.plan(name, found, &mut loaded, &mut jobs)? {
            plans.push(plan);
        }
    }
    root.report_strays(&jobs, &mut loaded);
    loaded.foreign.extend(contents.foreign.keys().cloned());
    loaded.foreign.sort_unstable();
    let opened = run_all(&home.context, &jobs, known.threads);
    let mut slots = BTreeMap::<Arc<str>, BTreeMap<u32, Slot>>::new();
    for (job, (slot, recovery)) in jobs.iter().zip(opened) {
        let id = job.id();
        if is_notable(&recovery) {
            loaded.partitions.push((id.clone(), recovery));
        }
        let former = slots
            .entry(Arc::clone(&id.topic))
            .or_default()
            .insert(id.partition, slot);
        debug_assert!(former.is_none(), "{id} is opened once");
    }
    let mut topics = BTreeMap::new();
    for plan in plans {
        let slots = slots.remove(&plan.name).unwrap_or_default();
        let topic = plan.topic(&home, slots, known)?;
        let former = topics.insert(Arc::clone(topic.name()), topic);
        debug_assert!(former.is_none(), "a topic is planned once");
    }
    debug_assert!(slots.is_empty(), "each job belongs to a planned topic");
    let seen = Mutex::default();
    Ok((
        Catalog {
            home,
            topics: RwLock::new(topics),
            structure: Mutex::new(structure),
            seen,
        },
        loaded,
    ))
}

/// Continues the deletions, and removes the temporary files of killed processes. A step that fails
/// is tried again later.
fn finish_deletions(home: &Home, contents: &Contents) -> Structure {
    debug_assert!(
        !home.context.read_only,
        "a read-only log leaves deletions to the writer"
    );
    let now = home.context.clock.now();
    let mut leaving: Vec<_> = contents
        .deleted_dirs
        .iter()
        .map(|name| home.root.join(name))
        .collect();
    for topic in &contents.gone {
        let numbers = contents.partitions.get(topic).into_iter().flatten();
        let named = numbers.map(|number| TopicPartition::new(topic.as_str(), *number));
        for id in of_deleted(home, topic, named).unwrap_or_default() {
            leaving.extend(rename_deleted(home, &id).ok().flatten());
        }
    }
    for name in &contents.temporary {
        debug_assert!(
            file_name::is_temporary(name),
            "{name}: only temporary files are removed unread"
        );
        let _may_be_tried_again = remove_if_exists(&*home.context.storage, &home.root.join(name));
    }
    let leaving = leaving
        .into_iter()
        .map(|dir| Leaving {
            dir,
            bytes: 0,
            due: now,
        })
        .collect();
    Structure {
        gone: contents
            .gone
            .iter()
            .map(|topic| (topic.clone(), None))
            .collect(),
        leaving,
    }
}

/// A topic that is about to be opened.
pub(super) struct Plan {
    pub(super) name: Arc<str>,
    pub(super) file: Option<TopicFile>,
    pub(super) config: TopicConfig,
}

impl Plan {
    pub(super) fn topic(
        self,
        home: &Home,
        slots: BTreeMap<u32, Slot>,
        known: &Known,
    ) -> Result<Arc<TopicCore>> {
        // After a broker, the topic file may be that of an earlier topic.
        debug_assert!(
            self.file
                .as_ref()
                .filter(|_| !known.broker_since)
                .is_none_or(|file| (0..file.partitions).all(|at| slots.contains_key(&at))),
            "{}: each partition that the topic file promises has a slot",
            self.name
        );
        let on_disk = slots
            .values()
            .flatten()
            .find_map(|partition| partition.topic_id());
        let in_file = self.file.as_ref().map(|file| file.topic_id);
        let id = if known.broker_since {
            on_disk.or(in_file)
        } else {
            in_file.or(on_disk)
        };
        let is_dense = self.file.as_ref().is_some_and(|file| file.is_dense);
        let may_lose_density = is_dense && !is_never_compacted(&self.config.over(&home.defaults)?);
        let topic = TopicCore::from_parts(
            home,
            TopicParts {
                name: self.name,
                id,
                file: self.file,
                config: self.config,
                slots,
            },
        );
        if !home.context.read_only && (known.broker_since || may_lose_density) {
            // Before the mark of a broker is removed, and before the log's defaults make compaction
            // possible.
            topic.store_state()?;
        }
        if !home.context.read_only && may_lose_density {
            topic
                .partitions()
                .iter()
                .for_each(|partition| partition.allow_gaps());
        }
        Ok(topic)
    }
}

impl Root<'_> {
    /// Returns all topics that are not being deleted, each with its topic file.
    pub(super) fn read_topic_files(&self) -> Result<Vec<(Arc<str>, Found)>> {
        let (home, contents) = (self.home, self.contents);
        let stored = contents
            .partitions
            .keys()
            .chain(&contents.topic_files)
            .map(|name| Arc::from(name.as_str()));
        let names: BTreeSet<Arc<str>> = stored.chain(self.missing.keys().map(Arc::clone)).collect();
        let present = names
            .into_iter()
            .filter(|name| !contents.gone.contains(&**name));
        let read = |name: Arc<str>| {
            Ok((
                Arc::clone(&name),
                read_topic_file(&*home.context.storage, &home.root, &name)?,
            ))
        };
        let files: Vec<(Arc<str>, Found)> = present.map(read).collect::<Result<_>>()?;
        // In a read-only log: if a topic file was listed and is missing now, the writer is deleting
        // the topic. It is not a broker's topic.
        let is_leaving = |name: &Arc<str>, found: &Found| {
            home.context.read_only
                && matches!(found, Found::Nothing)
                && contents.topic_files.contains(&**name)
        };
        Ok(files
            .into_iter()
            .filter(|(name, found)| !is_leaving(name, found))
            .collect())
    }

    /// Plans how to open a topic, and adds the jobs of its partitions to `jobs`. Returns `None` if
    /// the topic does not exist any more.
    pub(super) fn plan(
        &self,
        name: Arc<str>,
        found: Found,
        loaded: &mut Loaded,
        jobs: &mut Vec<Job>,
    ) -> Result<Option<Plan>> {
        let (home, known) = (self.home, self.known);
        let id = |partition| TopicPartition {
            topic: Arc::clone(&name),
            partition,
        };
        let mut numbers = self
            .contents
            .partitions
            .get(&*name)
            .cloned()
            .unwrap_or_default();
        let missing = self.missing.get(&name).cloned().unwrap_or_default();
        let (file, config) = match found {
            Found::Nothing => (None, unconfigured()),
            Found::Sound(file, config) => (Some(file), config),
            Found::Damaged(error) => {
                loaded.topics.push((Arc::clone(&name), error));
                if numbers.is_empty() && missing.is_empty() {
                    // The topic has no partition.
                    return Ok(None);
                }
                (None, unconfigured())
            }
        };
        let settings = match &file {
            Some(_) => config.over(&home.defaults)?,
            None => TopicSettings::unconfigured(),
        };
        let first = numbers.first().filter(|_| known.broker_since);
        let on_disk = first.and_then(|number| home.stored_id(&id(*number)));
        let promise = file.as_ref().filter(|file| is_of_topic(file, on_disk));
        let promised = promise.map_or(0, |file| file.partitions);
        if file.is_some() && !known.broker_since {
            let others = self.split_off_others(&id, promised, &mut numbers)?;
            loaded
                .foreign
                .extend(others.into_iter().map(|number| id(number).to_string()));
        }
        let all: BTreeSet<u32> = numbers
            .iter()
            .copied()
            .chain(0..promised)
            .chain(missing)
            .collect();
        for partition in all {
            let is_there = numbers.contains(&partition);
            let job = if is_there {
                Self::open_job
            } else {
                Self::missing_job
            };
            jobs.push(job(self, id(partition), promise, &settings));
        }
        Ok(Some(Plan { name, file, config }))
    }

    /// Removes the numbers of directories that only look like partitions of the topic, such as
    /// `orders-20240131`, and returns them. A number above those of the topic file counts if it
    /// follows on the one before it and its directory has files of a partition.
    fn split_off_others(
        &self,
        id: &impl Fn(u32) -> TopicPartition,
        promised: u32,
        numbers: &mut BTreeSet<u32>,
    ) -> Result<BTreeSet<u32>> {
        let storage = &*self.home.context.storage;
        let mut next = promised;
        while numbers.contains(&next)
            && matches!(
                look_inside(storage, &self.dir(&id(next)))?,
                Inside::Partition { .. }
            )
        {
            next += 1;
        }
        Ok(numbers.split_off(&next))
    }

    fn dir(&self, id: &TopicPartition) -> PathBuf {
        partition_dir(&self.home.root, id)
    }

    fn open_job(
        &self,
        id: TopicPartition,
        file: Option<&TopicFile>,
        settings: &TopicSettings,
    ) -> Job {
        let known = self.known;
        let file = file.map(|file| Covered::of_topic(file, &id));
        let stated = Stated::of(&id, &known.lines, file, known.broker_since);
        let dir = self.dir(&id);
        Job::Open(stated.spec(id, dir, settings.clone(), known.clean))
    }

    /// Returns the job for a partition without a directory. It is created only if it never had one.
    fn missing_job(
        &self,
        id: TopicPartition,
        file: Option<&TopicFile>,
        settings: &TopicSettings,
    ) -> Job {
        let (known, context) = (self.known, &self.home.context);
        debug_assert!(
            self.contents
                .partitions
                .get(&*id.topic)
                .is_none_or(|numbers| !numbers.contains(&id.partition)),
            "{id} has a directory, and is opened instead"
        );
        if let Some(stray) = self.contents.stray_of(&id) {
            return self.refuse(
                &id,
                format!(
                    "a broker that did not know its topic renamed it to `{stray}`: close the log and rename it back to `{id}`"
                ),
            );
        }
        let had_records = file.is_some_and(|file| Covered::of_topic(file, &id).log_start > 0);
        let lines = &known.lines;
        let has_line =
            lines.recovery_points.contains_key(&id) || lines.log_starts.contains_key(&id);
        let was_there =
            had_records || has_line || file.is_some() && (known.was_closed || known.broker_since);
        // In a read-only log, the writer may have created the directory after it was listed.
        if was_there && !(context.read_only && context.storage.metadata(&self.dir(&id)).is_ok()) {
            let reason = "the directory is missing, and with it all its records: put it back, or delete the topic";
            return self.refuse(&id, reason.to_owned());
        }
        match file {
            Some(_) if !context.read_only => {
                Job::Create(new_partition(&self.home.root, id, settings, file))
            }
            // A broker keeps it in another log directory, or the writer has yet to create it.
            _ => Job::Refuse(id.clone(), Error::UnknownPartition(id)),
        }
    }

    fn refuse(&self, id: &TopicPartition, reason: String) -> Job {
        Job::Refuse(
            id.clone(),
            Error::io(
                "open",
                &self.dir(id),
                io::Error::new(io::ErrorKind::NotFound, reason),
            ),
        )
    }

    /// Reports the directories that a broker set aside and that no job refers to. Either another
    /// partition has taken their place, or their topic is not known because its name was cut.
    fn report_strays(&self, jobs: &[Job], loaded: &mut Loaded) {
        let refused = jobs.iter().filter(|job| matches!(job, Job::Refuse(..)));
        let reported: BTreeSet<&str> = refused
            .filter_map(|job| self.contents.stray_of(job.id()))
            .collect();
        let whole = self
            .contents
            .stray
            .iter()
            .flat_map(|(id, names)| names.iter().map(move |name| (name, id)));
        for (name, id) in whole
            .chain(&self.contents.cut_stray)
            .filter(|(name, _)| !reported.contains(name.as_str()))
        {
            let reason = "a broker that did not know its topic set it aside: move it out of the log to read it with \
                          `Partition::open`";
            let damage = Some(Error::io(
                "open",
                &self.home.root.join(name),
                io::Error::new(io::ErrorKind::NotFound, reason),
            ));
            loaded.partitions.push((
                id.clone(),
                PartitionRecovery {
                    damage,
                    ..PartitionRecovery::default()
                },
            ));
        }
    }
}

/// Returns whether opening a partition found anything to report.
fn is_notable(recovery: &PartitionRecovery) -> bool {
    let PartitionRecovery {
        bytes_scanned,
        bytes_cut,
        kept,
        indexes_rebuilt,
        damage,
    } = recovery;
    *bytes_scanned > 0
        || *bytes_cut > 0
        || !kept.is_empty()
        || *indexes_rebuilt > 0
        || damage.is_some()
}
