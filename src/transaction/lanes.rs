//! The records that a transaction holds in memory, by partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::config::{Compression, TopicSettings};
use crate::error::{Error, Result};
use crate::format::batch::{BatchBuilder, HEADER_BYTES, ProducerStamp, sequence_after};
use crate::format::record::{self, Record};
use crate::partition::{
    Appended, EncodedBatch, GrowingBatch, PartitionCore, check_record, check_size,
};
use crate::producer::ProducerConfig;
use crate::topic::{Sticky, TopicCore};

/// The id and the epoch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// The partitions that a producer has written to, and what its transaction holds for them.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    all: Vec<Lane>,
    /// The places of the lanes, by the number of the partition.
    by_number: BTreeMap<u32, usize>,
    /// The lanes of records without a key, sorted by the number of the topic.
    sticky: Vec<StickyLane>,
    /// The lanes that the transaction has used.
    used: Vec<usize>,
    held_bytes: u64,
}

#[derive(Debug)]
struct StickyLane {
    topic: u32,
    rule: Sticky,
    lane: Option<usize>,
    /// Bytes that went to the lane since it was chosen.
    bytes: u64,
}

/// One partition of a producer.
#[derive(Debug)]
pub(super) struct Lane {
    core: Arc<PartitionCore>,
    /// The sequence number of the next record that is written.
    next_sequence: i32,
    is_used: bool,
    held: Vec<Held>,
    open: Option<GrowingBatch>,
    /// The last batch of the epoch that was written, in any transaction.
    last: Option<Appended>,
    /// Whether the transaction has written that batch.
    has_written: bool,
}

/// A batch that is complete and was not written yet. It is encoded when it is written, because only
/// then its sequence number is known.
#[derive(Debug)]
enum Held {
    Built(BatchBuilder, Arc<TopicSettings>),
    /// A large record, which was compressed to find out whether the topic accepts it.
    Encoded(EncodedBatch),
}

impl Lanes {
    /// Returns how many bytes the transaction holds in memory.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Returns whether the transaction has records, in memory or in the log.
    pub(super) fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// Adds a record for a topic, at the time `now`. A key selects its partition.
    pub(super) fn push(
        &mut self,
        topic: &TopicCore,
        record: &Record<'_>,
        config: &ProducerConfig,
        now: Timestamp,
    ) -> Result<()> {
        topic.check_usable()?;
        if let Some(key) = &record.key {
            let lane = self.lane_of(&topic.partition_of_key(key)?);
            return self.push_to(lane, record, config, now).map(drop);
        }
        let place = self.sticky_of(topic.number());
        let lane = match self.sticky.get(place).and_then(|sticky| sticky.lane) {
            Some(lane) => lane,
            None => self.choose_lane(place, topic, config)?,
        };
        let added = self.push_to(lane, record, config, now)?;
        if let Some(sticky) = self.sticky.get_mut(place) {
            sticky.bytes += added;
            if sticky.bytes >= u64::from(config.batch_bytes()) {
                sticky.lane = None;
            }
        }
        Ok(())
    }

    /// Returns the place of a topic's sticky lane.
    fn sticky_of(&mut self, topic: u32) -> usize {
        let found = self
            .sticky
            .binary_search_by_key(&topic, |known| known.topic);
        found.unwrap_or_else(|place| {
            let sticky = StickyLane {
                topic,
                rule: Sticky::new(topic.into()),
                lane: None,
                bytes: 0,
            };
            self.sticky.insert(place, sticky);
            place
        })
    }

    /// Selects the lane of the next records without a key.
    fn choose_lane(
        &mut self,
        place: usize,
        topic: &TopicCore,
        config: &ProducerConfig,
    ) -> Result<usize> {
        let Some(sticky) = self.sticky.get_mut(place) else {
            unreachable!("the place was found just now")
        };
        let bytes = std::mem::take(&mut sticky.bytes);
        let core = topic.partition_of_batch(&sticky.rule, bytes, config.batch_bytes().into())?;
        let lane = self.lane_of(&core);
        if let Some(sticky) = self.sticky.get_mut(place) {
            sticky.lane = Some(lane);
        }
        Ok(lane)
    }

    /// Returns the place of a partition's lane.
    pub(super) fn lane_of(&mut self, core: &Arc<PartitionCore>) -> usize {
        let all = &mut self.all;
        *self.by_number.entry(core.number()).or_insert_with(|| {
            all.push(Lane::new(Arc::clone(core)));
            all.len() - 1
        })
    }

    /// Adds a record to a lane at the time `now`, and returns how many bytes it takes in memory.
    pub(super) fn push_to(
        &mut self,
        place: usize,
        record: &Record<'_>,
        config: &ProducerConfig,
        now: Timestamp,
    ) -> Result<u64> {
        let Some(lane) = self.all.get_mut(place) else {
            unreachable!("lanes are never removed during a transaction")
        };
        let added = lane.push(record, config, now)?;
        self.held_bytes += added;
        self.note_used(place);
        Ok(added)
    }

    fn note_used(&mut self, place: usize) {
        if let Some(lane) = self.all.get_mut(place)
            && !std::mem::replace(&mut lane.is_used, true)
        {
            self.used.push(place);
        }
    }

    /// Returns the partitions that the transaction has used.
    pub(super) fn used(&self) -> impl Iterator<Item = &Arc<PartitionCore>> {
        self.used_lanes().map(|lane| &lane.core)
    }

    fn used_lanes(&self) -> impl Iterator<Item = &Lane> {
        self.used.iter().filter_map(|place| self.all.get(*place))
    }

    /// Writes everything that is held. After an error the transaction can only be aborted.
    pub(super) fn write(&mut self, identity: Identity) -> Result<()> {
        for place in &self.used {
            let Some(lane) = self.all.get_mut(*place) else {
                continue;
            };
            lane.write(identity)?;
        }
        self.held_bytes = 0;
        Ok(())
    }

    /// Writes records of the log itself as one batch, and returns their first offset.
    pub(super) fn write_records(
        &mut self,
        core: &Arc<PartitionCore>,
        records: Vec<Record<'_>>,
        identity: Identity,
    ) -> Result<u64> {
        let place = self.lane_of(core);
        self.note_used(place);
        let Some(lane) = self.all.get_mut(place) else {
            unreachable!("the lane was found just now")
        };
        let encoded = core.encode_batch(core.context().clock.now(), records)?;
        let Some(encoded) = encoded else {
            return Ok(core.log_end_offset());
        };
        lane.append(encoded, identity)?;
        Ok(lane.written().map_or(0, |written| written.offsets.start))
    }

    /// Returns the last batch in each partition that the transaction has written to.
    pub(super) fn written(&self) -> impl Iterator<Item = (&Arc<PartitionCore>, &Appended)> {
        self.used_lanes()
            .filter_map(|lane| Some((&lane.core, lane.written()?)))
    }

    /// Forgets the transaction. What it has written stays in the log.
    pub(super) fn end(&mut self) {
        for place in self.used.drain(..) {
            if let Some(lane) = self.all.get_mut(place) {
                lane.end();
            }
        }
        self.held_bytes = 0;
        if self
            .all
            .iter()
            .any(|lane| lane.core.check_readable().is_err())
        {
            // A topic was deleted.
            self.sticky.clear();
            self.all.retain(|lane| lane.core.check_readable().is_ok());
            self.by_number = self
                .all
                .iter()
                .enumerate()
                .map(|(place, lane)| (lane.core.number(), place))
                .collect();
        }
    }

    /// Begins the sequences again, because the producer has a new epoch.
    pub(super) fn begin_epoch(&mut self) {
        for lane in &mut self.all {
            (lane.next_sequence, lane.last) = (0, None);
        }
    }

    /// Returns whether the last batch of a lane was cut off by a truncation. The next sequence does
    /// not follow what is left.
    pub(super) fn were_cut(&self) -> bool {
        self.all.iter().any(|lane| {
            lane.last
                .as_ref()
                .is_some_and(|last| lane.core.is_cut_off(last))
        })
    }
}

impl Lane {
    fn new(core: Arc<PartitionCore>) -> Self {
        Self {
            core,
            next_sequence: 0,
            is_used: false,
            held: Vec::new(),
            open: None,
            last: None,
            has_written: false,
        }
    }

    /// Adds a record at the time `now`, and returns how many bytes it takes in memory.
    fn push(
        &mut self,
        record: &Record<'_>,
        config: &ProducerConfig,
        now: Timestamp,
    ) -> Result<u64> {
        let bound = record::size_bound(record);
        if let Some(full) = self.open.take_if(|open| !open.has_room(bound)) {
            self.held.push(Held::Built(full.builder, full.settings));
        }
        if self.open.is_none() {
            self.core.check_writable()?;
            let limits = self.core.batch_limits(config.batch_bytes(), config.codec());
            let buffer = self.core.context().buffers.take();
            self.open = Some(limits.begin(buffer));
        }
        let Some(open) = &mut self.open else {
            unreachable!("the batch was opened just now")
        };
        let before = open.builder.len_bytes();
        let is_first = open.builder.record_count() == 0;
        if let Err(error) = open.push(record, now.as_millis()) {
            // A batch that refused its first record may hold it.
            self.open.take_if(|_| is_first);
            return Err(error);
        }
        let added = (open.builder.len_bytes() - before) as u64;
        if let Some(open) = self
            .open
            .take_if(|open| is_compressed_record_of_unknown_size(open))
        {
            self.held.push(compressed(open, &self.core)?);
        }
        Ok(added)
    }

    fn write(&mut self, identity: Identity) -> Result<()> {
        let open = self.open.take();
        self.held
            .extend(open.map(|open| Held::Built(open.builder, open.settings)));
        for held in std::mem::take(&mut self.held) {
            let encoded = match held {
                Held::Encoded(encoded) => encoded,
                Held::Built(builder, settings) => self.encode(builder, &settings, identity)?,
            };
            self.append(encoded, identity)?;
        }
        Ok(())
    }

    /// Returns the last batch that the transaction has written.
    fn written(&self) -> Option<&Appended> {
        self.last.as_ref().filter(|_| self.has_written)
    }

    fn stamp(&self, identity: Identity) -> ProducerStamp {
        ProducerStamp {
            id: identity.id,
            epoch: identity.epoch,
            sequence: self.next_sequence,
        }
    }

    fn encode(
        &self,
        mut builder: BatchBuilder,
        settings: &TopicSettings,
        identity: Identity,
    ) -> Result<EncodedBatch> {
        let stamp = self.stamp(identity);
        builder.set_producer(stamp);
        builder.set_transactional();
        let (bytes, header) = builder
            .finish_with_header(settings)
            .map_err(|malformed| self.core.cannot_encode(malformed))?;
        Ok(EncodedBatch {
            bytes,
            header,
            producer: Some(stamp),
        })
    }

    /// Appends a batch in the transaction.
    fn append(&mut self, mut encoded: EncodedBatch, identity: Identity) -> Result<()> {
        if !encoded.header.is_transactional() {
            encoded.set_transactional(self.stamp(identity));
        }
        let appended = self.core.append_encoded(&mut encoded);
        self.core.context().buffers.give_back(encoded.bytes);
        self.last = Some(appended?);
        self.has_written = true;
        self.next_sequence = sequence_after(self.next_sequence, encoded.header.record_count);
        Ok(())
    }

    fn end(&mut self) {
        self.is_used = false;
        self.held.clear();
        self.open = None;
        self.has_written = false;
    }
}

/// Returns whether the batch is one record that the topic accepts only if it becomes smaller.
fn is_compressed_record_of_unknown_size(batch: &GrowingBatch) -> bool {
    batch.builder.record_count() == 1
        && batch.builder.compression() != Compression::None
        && check_size(&batch.settings, batch.builder.len_bytes()).is_err()
}

/// Compresses the batch, and checks that the topic accepts it.
fn compressed(batch: GrowingBatch, core: &PartitionCore) -> Result<Held> {
    let (bytes, header) = batch
        .builder
        .finish_with_header(&batch.settings)
        .map_err(|malformed| core.cannot_encode(malformed))?;
    check_size(&batch.settings, bytes.len())?;
    Ok(Held::Encoded(EncodedBatch {
        bytes,
        header,
        producer: None,
    }))
}

/// Checks whether a topic accepts each of these records at the time `now`, without adding them.
pub(super) fn check_records(
    topic: &TopicCore,
    records: &[Record<'_>],
    config: &ProducerConfig,
    now: Timestamp,
) -> Result<()> {
    topic.check_usable()?;
    let Some(core) = topic.partitions().into_iter().next() else {
        return topic.check_has_partitions();
    };
    let settings = core.settings();
    for (index, record) in records.iter().enumerate() {
        let at_index = |error| match error {
            Error::InvalidRecord { reason, .. } => Error::InvalidRecord { index, reason },
            error => error,
        };
        let bytes = HEADER_BYTES + record::size_bound(record);
        if check_size(&settings, bytes).is_ok() {
            check_record(&settings, record, now.as_millis())
                .map_err(|reason| Error::InvalidRecord { index, reason })?;
        } else {
            // Only its size as a batch shows whether it fits.
            Lane::new(Arc::clone(&core))
                .push(record, config, now)
                .map_err(at_index)?;
        }
    }
    Ok(())
}
