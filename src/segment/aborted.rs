//! The aborted transactions whose marker is in a segment.
//!
//! Kafka's `.txnindex` has no checksum, and a missing or wrong entry would change the records that
//! readers of committed data get. So a segment trusts the file only if it has the digest that
//! annals noted for it. Otherwise the partition walks the batches and sets the result in the
//! segment, once for as long as the segment is open.
//!
//! Markers that are appended later are kept in memory, and are added to the file with the other
//! indexes: by a flush, a roll or a close.

use std::io;
use std::sync::OnceLock;

use super::{Digest, Segment, digest};
use crate::format::file_name;
use crate::format::index_entry::{AbortedTransaction, TRANSACTION_ENTRY_BYTES};
use crate::storage::{IfExists, read_file, remove_if_exists};
use crate::sync::Mutex;

/// The largest transaction index that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The aborted transactions that a segment knows.
#[derive(Debug)]
pub(super) struct Aborted {
    /// The end of the segment when it was opened or created.
    opened_end: u64,
    /// The transactions whose marker is below `opened_end`, once they are known.
    earlier: OnceLock<Vec<AbortedTransaction>>,
    /// The transactions whose marker was published later.
    later: Mutex<Later>,
}

/// Transactions whose marker was published after the segment was opened.
#[derive(Debug, Default)]
struct Later {
    transactions: Vec<AbortedTransaction>,
    /// The number of them that the file has, at its end. Changed only under `index_files`.
    stored: usize,
}

impl Aborted {
    pub(super) fn new(is_empty: bool, opened_end: u64) -> Self {
        let earlier = if is_empty {
            OnceLock::from(Vec::new())
        } else {
            OnceLock::new()
        };
        Self {
            opened_end,
            earlier,
            later: Mutex::default(),
        }
    }
}

impl Segment {
    /// Returns the end of the segment when it was opened. A walk for aborted transactions ends
    /// here.
    pub(crate) fn opened_end(&self) -> u64 {
        self.aborted.opened_end
    }

    /// Returns all aborted transactions whose marker is in the segment, in the order of the
    /// markers. Returns `None` if they are not known yet.
    pub(crate) fn known_aborted(&self) -> Option<Vec<AbortedTransaction>> {
        let earlier = self.aborted.earlier.get()?;
        Some(
            earlier
                .iter()
                .chain(&self.aborted.later.lock().transactions)
                .copied()
                .collect(),
        )
    }

    /// Sets the transactions whose marker was in the segment when it was opened.
    pub(crate) fn set_aborted(&self, transactions: Vec<AbortedTransaction>) {
        self.aborted.earlier.get_or_init(|| transactions);
    }

    /// Adds the transactions whose marker is about to be published.
    pub(crate) fn add_aborted(&self, transactions: impl IntoIterator<Item = AbortedTransaction>) {
        debug_assert!(!self.is_sealed(), "a sealed segment gets no more markers");
        self.aborted.later.lock().transactions.extend(transactions);
    }

    /// Adds the transactions that the transaction index does not have yet. The caller holds
    /// `index_files`.
    pub(super) fn store_aborted(&self, sync: bool) -> io::Result<()> {
        debug_assert!(self.index_files.is_locked(), "one thread writes at a time");
        let (later, stored) = {
            let later = self.aborted.later.lock();
            if later.stored == later.transactions.len() {
                return Ok(());
            }
            (later.transactions.clone(), later.stored)
        };
        let earlier = self.aborted.earlier.get();
        let mut bytes = match earlier {
            Some(earlier) => encode(earlier),
            // The part of the file that no digest proves stays as it is.
            None => self.earlier_entries(stored)?.unwrap_or_default(),
        };
        bytes.extend(encode(&later));
        self.replace_index(&self.path(file_name::TRANSACTION_INDEX), &bytes, sync)?;
        let [_, _, transactions] = &mut *self.digests.lock();
        *transactions = earlier.map(|_| digest(&bytes));
        self.aborted.later.lock().stored = later.len();
        Ok(())
    }

    /// Returns the entries of the file before the last `stored` ones.
    fn earlier_entries(&self, stored: usize) -> io::Result<Option<Vec<u8>>> {
        Ok(self.transaction_index()?.map(|mut bytes| {
            bytes.truncate(bytes.len().saturating_sub(stored * TRANSACTION_ENTRY_BYTES));
            bytes
        }))
    }

    /// Returns the transactions in the transaction index, if its digest proves them.
    pub(crate) fn proven_aborted(&self) -> io::Result<Option<Vec<AbortedTransaction>>> {
        let [_, _, Some(expected)] = *self.digests.lock() else {
            return Ok(None);
        };
        Ok(self
            .transaction_index()?
            .filter(|bytes| digest(bytes) == expected)
            .and_then(|bytes| decode(&bytes)))
    }

    /// Returns the transactions in the transaction index whose marker was in the segment when it
    /// was opened, if the index can be read. A missing index has no entries.
    pub(crate) fn stored_aborted(&self) -> io::Result<Option<Vec<AbortedTransaction>>> {
        let stored = self.aborted.later.lock().stored;
        Ok(self
            .earlier_entries(stored)?
            .and_then(|bytes| decode(&bytes)))
    }

    fn transaction_index(&self) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(file_name::TRANSACTION_INDEX);
        match read_file(self.home.storage(), &path, MAX_FILE_BYTES).if_exists() {
            Ok(bytes) => Ok(Some(bytes.unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a transaction index that differs from the batches, if files may be written. The
    /// digest of the index is known afterwards. A write that fails, as on a full disk, is not an
    /// error.
    pub(crate) fn correct_transaction_index(
        &self,
        transactions: &[AbortedTransaction],
        is_right: bool,
    ) {
        let Some(may_write) = self.index_files.try_lock() else {
            return;
        };
        let mut bytes = encode(transactions);
        let later = self.aborted.later.lock();
        bytes.extend(encode(
            later.transactions.get(..later.stored).unwrap_or_default(),
        ));
        drop(later);
        if !*may_write || !self.is_named() {
            return;
        }
        if !is_right && !self.home.read_only {
            let path = self.path(file_name::TRANSACTION_INDEX);
            let storage = self.home.storage();
            let written = if bytes.is_empty() {
                remove_if_exists(storage, &path).map(drop)
            } else {
                self.replace_index(&path, &bytes, true)
            };
            if written.is_err() {
                return;
            }
        }
        let [_, _, transactions] = &mut *self.digests.lock();
        *transactions = Some(digest(&bytes));
    }

    /// Returns the digest of the transaction index of a segment that is being sealed, if its
    /// transactions are known.
    pub(super) fn transactions_digest(&self) -> Option<Digest> {
        self.known_aborted()
            .map(|transactions| digest(&encode(&transactions)))
    }
}

pub(super) fn encode(transactions: &[AbortedTransaction]) -> Vec<u8> {
    transactions
        .iter()
        .flat_map(|transaction| transaction.encode())
        .collect()
}

/// Decodes a transaction index. Returns `None` if it is malformed or ends within an entry.
fn decode(bytes: &[u8]) -> Option<Vec<AbortedTransaction>> {
    AbortedTransaction::decode_all(bytes)
        .ok()
        .filter(|_| bytes.len().is_multiple_of(TRANSACTION_ENTRY_BYTES))
}
