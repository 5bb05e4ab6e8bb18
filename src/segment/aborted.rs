//! The aborted transactions whose marker is in a segment.
//!
//! Kafka's `.txnindex` has no checksum, and an entry that is missing or wrong changes what readers
//! of committed data get. So a segment takes its word only where the file has the digest that
//! annals noted for it. Otherwise the partition walks the batches and tells the segment what it
//! found, once for as long as the segment is open.

use std::io;
use std::sync::OnceLock;

use parking_lot::Mutex;

use super::{Digest, Segment, digest};
use crate::format::file_name;
use crate::format::index_entry::{AbortedTransaction, TRANSACTION_ENTRY_BYTES};
use crate::storage::{read_file, remove_if_exists};

/// Largest transaction index that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// What a segment knows of aborted transactions.
#[derive(Debug)]
pub(super) struct Aborted {
    /// Where the segment ended when it was opened or created.
    opened_end: u64,
    /// Those whose marker is below `opened_end`, once they are known.
    earlier: OnceLock<Vec<AbortedTransaction>>,
    /// Those whose marker was published since.
    later: Mutex<Vec<AbortedTransaction>>,
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
    /// Where the segment ended when it was opened: a walk for aborted transactions goes as far.
    pub(crate) fn opened_end(&self) -> u64 {
        self.aborted.opened_end
    }

    /// All aborted transactions whose marker is in the segment, if they are known, by the offset of
    /// the marker.
    pub(crate) fn known_aborted(&self) -> Option<Vec<AbortedTransaction>> {
        let earlier = self.aborted.earlier.get()?;
        Some(
            earlier
                .iter()
                .chain(&*self.aborted.later.lock())
                .copied()
                .collect(),
        )
    }

    /// Notes those whose marker was there when the segment was opened.
    pub(crate) fn set_aborted(&self, transactions: Vec<AbortedTransaction>) {
        self.aborted.earlier.get_or_init(|| transactions);
    }

    /// Notes those whose marker is about to be published.
    pub(crate) fn add_aborted(&self, transactions: Vec<AbortedTransaction>) {
        self.aborted.later.lock().extend(transactions);
    }

    /// What the transaction index says, if its digest proves it.
    pub(crate) fn proven_aborted(&self) -> io::Result<Option<Vec<AbortedTransaction>>> {
        let [_, _, Some(expected)] = *self.digests.lock() else {
            return Ok(None);
        };
        Ok(self
            .transaction_index()?
            .filter(|bytes| digest(bytes) == expected)
            .and_then(|bytes| decode(&bytes)))
    }

    /// What the transaction index says, if it can be read. One that is missing has no entries.
    pub(crate) fn stored_aborted(&self) -> io::Result<Option<Vec<AbortedTransaction>>> {
        Ok(self.transaction_index()?.and_then(|bytes| decode(&bytes)))
    }

    fn transaction_index(&self) -> io::Result<Option<Vec<u8>>> {
        match read_file(
            &*self.home.storage,
            &self.path(file_name::TRANSACTION_INDEX),
            MAX_FILE_BYTES,
        ) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Vec::new())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a transaction index that does not say what the batches do, if files may be written;
    /// it does no harm that it cannot be written (a full disk). From now on its digest is known.
    pub(crate) fn correct_transaction_index(
        &self,
        transactions: &[AbortedTransaction],
        is_right: bool,
    ) {
        let bytes = encode(transactions);
        let Some(may_write) = self.index_files.try_lock() else {
            return;
        };
        if !*may_write || !self.is_named() {
            return;
        }
        if !is_right && !self.home.read_only {
            let path = self.path(file_name::TRANSACTION_INDEX);
            let storage = &*self.home.storage;
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

    /// The digest of the transaction index of a segment that is being sealed, if it is known what
    /// the index says.
    pub(super) fn transactions_digest(&self) -> Option<Digest> {
        self.known_aborted()
            .map(|transactions| digest(&encode(&transactions)))
    }
}

fn encode(transactions: &[AbortedTransaction]) -> Vec<u8> {
    transactions
        .iter()
        .flat_map(|transaction| transaction.encode())
        .collect()
}

/// An index is written entry by entry: one with a part of an entry was cut.
fn decode(bytes: &[u8]) -> Option<Vec<AbortedTransaction>> {
    AbortedTransaction::decode_all(bytes)
        .ok()
        .filter(|_| bytes.len().is_multiple_of(TRANSACTION_ENTRY_BYTES))
}
