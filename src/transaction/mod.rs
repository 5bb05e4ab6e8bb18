//! Transactions: records in several partitions and the positions of a group change together or not
//! at all.
//!
//! | file | content, from the bottom up |
//! | --- | --- |
//! | [`state_topic`] | the state of every transactional id, as records of `__transaction_state` |
//! | [`lanes`] | the records that a transaction holds in memory, by partition |
//! | [`entry`] | one transactional id: its state, its holder, and the markers that are due |
//! | [`service`] | the transactional ids of a log: finding and fencing them, and their upkeep |
//! | [`stage`] | a step that threads take together |
//! | [`prepare`] | the steps up to the commit point, which commits take together |
//! | [`commit`] | the steps of a commit and of an abort |
//! | [`recovery`] | ends the transactions that a crash left open |
//! | [`producer`] | the handles: a producer, and its transaction |
//! | [`admin`] | descriptions of transactions, and aborting one from outside |
//!
//! # The commit point
//!
//! A transaction is held in memory until it commits. A commit has five steps:
//!
//! 1. The records are appended to their partitions, and the positions to `__consumer_offsets`. All
//!    of them are in transactional batches, which readers of committed records do not see.
//! 2. These partitions are synced.
//! 3. The record `PrepareCommit` is appended to `__transaction_state` and synced. **From here on
//!    the transaction is committed.**
//! 4. A COMMIT marker is appended to each partition, and the records become visible.
//! 5. The record `CompleteCommit` follows later: when the log is maintained or closed.
//!
//! After a crash, the last record of an id decides. After `PrepareCommit` the missing markers are
//! appended. Anything else that our own producers left open is aborted.
//!
//! Three rules make that right after a power cut too, which can keep later writes and lose earlier
//! ones in other files:
//!
//! * Everything that `PrepareCommit` promises is on the device before it (step 2).
//! * The markers of a transaction are on the device before the next record of its id. So step 2 of
//!   the next commit syncs them as well.
//! * `PrepareCommit` states the end of each partition. An open transaction that begins at or after
//!   this end belongs to the next transaction of the id, which is not committed.
//!
//! # Commits together
//!
//! Commits of several ids at the same time take the steps 2 and 3 together. One of their threads
//! leads: it syncs the partitions of all of them, appends their records of `PrepareCommit` as one
//! batch, and syncs that. The others sleep until both steps are done. Each thread holds the lock of
//! its own id in the meantime, and a leader takes no lock but those of partitions.
//!
//! Commits that sync the same partitions wait in one line. While a leader does both steps for the
//! line, no other leader begins. Commits with other partitions have a line of their own, and meet
//! only at step 3.
//!
//! # Locks
//!
//! The lock of a transactional id is held for the whole of a commit, so it comes before every lock
//! of groups and partitions. A thread that copies the log waits for the commits in progress before
//! it pauses the partitions. Appends that may delete old segments come before the locks of the
//! groups are taken, because deletions take those as well.

mod admin;
mod commit;
mod entry;
mod lanes;
mod prepare;
mod producer;
mod recovery;
mod service;
mod stage;
mod state_topic;

pub use admin::{OpenTransactionDescription, TransactionDescription, TransactionStatus};
pub use producer::{Transaction, TransactionalProducer};
pub use recovery::{RecoveredOutcome, RecoveredTransaction};
pub(crate) use service::TransactionService;
