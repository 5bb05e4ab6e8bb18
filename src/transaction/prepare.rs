//! Steps 2 and 3 of a commit: syncs the partitions, and writes the commit point. Threads that
//! commit at the same time take both steps together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use std::{iter, thread};

use super::stage::{Seat, Stage};
use super::state_topic::{StateRecord, append_records};
use crate::error::{Error, Result};
use crate::format::batch::HEADER_BYTES;
use crate::format::record;
use crate::partition::{Appended, PartitionCore};
use crate::threads;

/// The longest wait of a leader for other threads.
const MAX_GATHERING: Duration = Duration::from_millis(5);
/// The most bytes of state records in one batch. A larger record has a batch of its own.
const MAX_BATCH_BYTES: usize = 16 << 10;

/// A place in the log that is synced.
pub(super) type Written = (Arc<PartitionCore>, Appended);

/// The commits that sync the same partitions share a line, and so do all whose states are in the
/// same partition.
#[derive(Debug)]
pub(super) struct Preparation {
    syncing: Stage<(u32, BTreeSet<u32>), Job>,
    deciding: Stage<u32, Job>,
    /// Whether the program has a clock of its own, and so expects the same steps in every run.
    is_manual: bool,
}

/// A commit that takes the two steps.
#[derive(Debug)]
struct Job {
    /// What is synced before the commit point.
    written: Vec<Written>,
    record: StateRecord,
    home: Arc<PartitionCore>,
    caller: Caller,
}

/// Calls the thread of a commit, also if the thread that leads panics.
#[derive(Debug)]
struct Caller(Option<Arc<Seat<Call>>>);

#[derive(Debug)]
enum Call {
    /// The thread leads step 2.
    Sync,
    /// The thread leads step 3.
    Decide,
    Done(Prepared),
}

pub(super) type Prepared = std::result::Result<(), Failed>;

/// The failure of a commit.
#[derive(Clone, Debug)]
pub(super) enum Failed {
    /// The transaction is not committed and can be aborted.
    Before(Error),
    /// It is unknown whether the commit point is on the device.
    At { cause: Error, is_appended: bool },
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Before(error)
    }
}

impl Job {
    fn finish(mut self, prepared: Prepared) {
        if let Some(seat) = self.caller.0.take() {
            seat.call(Call::Done(prepared));
        }
    }
}

impl Caller {
    fn call(&self, call: Call) {
        if let Some(seat) = &self.0 {
            seat.call(call);
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.call(Call::Done(Err(Failed::At {
            cause: Error::Closed,
            is_appended: false,
        })));
    }
}

impl Preparation {
    pub(super) fn new(is_manual: bool) -> Self {
        Self {
            is_manual,
            syncing: Stage::new(|job| job.caller.call(Call::Sync), MAX_GATHERING),
            deciding: Stage::new(|job| job.caller.call(Call::Decide), MAX_GATHERING),
        }
    }

    /// Syncs what was written, and then writes and syncs the record of the commit point.
    pub(super) fn prepare(
        &self,
        written: Vec<Written>,
        home: Arc<PartitionCore>,
        record: StateRecord,
    ) -> Prepared {
        let numbers: BTreeSet<_> = written.iter().map(|(core, _)| core.number()).collect();
        let (line, home_line) = ((home.number(), numbers), home.number());
        let seat = Seat::new();
        let job = Job {
            written,
            record,
            home,
            caller: Caller(Some(Arc::clone(&seat))),
        };
        let Self {
            syncing, deciding, ..
        } = self;
        syncing.enter(&line, vec![job]);
        // Given back after both steps, so that the threads that share a line stay together.
        let mut turn = None;
        loop {
            match seat.wait() {
                Call::Sync => {
                    let (taken, jobs) = syncing.take(&line);
                    turn = Some(taken);
                    let synced = self.sync_jobs(&jobs);
                    let mut ready = Vec::with_capacity(jobs.len());
                    for (job, synced) in jobs.into_iter().zip(synced) {
                        match synced {
                            Ok(()) => ready.push(job),
                            Err(error) => job.finish(Err(Failed::Before(error))),
                        }
                    }
                    if !ready.is_empty() {
                        deciding.enter(&home_line, ready);
                    }
                }
                Call::Decide => {
                    let (decision, jobs) = deciding.take(&home_line);
                    let decided = Self::decide_jobs(&jobs);
                    drop(decision);
                    // The line expects the threads back from now on, so before they are called.
                    drop(turn.take());
                    for (job, decided) in jobs.into_iter().zip(decided) {
                        job.finish(decided);
                    }
                }
                Call::Done(prepared) => return prepared,
            }
        }
    }

    /// Step 2 of some commits. Returns the result of each.
    fn sync_jobs(&self, jobs: &[Job]) -> Vec<Result<()>> {
        let mut all = Vec::with_capacity(jobs.len());
        for job in jobs {
            all.extend(&job.written);
        }
        let mut synced = self.sync_each(&all).into_iter();
        let result_of = |job: &Job| {
            let results = synced.by_ref().take(job.written.len());
            results.fold(Ok(()), Result::and)
        };
        jobs.iter().map(result_of).collect()
    }

    /// Step 3 of some commits whose states are in the same partition. Returns the result of each.
    fn decide_jobs(jobs: &[Job]) -> Vec<Prepared> {
        let Some(home) = jobs.first().map(|job| &job.home) else {
            return Vec::new();
        };
        let mut appended = Vec::with_capacity(jobs.len());
        for batch in batches_of(home, jobs) {
            let records = batch.iter().map(|job| job.record.as_record());
            let result = append_records(home, records).map_err(|cause| {
                // A failed append that could not be taken back poisons its partition.
                if home.check_writable().is_err() {
                    Failed::At {
                        cause,
                        is_appended: false,
                    }
                } else {
                    Failed::Before(cause)
                }
            });
            appended.extend(iter::repeat_n(result, batch.len()));
        }
        let sync = |appended: std::result::Result<Appended, Failed>| {
            home.sync_appended(&appended?).map_err(|cause| Failed::At {
                cause,
                is_appended: true,
            })
        };
        appended.into_iter().map(sync).collect()
    }

    /// Syncs these batches. Returns the first error.
    pub(super) fn sync_all(&self, written: &[Written]) -> Result<()> {
        let all: Vec<_> = written.iter().collect();
        self.sync_each(&all).into_iter().fold(Ok(()), Result::and)
    }

    /// Syncs these batches, and returns the result of each. Each partition is synced in a thread of
    /// its own, so that the threads wait for the device together.
    fn sync_each(&self, written: &[&Written]) -> Vec<Result<()>> {
        let groups = by_partition(written);
        let sync = |group: &Vec<usize>| -> Vec<Result<()>> {
            let places = group.iter().filter_map(|place| written.get(*place));
            places
                .map(|(core, appended)| core.sync_appended(appended))
                .collect()
        };
        let mut results = vec![Ok(()); written.len()];
        let mut note = |group: &Vec<usize>, synced: Vec<Result<()>>| {
            for (place, synced) in group.iter().zip(synced) {
                if let Some(result) = results.get_mut(*place) {
                    *result = synced;
                }
            }
        };
        let others = match groups.split_first() {
            Some((_, others)) if !self.is_manual => others,
            _ => &[],
        };
        let own = groups.get(..groups.len() - others.len());
        thread::scope(|scope| {
            let started: Vec<_> = others
                .iter()
                .map(|group| threads::spawn_scoped(scope, "annals-sync", move || sync(group)))
                .collect();
            for group in own.unwrap_or_default() {
                note(group, sync(group));
            }
            for (group, thread) in others.iter().zip(started) {
                let synced = match thread {
                    Ok(thread) => thread
                        .join()
                        .unwrap_or_else(|_| vec![Err(Error::Closed); group.len()]),
                    // The system refused the thread, so this one does its work.
                    Err(_) => sync(group),
                };
                note(group, synced);
            }
        });
        results
    }
}

/// Returns the places of the batches of each partition.
fn by_partition(written: &[&Written]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known = BTreeMap::new();
    for (place, (core, _)) in written.iter().enumerate() {
        let group = *known.entry(core.number()).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(group) => group.push(place),
            None => groups.push(vec![place]),
        }
    }
    groups
}

/// Splits the jobs into those whose records are appended as one batch: as many as the topic surely
/// accepts.
fn batches_of<'a>(home: &PartitionCore, jobs: &'a [Job]) -> Vec<&'a [Job]> {
    let settings = home.settings();
    let most = settings.max_message_bytes.min(settings.segment_bytes);
    let most = (most as usize).min(MAX_BATCH_BYTES);
    let mut batches = Vec::with_capacity(1);
    let mut rest = jobs;
    while !rest.is_empty() {
        let mut bytes = HEADER_BYTES;
        let fits = rest.iter().take_while(|job| {
            bytes += record::size_bound(&job.record.as_record());
            bytes <= most
        });
        let (batch, after) = rest.split_at(fits.count().max(1));
        batches.push(batch);
        rest = after;
    }
    batches
}
