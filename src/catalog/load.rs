//! Opening all topics of a directory, in parallel over their partitions.
//!
//! First what a crash left half done is finished, then each topic is planned from its topic file,
//! its directories and the checkpoints, then every partition is opened, recovered or created. A
//! partition that cannot be opened keeps its place and its error; the others do not mind. A
//! broker's topics, those without a topic file, are opened as they are.
//!
//! A directory that should be there and is not is created only if the partition never was: a
//! checkpoint that knows it means that records were lost, and offsets that start again at 0 would
//! hide it.

use super::checkpoints::Lines;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::{Mutex, RwLock};

use super::contents::{Contents, Inside, look_inside};
use super::{Catalog, Leaving, Structure, of_deleted, rename_deleted};
use crate::config::{TopicConfig, TopicSettings};
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::TopicFile;
use crate::partition::{PartitionContext, PartitionCore, PartitionRecovery, PartitionSpec};
use crate::storage::{directory_of, remove_if_exists};
use crate::threads;
use crate::topic::stored::{
    Found, Home, TopicParts, is_never_compacted, new_partition, read_topic_file, unconfigured,
};
use crate::topic::{Slot, TopicCore, partition_dir};
use crate::topic_partition::TopicPartition;

/// Kafka's own metadata log. It is no topic of anybody's: only a read-only log shows it.
const CLUSTER_METADATA: &str = "__cluster_metadata";

/// What the root says of its partitions.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) recovery_points: BTreeMap<TopicPartition, u64>,
    pub(crate) log_starts: BTreeMap<TopicPartition, u64>,
    /// Whether the log was closed cleanly, or has no partition.
    pub(crate) clean: bool,
    /// Whether a marker says that it was closed cleanly: then all its topics had their directories.
    pub(crate) was_closed: bool,
    /// Whether a broker held the directory last: then its files are right where they and a topic
    /// file disagree.
    pub(crate) broker_since: bool,
    /// How many partitions are opened at the same time.
    pub(crate) threads: usize,
}

impl Known {
    /// Returns what the root says: its files, and the lines of its checkpoints. At most `threads`
    /// partitions are opened at once.
    pub(crate) fn of(contents: &Contents, lines: Lines, threads: usize) -> Self {
        let has = |name| contents.files.contains(name);
        Self {
            recovery_points: lines.recovery_points,
            log_starts: lines.log_starts,
            clean: has(file_name::CLEAN_SHUTDOWN) || contents.partitions.is_empty(),
            was_closed: has(file_name::CLEAN_SHUTDOWN),
            broker_since: has(file_name::HIGH_WATERMARKS),
            threads,
        }
    }
}

/// What opening found.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Of partitions where something was cut, rebuilt or damaged.
    pub(crate) partitions: Vec<(TopicPartition, PartitionRecovery)>,
    /// Topics whose topic file is damaged: they are treated as if they had none.
    pub(crate) topics: Vec<(Arc<str>, Error)>,
    /// Names in the directory that no log has.
    pub(crate) foreign: Vec<String>,
}

/// What stands at the root, and what it says of partitions.
pub(super) struct Root<'a> {
    pub(super) home: &'a Home,
    pub(super) contents: &'a Contents,
    pub(super) known: &'a Known,
    /// By topic: partitions of which nothing is left but a directory that a broker set aside.
    missing: BTreeMap<Arc<str>, BTreeSet<u32>>,
}

impl<'a> Root<'a> {
    pub(super) fn new(home: &'a Home, contents: &'a Contents, known: &'a Known) -> Self {
        let mut missing = BTreeMap::<Arc<str>, BTreeSet<u32>>::new();
        let is_there = |id: &TopicPartition| {
            contents
                .partitions
                .get(&*id.topic)
                .is_some_and(|them| them.contains(&id.partition))
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

/// Opens everything in `contents`. Errors are those that concern the log as a whole.
pub(crate) fn load(home: Home, mut contents: Contents, known: &Known) -> Result<(Catalog, Loaded)> {
    if !home.context.read_only {
        contents.partitions.remove(CLUSTER_METADATA);
    }
    let root = Root::new(&home, &contents, known);
    // Before anything is changed: a log of a later version is none of our business.
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
        slots
            .entry(Arc::clone(&id.topic))
            .or_default()
            .insert(id.partition, slot);
    }
    let mut topics = BTreeMap::new();
    for plan in plans {
        let slots = slots.remove(&plan.name).unwrap_or_default();
        let topic = plan.topic(&home, slots, known)?;
        topics.insert(Arc::clone(topic.name()), topic);
    }
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

/// Goes on with deletions, and removes what killed writers of small files left. What does not work
/// is tried again later.
fn finish_deletions(home: &Home, contents: &Contents) -> Structure {
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
            // Before the sign that a broker was here goes, and before anything is compacted by the
            // log's defaults.
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
    /// All topics that are not being deleted, with what stands where their topic files belong.
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
        // Beside a writer: a topic file that was listed and is gone is that of a topic on its way
        // out, and not a broker's.
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

    /// Adds what is to be done for the topic to `jobs`. `None` if there is no such topic any more.
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
                    // There is nothing that it could speak of.
                    return Ok(None);
                }
                (None, unconfigured())
            }
        };
        let settings = match &file {
            Some(_) => config.over(&home.defaults)?,
            None => TopicSettings::unconfigured(),
        };
        // A broker may have deleted the topic and created another one of its name.
        let first = numbers.first().filter(|_| known.broker_since);
        let on_disk = first.and_then(|number| home.stored_id(&id(*number)));
        let promise = file
            .as_ref()
            .filter(|file| on_disk.is_none_or(|on_disk| on_disk == file.topic_id));
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

    /// Takes out the numbers of directories that only look like partitions of the topic, such as
    /// `orders-20240131`: beyond those that the topic file knows, a partition follows on the one
    /// before it and has files of a partition.
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
        let in_file = file.map(|file| start_in(file, &id).unwrap_or(0));
        let in_checkpoint = known.log_starts.get(&id).copied();
        // Where a broker was since, its files count. It knows no start of a partition that it had
        // set aside.
        let log_start = if known.broker_since {
            in_file.max(in_checkpoint)
        } else {
            in_file.or(in_checkpoint)
        };
        let file = file.filter(|_| !known.broker_since);
        Job::Open(PartitionSpec {
            dir: self.dir(&id),
            settings: settings.clone(),
            topic_id: file.map(|file| file.topic_id),
            log_start: log_start.unwrap_or(0),
            recovery_point: known.recovery_points.get(&id).copied().unwrap_or(0),
            clean: known.clean,
            is_dense: file.is_some_and(|file| file.is_dense),
            broker_since: known.broker_since,
            id,
        })
    }

    /// What to do for a partition without a directory: create it only if it never had one.
    fn missing_job(
        &self,
        id: TopicPartition,
        file: Option<&TopicFile>,
        settings: &TopicSettings,
    ) -> Job {
        let (known, context) = (self.known, &self.home.context);
        if let Some(stray) = self.contents.stray_of(&id) {
            return self.refuse(
                &id,
                format!(
                    "a broker that did not know its topic renamed it to `{stray}`: close the log and rename it back to `{id}`"
                ),
            );
        }
        let had_records =
            file.is_some_and(|file| start_in(file, &id).is_some_and(|start| start > 0));
        let has_line =
            known.recovery_points.contains_key(&id) || known.log_starts.contains_key(&id);
        let was_there =
            had_records || has_line || file.is_some() && (known.was_closed || known.broker_since);
        // Beside a writer the listing may be older than the directory.
        if was_there && !(context.read_only && context.storage.metadata(&self.dir(&id)).is_ok()) {
            let reason = "the directory is gone, and with it all its records: put it back, or delete the topic";
            return self.refuse(&id, reason.to_owned());
        }
        match file {
            Some(_) if !context.read_only => {
                Job::Create(new_partition(&self.home.root, id, settings, file))
            }
            // A broker has it elsewhere, or the writer has yet to create it.
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

    /// Reports the directories that a broker set aside and that no job speaks of: another partition
    /// has taken their place, or their topic is not known since its name was cut.
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

/// Where the topic file says that a partition starts, if not at its first segment.
fn start_in(file: &TopicFile, id: &TopicPartition) -> Option<u64> {
    file.log_starts
        .iter()
        .find(|(number, _)| *number == id.partition)
        .map(|(_, start)| *start)
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
            Self::Create(spec) => {
                create(context, spec).map(|core| (core, PartitionRecovery::default()))
            }
            Self::Refuse(_, error) => Err(error.clone()),
        };
        match done {
            Ok((core, recovery)) => (Ok(core), recovery),
            Err(error) => {
                let damage = (!matches!(error, Error::UnknownPartition(_))).then(|| error.clone());
                (
                    Err(error),
                    PartitionRecovery {
                        damage,
                        ..PartitionRecovery::default()
                    },
                )
            }
        }
    }
}

fn create(context: &Arc<PartitionContext>, spec: &PartitionSpec) -> Result<Arc<PartitionCore>> {
    let core = PartitionCore::create(context, spec)?;
    let root = directory_of(&spec.dir);
    context
        .storage
        .sync_dir(root)
        .map_err(|error| Error::io("sync", root, error))?;
    Ok(core)
}

/// Runs all jobs; the results are in the order of the jobs.
pub(super) fn run_all(
    context: &Arc<PartitionContext>,
    jobs: &[Job],
    parallel: usize,
) -> Vec<(Slot, PartitionRecovery)> {
    let parallel = parallel.min(jobs.len());
    if parallel <= 1 {
        return jobs.iter().map(|job| job.run(context)).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else {
                return done;
            };
            done.push((index, job.run(context)));
        }
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        // The calling thread works too, alone where the system refuses all others.
        let others: Vec<_> = (1..parallel)
            .map_while(|_| threads::spawn_scoped(scope, "annals-open", work).ok())
            .collect();
        let mut done = work();
        done.extend(
            others
                .into_iter()
                .flat_map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic))),
        );
        done
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Whether there is anything to tell.
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
