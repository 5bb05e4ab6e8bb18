//! Opening all topics of a directory, in parallel over their partitions.
//!
//! First what a crash left half done is finished, then each topic is planned from its topic file, its directories and the
//! checkpoints, then every partition is opened, recovered or created. A partition that cannot be opened keeps its place and its
//! error; the others do not mind. A broker's topics, those without a topic file, are opened as they are.
//!
//! A directory that should be there and is not is created only if the partition never was: a checkpoint that knows it means
//! that records were lost, and offsets that start again at 0 would hide it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::{Mutex, RwLock};

use super::contents::Contents;
use super::{Catalog, Leaving, Structure, rename_deleted};
use crate::config::{TopicConfig, TopicSettings};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::TopicFile;
use crate::partition::{PartitionContext, PartitionCore, PartitionRecovery, PartitionSpec};
use crate::storage::{directory_of, remove_if_exists};
use crate::threads;
use crate::topic::stored::{Found, Home, TopicParts, is_never_compacted, new_partition, read_topic_file, unconfigured};
use crate::topic::{Slot, TopicCore, partition_dir};
use crate::topic_partition::TopicPartition;

/// Kafka's own metadata log. It is no topic of anybody's: only a read-only log shows it.
const CLUSTER_METADATA: &str = "__cluster_metadata";

/// What the root says of its partitions.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) recovery_points: BTreeMap<TopicPartition, u64>,
    pub(crate) log_starts: BTreeMap<TopicPartition, u64>,
    /// Whether the log was closed cleanly.
    pub(crate) clean: bool,
    /// Whether a broker held the directory last: then its files are right where they and a topic file disagree.
    pub(crate) broker_since: bool,
    /// How many partitions are opened at the same time.
    pub(crate) threads: usize,
}

/// What opening found.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Of partitions where something was cut, rebuilt or damaged.
    pub(crate) partitions: Vec<(TopicPartition, PartitionRecovery)>,
    /// Topics whose topic file is damaged: they are treated as if they had none.
    pub(crate) topics: Vec<(Arc<str>, Error)>,
}

/// Opens everything in `contents`. Errors are those that concern the log as a whole.
pub(crate) fn load(home: Home, mut contents: Contents, known: &Known) -> Result<(Catalog, Loaded)> {
    if !home.context.read_only {
        contents.partitions.remove(CLUSTER_METADATA);
    }
    // Before anything is changed: a log of a later version is none of our business.
    let files = read_topic_files(&home, &contents)?;
    let structure = if home.context.read_only { Structure::default() } else { finish_deletions(&home, &contents) };
    let mut loaded = Loaded::default();
    let mut plans = Vec::new();
    let mut jobs = Vec::new();
    for (name, found) in files {
        let numbers = contents.partitions.get(&*name).cloned().unwrap_or_default();
        if let Some(plan) = plan(&home, name, found, &numbers, known, &mut loaded, &mut jobs)? {
            plans.push(plan);
        }
    }
    let opened = run_all(&home.context, &jobs, known.threads);
    let mut slots = BTreeMap::<Arc<str>, BTreeMap<u32, Slot>>::new();
    for (job, (slot, recovery)) in jobs.iter().zip(opened) {
        let id = job.id();
        if is_notable(&recovery) {
            loaded.partitions.push((id.clone(), recovery));
        }
        slots.entry(Arc::clone(&id.topic)).or_default().insert(id.partition, slot);
    }
    let mut topics = BTreeMap::new();
    for plan in plans {
        let slots = slots.remove(&plan.name).unwrap_or_default();
        let topic = plan.topic(&home, slots, known)?;
        topics.insert(Arc::clone(topic.name()), topic);
    }
    let seen = Mutex::default();
    Ok((Catalog { home, topics: RwLock::new(topics), structure: Mutex::new(structure), seen }, loaded))
}

/// All topics that are not being deleted, with what stands where their topic files belong.
pub(super) fn read_topic_files(home: &Home, contents: &Contents) -> Result<Vec<(Arc<str>, Found)>> {
    let names: BTreeSet<&String> = contents.partitions.keys().chain(&contents.topic_files).collect();
    let present =
        names.difference(&contents.gone.iter().collect()).map(|name| Arc::from(name.as_str())).collect::<Vec<Arc<str>>>();
    let read = |name: Arc<str>| Ok((Arc::clone(&name), read_topic_file(&*home.context.storage, &home.root, &name)?));
    let files: Vec<(Arc<str>, Found)> = present.into_iter().map(read).collect::<Result<_>>()?;
    // Beside a writer: a topic file that was listed and is gone is that of a topic on its way out, and not a broker's.
    let is_leaving = |name: &Arc<str>, found: &Found| {
        home.context.read_only && matches!(found, Found::Nothing) && contents.topic_files.contains(&**name)
    };
    Ok(files.into_iter().filter(|(name, found)| !is_leaving(name, found)).collect())
}

/// Goes on with deletions, and removes what killed writers of small files left. What does not work is tried again later.
fn finish_deletions(home: &Home, contents: &Contents) -> Structure {
    let now = home.context.clock.now();
    let mut leaving: Vec<_> = contents.deleted_dirs.iter().map(|name| home.root.join(name)).collect();
    for topic in &contents.gone {
        for partition in contents.partitions.get(topic).into_iter().flatten() {
            let id = TopicPartition::new(topic.as_str(), *partition);
            leaving.extend(rename_deleted(home, &id).ok().flatten());
        }
    }
    for name in &contents.temporary {
        let _may_be_tried_again = remove_if_exists(&*home.context.storage, &home.root.join(name));
    }
    let leaving = leaving.into_iter().map(|dir| Leaving { dir, bytes: 0, due: now }).collect();
    Structure { gone: contents.gone.iter().map(|topic| (topic.clone(), None)).collect(), leaving }
}

/// A topic that is about to be opened.
pub(super) struct Plan {
    pub(super) name: Arc<str>,
    pub(super) file: Option<TopicFile>,
    pub(super) config: TopicConfig,
}

impl Plan {
    pub(super) fn topic(self, home: &Home, slots: BTreeMap<u32, Slot>, known: &Known) -> Result<Arc<TopicCore>> {
        let on_disk = slots.values().flatten().find_map(|partition| partition.topic_id());
        let in_file = self.file.as_ref().map(|file| file.topic_id);
        let id = if known.broker_since { on_disk.or(in_file) } else { in_file.or(on_disk) };
        let is_dense = self.file.as_ref().is_some_and(|file| file.is_dense);
        let may_lose_density = is_dense && !is_never_compacted(&self.config.over(&home.defaults)?);
        let topic = TopicCore::from_parts(home, TopicParts { name: self.name, id, file: self.file, config: self.config, slots });
        if !home.context.read_only && (known.broker_since || may_lose_density) {
            // Before the sign that a broker was here goes, and before anything is compacted by the log's defaults.
            topic.store_state()?;
        }
        if !home.context.read_only && may_lose_density {
            topic.partitions().iter().for_each(|partition| partition.allow_gaps());
        }
        Ok(topic)
    }
}

/// Adds what is to be done for the topic to `jobs`. `None` if there is no such topic any more.
pub(super) fn plan(
    home: &Home,
    name: Arc<str>,
    found: Found,
    numbers: &BTreeSet<u32>,
    known: &Known,
    loaded: &mut Loaded,
    jobs: &mut Vec<Job>,
) -> Result<Option<Plan>> {
    let (file, config) = match found {
        Found::Nothing => (None, unconfigured()),
        Found::Sound(file, config) => (Some(file), config),
        Found::Damaged(error) => {
            loaded.topics.push((Arc::clone(&name), error));
            if numbers.is_empty() {
                // There is nothing that it could speak of.
                return Ok(None);
            }
            (None, unconfigured())
        }
    };
    if known.broker_since && numbers.is_empty() && file.is_some() {
        // The broker deleted it.
        if !home.context.read_only {
            let path = home.root.join(file_name::topic_file(&name));
            remove_if_exists(&*home.context.storage, &path).map_err(|error| Error::io("remove", &path, error))?;
        }
        return Ok(None);
    }
    let settings = match &file {
        Some(_) => config.over(&home.defaults)?,
        None => TopicSettings::unconfigured(),
    };
    let promised = file.as_ref().map_or(0, |file| file.partitions);
    let all: BTreeSet<u32> = numbers.iter().copied().chain(0..promised).collect();
    for partition in all {
        let id = TopicPartition { topic: Arc::clone(&name), partition };
        let is_there = numbers.contains(&partition);
        jobs.push(job(home, id, file.as_ref(), &settings, known, is_there));
    }
    Ok(Some(Plan { name, file, config }))
}

fn job(
    home: &Home,
    id: TopicPartition,
    file: Option<&TopicFile>,
    settings: &TopicSettings,
    known: &Known,
    is_there: bool,
) -> Job {
    // Where a broker was since, its files count.
    let file = file.filter(|_| !known.broker_since);
    if is_there {
        let from_file =
            file.map(|file| file.log_starts.iter().find(|(number, _)| *number == id.partition).map_or(0, |(_, start)| *start));
        return Job::Open(PartitionSpec {
            dir: partition_dir(&home.root, &id),
            settings: settings.clone(),
            topic_id: file.map(|file| file.topic_id),
            log_start: from_file.or_else(|| known.log_starts.get(&id).copied()).unwrap_or(0),
            recovery_point: known.recovery_points.get(&id).copied().unwrap_or(0),
            clean: known.clean,
            is_dense: file.is_some_and(|file| file.is_dense),
            broker_since: known.broker_since,
            id,
        });
    }
    let Some(file) = file else { return Job::Refuse(id.clone(), Error::UnknownPartition(id)) };
    let had_records = file.log_starts.iter().any(|(number, start)| *number == id.partition && *start > 0);
    let is_known = had_records || known.recovery_points.contains_key(&id) || known.log_starts.contains_key(&id);
    let path = partition_dir(&home.root, &id);
    // Beside a writer the listing may be older than the directory.
    if is_known && !(home.context.read_only && home.context.storage.metadata(&path).is_ok()) {
        let source = io::Error::new(
            io::ErrorKind::NotFound,
            "the directory is gone, and with it all its records: put it back, or delete the topic",
        );
        return Job::Refuse(id, Error::io("open", &path, source));
    }
    if home.context.read_only {
        // The writer has yet to make it.
        return Job::Refuse(id.clone(), Error::UnknownPartition(id));
    }
    Job::Create(new_partition(&home.root, id, settings, Some(file)))
}

/// What is to be done for one partition.
#[derive(Debug)]
pub(super) enum Job {
    Open(PartitionSpec),
    Create(PartitionSpec),
    Refuse(TopicPartition, Error),
}

impl Job {
    pub(super) fn id(&self) -> &TopicPartition {
        match self {
            Self::Open(spec) | Self::Create(spec) => &spec.id,
            Self::Refuse(id, _) => id,
        }
    }

    fn run(&self, context: &Arc<PartitionContext>) -> (Slot, PartitionRecovery) {
        let done = match self {
            Self::Open(spec) if context.read_only => PartitionCore::open_beside(context, spec),
            Self::Open(spec) => PartitionCore::open(context, spec),
            Self::Create(spec) => create(context, spec).map(|core| (core, PartitionRecovery::default())),
            Self::Refuse(_, error) => Err(error.clone()),
        };
        match done {
            Ok((core, recovery)) => (Ok(core), recovery),
            Err(error) => {
                let damage = (!matches!(error, Error::UnknownPartition(_))).then(|| error.clone());
                (Err(error), PartitionRecovery { damage, ..PartitionRecovery::default() })
            }
        }
    }
}

fn create(context: &Arc<PartitionContext>, spec: &PartitionSpec) -> Result<Arc<PartitionCore>> {
    let core = PartitionCore::create(context, spec)?;
    let root = directory_of(&spec.dir);
    context.storage.sync_dir(root).map_err(|error| Error::io("sync", root, error))?;
    Ok(core)
}

/// Runs all jobs; the results are in the order of the jobs.
pub(super) fn run_all(context: &Arc<PartitionContext>, jobs: &[Job], parallel: usize) -> Vec<(Slot, PartitionRecovery)> {
    let parallel = parallel.min(jobs.len());
    if parallel <= 1 {
        return jobs.iter().map(|job| job.run(context)).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { return done };
            done.push((index, job.run(context)));
        }
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        // The calling thread works too, alone where the system refuses all others.
        let others: Vec<_> = (1..parallel).map_while(|_| threads::spawn_scoped(scope, "annals-open", work).ok()).collect();
        let mut done = work();
        done.extend(others.into_iter().flat_map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic))));
        done
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Whether there is anything to tell.
fn is_notable(recovery: &PartitionRecovery) -> bool {
    let PartitionRecovery { bytes_scanned, bytes_cut, kept, indexes_rebuilt, damage } = recovery;
    *bytes_scanned > 0 || *bytes_cut > 0 || !kept.is_empty() || *indexes_rebuilt > 0 || damage.is_some()
}
