//! Kafka's log as a library: the same files, the same meaning, no broker.
//!
//! A program opens a directory and has topics, partitions and consumer groups behind a synchronous
//! API. What it writes are the files of a Kafka broker, byte for byte in Kafka's format, so that a
//! broker can take them over, and a directory that a broker wrote can be read here.
//!
//! # Quick start
//!
//! ```no_run
//! use annals::{Log, Record, TopicConfig};
//! use std::time::Duration;
//!
//! # fn main() -> annals::Result<()> {
//! let log = Log::open("data")?; // creates the directory, or recovers what a crash left; locks it
//! let orders = log.open_topic("orders", 4, TopicConfig::new())?; // the stored topic as it is, or else a new one
//! orders.append(Record::new("paid").key("order-42"))?; // records of one key stay in order
//!
//! let mut billing = log.consumer_group("billing")?.join("orders")?;
//! for record in &billing.poll(Duration::from_secs(1))? {
//!     println!("{}", record?.text());
//! }
//! billing.commit()?; // the next start goes on behind these
//! log.close()
//! # }
//! ```
//!
//! It runs any number of times. In a test, [`Log::in_memory`] is the same engine and touches no
//! file.
//!
//! # In five minutes
//!
//! The pieces of code that follow, pasted one after the other into `main.rs`, are one program.
//!
//! ## Topics and partitions
//!
//! A topic is a name for a number of partitions. A partition is what is called a log elsewhere:
//! records in the order in which they were appended, each with its *offset*, counted from 0.
//! Offsets are never reused, and nothing is ever changed in place.
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
//! The order of records holds within a partition, so what must stay in order gets one key:
//! [`Topic::append`] sends all records of a key to one partition, the one that Kafka's clients
//! would choose. A program that wants one order of everything, such as a write-ahead log, opens a
//! single partition without a log around it: [`Partition::open`].
//!
//! ## Appending
//!
//! A [`Record`] has a value and, where wanted, a key, headers and a time. Anything that is bytes
//! will do for one: `append("paid")`, `append((key, value))`. A batch is written whole or not at
//! all, and is one call to the system:
//!
//! ```
//! # use annals::{Log, Record, TopicConfig};
//! # fn main() -> annals::Result<()> {
//! # let log = Log::in_memory();
//! # let orders = log.open_topic("orders", 2, TopicConfig::new())?;
//! let written = orders.append(Record::new("paid").key("order-42").header("source", "web"))?;
//! let partition = orders.partition(written.partition)?;
//! assert_eq!(partition.append_batch(["packed", "sent"])?, 1..3);
//! # Ok(())
//! # }
//! ```
//!
//! Many small records go faster through a [`Producer`], which sends them in batches from any number
//! of threads. A [`Delivery`] tells where a record came to stand; one that is dropped costs
//! nothing, and the failure comes out of the next call.
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
//! A [`Reader`] goes through a range of offsets: `..` is all there is, `n..` goes on where somebody
//! stopped. It gives whole [`Batch`]es, each checked against its checksum, or, with
//! [`Reader::next_record`], record by record. A [`RecordView`] borrows from the batch, which for
//! sealed segments is the mapped file: nothing is copied.
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
//! let since = partition.offset_for(Timestamp::from_millis(1_700_000_000_000))?; // the first at that time or later
//! assert_eq!(since.map(|found| found.offset), Some(0));
//! # Ok(())
//! # }
//! ```
//!
//! Readers never wait for writers, and any number of them read at once.
//!
//! ## Following
//!
//! [`Partition::follow`] reads in the same way and then waits for more. Waiting is ended from any
//! thread by its [`Waker`], which gives `None`, or by [`Log::close`], which gives
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
//! ## Groups
//!
//! A reader's place is its own affair. A [`ConsumerGroup`] keeps it in the log: members share the
//! partitions of the topics that they [`join`](ConsumerGroup::join), and what they
//! [`commit`](Consumer::commit) is where the group goes on after a restart. Commit after the work
//! is done, and every record is worked on at least once.
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
//!     println!("{}-{} {}", record.topic(), record.partition(), record.text());
//!     member.commit_record(&record)?;
//! }
//! assert_eq!(member.lag(), Some(0));
//! # Ok(())
//! # }
//! ```
//!
//! When members come and go, a poll says which partitions are given up and which are new
//! ([`Records::rebalance`]). How they are shared out is up to an [`Assignor`]. Groups live in one
//! process; their positions are Kafka's `__consumer_offsets`, and can be seen and changed from
//! outside: [`ConsumerGroup::describe`], [`ConsumerGroup::reset`]. A reader that needs neither a
//! group nor positions is made by [`Log::assign`].
//!
//! ## Durability
//!
//! What an acknowledged append survives is said by [`Durability`]: of the log
//! ([`LogConfig::durability`]), of a topic ([`TopicConfig::durability`]), or of a handle
//! ([`Topic::with_durability`]), whichever asks for most.
//!
//! | | process killed | machine loses power |
//! | --- | --- | --- |
//! | [`Durability::Os`], the default | nothing acknowledged is lost | what was not flushed yet may be lost |
//! | [`Durability::Synced`] | nothing acknowledged is lost | nothing acknowledged is lost |
//!
//! Flushing is done every [`flush_interval`](LogConfig::flush_interval), a second by default, and
//! by [`Log::flush`]. What a power cut leaves of a partition is a prefix of it.
//!
//! ```
//! # use annals::{Durability, Log, TopicConfig};
//! # fn main() -> annals::Result<()> {
//! # let log = Log::in_memory();
//! # let orders = log.open_topic("orders", 2, TopicConfig::new())?;
//! orders.with_durability(Durability::Synced).append("paid for dearly")?; // on the device when this returns
//! log.flush()?; // and now everything is
//! # Ok(())
//! # }
//! ```
//!
//! Appends from many threads that ask for `Synced` share one sync. In a topic that is `Synced`
//! itself, readers see a record once it is on the device, so that nobody acts on one that a power
//! cut takes back.
//!
//! ## Retention
//!
//! Records go by age ([`TopicConfig::retention`], 7 days by default), by size
//! ([`TopicConfig::retention_bytes`], [`LogConfig::max_bytes`]), or when told to
//! ([`Partition::delete_records_before`]). Whole segments are deleted, the oldest first, from a
//! thread in the background or by [`Log::maintain`]; batches that somebody holds stay readable.
//!
//! ```
//! # use annals::{Log, TopicConfig};
//! # use std::time::Duration;
//! # fn main() -> annals::Result<()> {
//! # let log = Log::in_memory();
//! let day = Duration::from_secs(24 * 60 * 60);
//! log.open_topic("clicks", 1, TopicConfig::new().retention(day).segment_age(day / 24))?;
//! log.open_topic("audit", 1, TopicConfig::new().retention(None))?; // for ever
//! assert_eq!(TopicConfig::new().set("retention.ms", "86400000")?, TopicConfig::new().retention(day)); // as Kafka writes it
//! # Ok(())
//! # }
//! ```
//!
//! ## Errors
//!
//! There is one [`Error`], with a variant for each thing that a caller would do differently; its
//! text says what was tried, on what, and what to do. A failed append left nothing in the log,
//! except where a sync failed ([`Error::SyncFailed`]): then it is unknown, and the partition
//! refuses writes until it is opened again. A program that has a limit on the size of its files
//! (`ulimit -f`) must ignore `SIGXFSZ` to be told so by an error. Damage is an error that says
//! which offsets are lost, and reading goes on behind them:
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
//!             eprintln!("{damage}"); // which file, where in it, which offsets
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
//! 1. The files are Kafka's. Directories that brokers wrote can be read, message formats v0, v1 and
//!    v2 in all four codecs, and be appended to; directories that annals wrote can be adopted by a
//!    broker.
//! 2. An acknowledgement says what it survives; see [durability](#durability).
//! 3. Damage is reported, never cut away in silence. An end that was torn by a crash is cut, kept
//!    beside in a `.torn` file and reported by [`Log::recovery`]; damage in what was flushed is
//!    [`Error::Corrupt`], and what lies behind it stays readable. A batch whose checksum is right
//!    is never cut, however odd its header looks.
//! 4. Readers never wait for writers.
//! 5. The log is the truth. An index that is missing or wrong is built anew from the records.
//! 6. Bad input is an error before anything is written, and bytes from a disk never lead to a
//!    panic.
//! 7. No runtime, no output, no environment variables, no global state; one thread for each
//!    [`Log`], and one more once a [`Producer`] lingers. Both can be done without
//!    ([`LogConfig::maintenance_interval`], [`ProducerConfig::linger`]) and do nothing that
//!    [`Log::maintain`] and [`Log::flush`] do not do.
//!
//! Not promised: replication, access over a network, more than one process that writes. Not there
//! yet: transactions.
//!
//! # A map
//!
//! Each floor uses only those below it.
//!
//! | floor | what is there |
//! | --- | --- |
//! | `log` | [`Log`]: the open directory, its topics on disk, checkpoints, recovery, the background thread |
//! | `group` | [`ConsumerGroup`], [`Consumer`]: who reads what, and how far they are |
//! | `producer` | [`Producer`]: many small sends become few large writes |
//! | `topic` | [`Topic`]: partitions under a name, and where a key goes |
//! | `retention`, `compaction` | what is due to be deleted; what later records replace |
//! | `partition` | [`Partition`], [`Reader`], [`Batch`]: segments in order, appending, reading, waiting, recovery |
//! | `segment` | the files of one base offset: records, offset index, time index |
//! | `format` | every byte of every file, as values; no I/O. [`Record`] |
//! | `storage` | the disk, the only place that knows of one: [`Disk`], [`MemoryDisk`] |
//! | `config`, `error`, `clock` | [`LogConfig`], [`TopicConfig`], [`Error`], [`Clock`] |
//!
//! # Features
//!
//! `gzip`, `snappy`, `lz4` and `zstd`, all on by default, are Kafka's codecs ([`Compression`]).
//! Without one of them, batches that it compressed cannot be read, which is [`Error::Unsupported`].
//!
//! `simulation`, off by default, has `SimulatedDisk`, which loses its power, fills up and fails:
//! for tests.

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

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use config::{
    CleanupPolicy, Compression, DamagedOffsets, Durability, LogConfig, ReadMode, TimestampType,
    TopicConfig,
};
pub use error::{Corruption, Error, OversizedBatch, Result};
pub use format::record::{Header, Headers, IntoBytes, Record};
pub use group::{
    Assign, Assignor, Consumer, ConsumerConfig, ConsumerGroup, GroupDescription, GroupPosition,
    GroupSpec, GroupState, MemberDescription, MemberSpec, OffsetAndMetadata, OffsetReset,
    Rebalance, Records, Seek, Subscription,
};
pub use log::{Log, LogBuilder, LoweredCommit, Recovery};
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

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
