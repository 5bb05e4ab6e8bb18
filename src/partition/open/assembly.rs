//! Puts a partition together: a new one, one that was opened, or a substitute for one that cannot
//! be opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::clock::Timestamp;
use crate::config::{Durability, TopicSettings};
use crate::error::{At, Error, Result};
use crate::format::file_name;
use crate::format::metadata_file::encode_partition_metadata;
use crate::partition::state::bounds::Bounds;
use crate::partition::state::compacted::Compacted;
use crate::partition::state::context::{PartitionContext, PartitionSpec};
use crate::partition::state::cuts::Cuts;
use crate::partition::state::group_commit::GroupCommit;
use crate::partition::state::health::Health;
use crate::partition::state::leader_epoch::LeaderEpochs;
use crate::partition::state::leaving::{Leaving, Trash};
use crate::partition::state::origin::Origin;
use crate::partition::state::producers::ProducerStates;
use crate::partition::state::reopening::Reopening;
use crate::partition::state::segment_list::SegmentList;
use crate::partition::state::waiting::WaitList;
use crate::partition::stated::stored_topic_id;
use crate::partition::{PartitionCore, Writer};
use crate::segment::index_file::MemoryIndex;
use crate::segment::{Segment, SegmentHome};
use crate::storage::replace_file;
use crate::sync::{FairMutex, Mutex, RwLock};

impl PartitionCore {
    /// Creates the directory, `partition.metadata`, `leader-epoch-checkpoint` and an empty first
    /// segment. All of it is durable, except for the name of the directory, which the caller syncs.
    pub(crate) fn create(
        context: &Arc<PartitionContext>,
        spec: &PartitionSpec,
    ) -> Result<Arc<Self>> {
        let storage = &*context.storage;
        storage.create_dir_all(&spec.dir).at("create", &spec.dir)?;
        if let Some(id) = spec.topic_id {
            let path = spec.dir.join(file_name::PARTITION_METADATA);
            replace_file(storage, &path, encode_partition_metadata(id).as_bytes())
                .at("write", &path)?;
        }
        let mut epochs = LeaderEpochs::default();
        epochs.assign(0, spec.log_start);
        epochs
            .store(storage, &spec.dir)
            .at("write the leader epochs of", &spec.dir)?;
        let home = context.home(&spec.dir);
        let segment =
            Segment::create(&home, spec.log_start).at("create a segment in", &spec.dir)?;
        context.sync_dir(&spec.dir)?;
        let segments = vec![Arc::new(segment)];
        let parts = Parts {
            segments,
            epochs,
            log_end: spec.log_start,
            was_repaired: true,
            ..Parts::default()
        };
        Ok(Arc::new(assemble(context, spec, home, parts)))
    }

    /// Returns a substitute for a partition that cannot be opened. It is empty, every read and
    /// append returns `error`, and no file is touched.
    pub(crate) fn unavailable(
        context: &Arc<PartitionContext>,
        spec: &PartitionSpec,
        error: Error,
    ) -> Arc<Self> {
        let home = context.home(&spec.dir);
        let segment = Segment::open_scanned(&home, 0, 0, 0, MemoryIndex::default());
        let parts = Parts {
            segments: vec![Arc::new(segment)],
            ..Parts::default()
        };
        let spec = PartitionSpec {
            log_start: 0,
            ..spec.clone()
        };
        Arc::new(Self {
            health: Health::unavailable(spec.id.clone(), error),
            ..assemble(context, &spec, home, parts)
        })
    }
}

/// The parts of a partition that an opening found or a creation made.
#[derive(Default)]
pub(in crate::partition) struct Parts {
    pub(in crate::partition) segments: Vec<Arc<Segment>>,
    pub(in crate::partition) epochs: LeaderEpochs,
    pub(in crate::partition) producers: ProducerStates,
    pub(in crate::partition) had_producers: bool,
    pub(in crate::partition) last_epoch: i32,
    pub(in crate::partition) log_end: u64,
    pub(in crate::partition) was_repaired: bool,
    pub(in crate::partition) damage: Option<Error>,
}

impl Parts {
    /// Returns the bounds of a partition that was opened as `spec` says.
    fn bounds(&self, spec: &PartitionSpec) -> Bounds {
        debug_assert!(
            !self.segments.is_empty(),
            "a partition has at least one segment"
        );
        let first_base = self.segments.first().map_or(0, |first| first.base_offset);
        let log_start = spec
            .log_start
            .max(first_base)
            .min(self.log_end.max(first_base));
        let recovery_point = if spec.clean && !self.was_repaired {
            self.log_end
        } else {
            spec.recovery_point.min(self.log_end)
        };
        let first_unstable = self.producers.first_unstable_offset();
        Bounds::new(log_start, self.log_end, recovery_point, first_unstable)
    }

    /// Returns the state with which the writer of the partition starts.
    fn writer(&mut self, settings: Arc<TopicSettings>, opened: Timestamp) -> Writer {
        let Some(active) = self.segments.last().map(Arc::clone) else {
            unreachable!("a partition has at least one segment")
        };
        let epochs = std::mem::take(&mut self.epochs);
        Writer {
            active,
            settings,
            leader_epoch: epochs.latest().unwrap_or(0).max(self.last_epoch).max(0),
            epochs,
            had_producers: self.had_producers,
            first_timestamp: None,
            opened,
            jitter_ms: 0,
            unflushed: 0,
            seen: None,
            producers: std::mem::take(&mut self.producers),
        }
    }
}

/// Puts the parts of a partition together.
pub(in crate::partition) fn assemble(
    context: &Arc<PartitionContext>,
    spec: &PartitionSpec,
    home: SegmentHome,
    mut parts: Parts,
) -> PartitionCore {
    let bounds = parts.bounds(spec);
    let settings = context.settings.share(spec.settings.clone());
    let writer = parts.writer(Arc::clone(&settings), context.clock.now());
    let topic_id = spec
        .topic_id
        .or_else(|| stored_topic_id(&*context.storage, &spec.dir));
    let durability = spec.settings.durability.unwrap_or(context.durability);
    PartitionCore {
        context: Arc::clone(context),
        number: context.numbers.next(),
        origin: Arc::new(Origin {
            id: spec.id.clone(),
            dir: Arc::clone(&home.dir),
            max_decompressed_bytes: context.max_decompressed_bytes,
        }),
        home,
        topic_id,
        settings: RwLock::new(settings),
        is_synced_topic: AtomicBool::new(durability == Durability::Synced),
        is_dense: AtomicBool::new(spec.is_dense),
        health: Health::new(spec.id.clone(), parts.damage),
        bounds,
        segments: SegmentList::new(parts.segments),
        writer: FairMutex::new(writer),
        commit: GroupCommit::at(parts.log_end),
        appended_bytes: AtomicU64::new(0),
        cuts: Cuts::default(),
        reopening: Reopening::default(),
        compacted: Compacted::default(),
        waiters: WaitList::default(),
        recovery: None,
        cleaning: Mutex::new(()),
        replacing: Mutex::new(()),
        flush: Mutex::new(()),
        is_touched: AtomicBool::new(parts.was_repaired),
        has_new_digests: AtomicBool::new(parts.was_repaired),
        leaving: Leaving::default(),
        trash: Trash::default(),
    }
}
