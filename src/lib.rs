//! Kafka's log as a library: the same files, the same meaning, no broker.
//!
//! A program opens a directory and uses topics, partitions and consumer groups through a
//! synchronous API. The files are those of a Kafka broker. A broker can take over topics that
//! annals wrote, and annals reads and appends to a directory that a broker wrote.
//!
//! # Quick start
//!
//! ```no_run
//! use annals::{Log, Record, TopicConfig};
//! use std::time::Duration;
//!
//! # fn main() -> annals::Result<()> {
//! let log = Log::open("data")?; // creates the directory, or recovers it after a crash; locks it
//! let orders = log.open_topic("orders", 4, TopicConfig::new())?; // opens the topic, or creates it
//! orders.append(Record::new("paid").key("order-42"))?; // records of one key stay in order
//!
//! let mut billing = log.consumer_group("billing")?.join("orders")?;
//! for record in &billing.poll(Duration::from_secs(1))? {
//!     println!("{}", record?.text());
//! }
//! billing.commit()?; // the next run resumes after these records
//! log.close()
//! # }
//! ```
//!
//! The program can run any number of times. For tests, [`Log::in_memory`] creates a log that
//! touches no files.
//!
//! The tour below takes five minutes. Two more pages go deeper: [`guide::directory`] shows the
//! files of a log and the bytes of a batch, and [`guide::design`] explains the design.
//!
//! # In five minutes
//!
//! The following pieces of code form one program, if you paste them into `main.rs` in order.
//!
//! ## Topics and partitions
//!
//! A topic is a set of partitions under one name. A partition is a sequence of records in the order
//! of their appends. Its records have *offsets*, which count from 0. A record never changes, and
//! keeps its offset.
//!
//! ```
//! use std::time::Duration;
//!
//! use annals::{Durability, Error, Log, Record, Timestamp, TopicConfig};
//!
//! fn main() -> annals::Result<()> {
//!     let log = Log::in_memory();
//!     let orders = log.open_topic("orders", 2, TopicConfig::new())?;
//!     assert_eq!(orders.partitions().len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! Records keep their order within a partition. [`Topic::append`] chooses the partition by the
//! record's key, as Kafka's clients do, so give the same key to records that must stay in order. A
//! program that needs one sequence and no topics, such as a write-ahead log, opens a single
//! partition with [`Partition::open`].
//!
//! ## Appending
//!
//! A [`Record`] has a value and optionally a key, headers and a timestamp. Everything that converts
//! to bytes is a record too: `append("paid")`, `append((key, value))`. A batch is appended whole or
//! not at all, with one system call.
//!
//! ```
//! # use annals::{Log, Record, TopicConfig};
//! # fn main() -> annals::Result<()> {
//! # let log = Log::in_memory();
//! # let orders = log.open_topic("orders", 2, TopicConfig::new())?;
//! let paid = Record::new("paid").key("order-42");
//! let written = orders.append(paid.header("source", "web"))?;
//! let partition = orders.partition(written.partition)?;
//! assert_eq!(partition.append_batch(["packed", "sent"])?, 1..3);
//! # Ok(())
//! # }
//! ```
//!
//! A [`Producer`] is faster for many small records: it collects the records of any number of
//! threads into batches. A [`Delivery`] reports where a record was written. You may drop it: if the
//! write fails, the producer's next call returns the error.
//!
//! ```
//! # use annals::{Log, Record, TopicConfig};
//! # fn main() -> annals::Result<()> {
//! # let log = Log::in_memory();
//! # let orders = log.open_topic("orders", 2, TopicConfig::new())?;
//! let producer = log.producer()?;
//! let delivery = producer.send(&orders, Record::new("paid").key("order-42"))?;
//! producer.send(&orders, Record::new("sent").key("order-42"))?;
//! println!("offset {}", delivery.wait()?.offset);
//! producer.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! ## Reading
//!
//! A [`Reader`] reads a range of offsets: `..` is the whole partition, `n..` resumes at offset `n`.
//! It returns whole [`Batch`]es whose checksums it has verified, or with [`Reader::next_record`]
//! single records. A [`RecordView`] borrows its bytes from the batch. An uncompressed batch borrows
//! them from the mapped file, so they are not copied. Only the end of the active segment is copied.
//!
//! ```
//! # use annals::{Log, Timestamp, TopicConfig};
//! # fn main() -> annals::Result<()> {
//! # let log = Log::in_memory();
//! # let orders = log.open_topic("orders", 2, TopicConfig::new())?;
//! # let partition = orders.partition(0)?;
//! # partition.append_batch(["paid", "packed", "sent"])?;
//! for batch in partition.read(1..)? {
//!     for record in &batch? {
//!         let record = record?;
//!         println!("{} {}", record.offset(), record.text());
//!     }
//! }
//!
//! let time = Timestamp::from_millis(1_700_000_000_000);
//! let first = partition.offset_for(time)?; // the first record at that time or later
//! assert_eq!(first.map(|found| found.offset), Some(0));
//! # Ok(())
//! # }
//! ```
//!
//! ## Following
//!
//! [`Partition::follow`] reads in the same way and then waits for new records. A [`Waker`] ends the
//! wait from any thread, and the reader returns `None`. [`Log::close`] ends it too, with
//! [`Error::Closed`].
//!
//! ```
//! # use annals::{Log, TopicConfig};
//! # fn main() -> annals::Result<()> {
//! # let log = Log::in_memory();
//! # let orders = log.open_topic("orders", 2, TopicConfig::new())?;
//! # let partition = orders.partition(0)?;
//! let mut reader = partition.follow(partition.log_end_offset()..)?;
//! let following = std::thread::spawn(move || {
//!     let record = reader.next_record()?; // waits
//!     annals::Result::Ok(record.map(|record| record.offset()))
//! });
//! let written = partition.append("delivered")?;
//! assert_eq!(following.join().unwrap()?, Some(written.offset));
//! # Ok(())
//! # }
//! ```
//!
//! ## Consumer groups
//!
//! A reader does not store its position, but a [`ConsumerGroup`] does, in the log. Its members
//! share the partitions of the topics that they [`join`](ConsumerGroup::join). After a restart, the
//! group resumes after the records that it [committed](Consumer::commit). Commit after the work is
//! done, and each record is processed at least once.
//!
//! ```
//! # use annals::{Log, Record, TopicConfig};
//! # use std::time::Duration;
//! # fn main() -> annals::Result<()> {
//! # let log = Log::in_memory();
//! # let orders = log.open_topic("orders", 2, TopicConfig::new())?;
//! # orders.append(Record::new("paid").key("order-42"))?;
//! let group = log.consumer_group("billing")?;
//! let mut member = group.join("orders")?;
//! for record in &member.poll(Duration::from_secs(1))? {
//!     let record = record?;
//!     println!("{}: {}", record.partition(), record.text());
//!     member.commit_record(&record)?;
//! }
//! assert_eq!(member.lag(), Some(0));
//! # Ok(())
//! # }
//! ```
//!
//! When members join or leave, [`Records::rebalance`] reports which partitions a member gained and
//! lost. An [`Assignor`] shares them out. All members of a group are in one process. Positions are
//! stored in Kafka's `__consumer_offsets`; [`ConsumerGroup::describe`] and [`ConsumerGroup::reset`]
//! show and change them. [`Log::assign`] creates a consumer that has no group.
//!
//! ## Durability
//!
//! [`Durability`] names the failures that an acknowledged append survives. The setting of a topic
//! ([`TopicConfig::durability`]) overrides that of the log ([`LogConfig::durability`]), and a
//! handle can raise it ([`Topic::with_durability`]).
//!
//! | acknowledged records | process killed | machine loses power |
//! | --- | --- | --- |
//! | [`Durability::Os`], the default | none are lost | those not flushed yet may be lost |
//! | [`Durability::Synced`] | none are lost | none are lost |
//!
//! Records are flushed every [`flush_interval`](LogConfig::flush_interval), 1 second by default,
//! and by [`Log::flush`]. After a power cut, a partition contains a prefix of its records.
//!
//! ```
//! # use annals::{Durability, Log, TopicConfig};
//! # fn main() -> annals::Result<()> {
//! # let log = Log::in_memory();
//! # let orders = log.open_topic("orders", 2, TopicConfig::new())?;
//! let synced = orders.with_durability(Durability::Synced);
//! synced.append("refunded")?; // on the device when this returns
//! log.flush()?; // and now every record is
//! # Ok(())
//! # }
//! ```
//!
//! Threads that append with `Synced` share their syncs. In a topic whose setting is `Synced`,
//! readers return a record only once it is on the device, so that a program never acts on a record
//! that a power cut takes back.
//!
//! ## Retention and compaction
//!
//! Records are deleted by age ([`TopicConfig::retention`], 7 days by default), by size
//! ([`TopicConfig::retention_bytes`], [`LogConfig::max_bytes`]) or on request
//! ([`Partition::delete_records_before`]). A background thread or [`Log::maintain`] deletes whole
//! segments, the oldest first. A batch that a program holds stays readable. In a topic with
//! [`CleanupPolicy::Compact`], compaction keeps the latest record of each key instead.
//!
//! ```
//! # use annals::{Log, TopicConfig};
//! # use std::time::Duration;
//! # fn main() -> annals::Result<()> {
//! # let log = Log::in_memory();
//! let day = Duration::from_secs(24 * 60 * 60);
//! let a_day = TopicConfig::new().retention(day).segment_age(day / 24);
//! log.open_topic("clicks", 1, a_day)?;
//! let for_ever = TopicConfig::new().set("retention.ms", "-1")?; // Kafka's notation works too
//! log.open_topic("audit", 1, for_ever)?;
//! # Ok(())
//! # }
//! ```
//!
//! ## Errors
//!
//! [`Error`] has one variant for each thing that a caller would do differently. Its text names the
//! action, the file or topic, the reason, and what to do. After a failed append none of its records
//! are in the log, with one exception: after [`Error::SyncFailed`] this is unknown, and the
//! partition refuses writes until it is [re-opened](Partition::reopen). A process with a limit on
//! the size of its files (`ulimit -f`) must ignore `SIGXFSZ` to get an error.
//!
//! [`Error::Corrupt`] and [`Error::BatchTooLarge`] name offsets that cannot be read, because they
//! are damaged or would take too much memory to decompress. Reading can resume after them:
//!
//! ```
//! # use annals::{Error, Log, TopicConfig};
//! # fn main() -> annals::Result<()> {
//! # let log = Log::in_memory();
//! # let partition = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
//! let mut next = 0;
//! while next < partition.high_watermark() {
//!     match partition.read(next..)?.next() {
//!         Some(Ok(batch)) => next = batch.offsets().end,
//!         Some(Err(Error::Corrupt(damage))) => {
//!             eprintln!("{damage}"); // the file, the position in it, the offsets
//!             next = damage.offsets.end;
//!         }
//!         Some(Err(error)) => return Err(error),
//!         None => break,
//!     }
//! }
//! log.close()
//! }
//! ```
//!
//! # Guarantees
//!
//! 1. **The files are Kafka's.** annals reads directories of brokers, in message formats v0, v1 and
//!    v2 with all four codecs, and writes v2. A broker can take over topics that annals wrote.
//! 2. **An acknowledgement states what it survives**: see [durability](#durability).
//! 3. **Damage is reported.** Recovery cuts the torn end of a partition, keeps its bytes in a
//!    `.torn` file and reports it ([`Log::recovery`]). Damage in flushed records is
//!    [`Error::Corrupt`], and records after it stay readable. A batch with a correct checksum
//!    never counts as a torn end.
//! 4. **Readers never wait for writers.**
//! 5. **The records are the truth.** An index that is missing or wrong is rebuilt from them.
//! 6. **Invalid input is refused** before anything is written. Bytes on a disk never cause a panic.
//! 7. **No surprises.** No async runtime, no output, no environment variables, no global state. A
//!    [`Log`] has one thread, and a second one once a [`Producer`] lingers. Both are optional
//!    ([`LogConfig::maintenance_interval`], [`ProducerConfig::linger`]) and only do what
//!    [`Log::maintain`] and [`Log::flush`] do. Opening a log starts a few
//!    short-lived `annals-open` threads ([`LogConfig::recovery_threads`]). A commit over several
//!    partitions syncs each of them in a short-lived `annals-sync` thread.
//!
//! annals has no replication and no network access, and only one process may write.
//!
//! # Features
//!
//! `gzip`, `snappy`, `lz4` and `zstd` are Kafka's codecs ([`Compression`]) and are on by default.
//! Without one of them, its batches cannot be read ([`Error::Unsupported`]).
//!
//! `simulation` is off by default. It adds `SimulatedDisk`, a disk for tests that loses power, runs
//! full and fails.

#![deny(
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods
)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]
#![deny(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::little_endian_bytes
)]
#![warn(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::exhaustive_enums
)]

mod brief;
mod catalog;
mod clock;
mod compaction;
mod config;
mod error;
mod topic_partition;

mod format;
mod group;
pub mod inspect;
mod log;
mod partition;
mod producer;
mod retention;
mod segment;
mod storage;
mod sync;
mod threads;
mod topic;
mod transaction;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use config::{
    CleanupPolicy, Compression, DamagedOffsets, Durability, LogConfig, ReadMode, TimestampType,
    TopicConfig,
};
pub use error::{Corruption, Error, OversizedBatch, Result};
pub use format::record::{Header, Headers, IntoBytes, Record};
pub use group::{
    Assign, Assignor, Consumer, ConsumerConfig, ConsumerGroup, GroupDescription, GroupPosition,
    GroupSpec, GroupState, LoweredCommit, MemberDescription, MemberSpec, OffsetAndMetadata,
    OffsetReset, Rebalance, Records, Seek, Subscription,
};
pub use log::{Log, LogBuilder, Recovery, Snapshot};
pub use partition::{
    Batch, Isolation, Maintenance, OffsetAndTimestamp, OffsetSpec, OwnedRecord, Partition,
    PartitionRecovery, ReadOptions, Reader, RecordIter, RecordMetadata, RecordView, SegmentInfo,
    Waker,
};
pub use producer::{Delivery, Producer, ProducerConfig};
#[cfg(any(test, feature = "simulation"))]
pub use storage::SimulatedDisk;
pub use storage::{Disk, MemoryDisk, Storage};
pub use topic::Topic;
pub use topic_partition::TopicPartition;
pub use transaction::{
    OpenTransactionDescription, RecoveredOutcome, RecoveredTransaction, Transaction,
    TransactionDescription, TransactionStatus, TransactionalProducer,
};

/// Further pages: the directory on disk, and the design. Exists only in the documentation.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("guide/directory.md")]
    pub mod directory {}

    #[doc = include_str!("guide/design.md")]
    pub mod design {}
}

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

/// Compiles the examples of the README as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
