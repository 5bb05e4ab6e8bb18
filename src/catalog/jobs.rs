//! The partitions to open, create or refuse, and running these jobs in parallel.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::error::{At, Error, Result};
use crate::partition::{PartitionContext, PartitionCore, PartitionRecovery, PartitionSpec};
use crate::storage::directory_of;
use crate::threads;
use crate::topic::Slot;
use crate::topic_partition::TopicPartition;

/// The step that opening takes for one partition.
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
            Self::Open(spec) if context.read_only => PartitionCore::open_read_only(context, spec),
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
    debug_assert!(!context.read_only, "a read-only log creates no partition");
    debug_assert!(
        spec.dir.ends_with(spec.id.to_string()),
        "{}: the next opening finds a partition by the name of its directory",
        spec.id
    );
    let core = PartitionCore::create(context, spec)?;
    let root = directory_of(&spec.dir);
    context.storage.sync_dir(root).at("sync", root)?;
    Ok(core)
}

/// Runs all jobs, at most `parallel` at once. Returns the results in the order of the jobs.
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
        // The calling thread works too. It works alone if the system refuses all other threads.
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
    debug_assert!(
        done.iter().map(|(index, _)| *index).eq(0..jobs.len()),
        "each job runs once"
    );
    done.into_iter().map(|(_, outcome)| outcome).collect()
}
