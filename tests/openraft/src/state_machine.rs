//! A state machine in memory: the values of all entries that were applied.

use std::sync::Arc;

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{
    BasicNode, Entry, EntryPayload, LogId, OptionalSend, RaftLogId, RaftSnapshotBuilder,
    SnapshotMeta, StorageError, StoredMembership,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::Types;

type NodeId = u64;
type Stored<T> = Result<T, StorageError<NodeId>>;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Applied {
    last: Option<LogId<NodeId>>,
    membership: StoredMembership<NodeId, BasicNode>,
    values: Vec<String>,
}

#[derive(Debug, Default)]
struct Inner {
    applied: Applied,
    snapshot: Option<Snapshot<Types>>,
    /// The number of snapshots that were built.
    built: u64,
}

/// A state machine in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StateMachine(Arc<Mutex<Inner>>);

impl StateMachine {
    /// Returns the values that were applied.
    pub async fn values(&self) -> Vec<String> {
        self.0.lock().await.applied.values.clone()
    }
}

impl RaftSnapshotBuilder<Types> for StateMachine {
    async fn build_snapshot(&mut self) -> Stored<Snapshot<Types>> {
        let mut inner = self.0.lock().await;
        inner.built += 1;
        let snapshot = Snapshot {
            meta: SnapshotMeta {
                last_log_id: inner.applied.last,
                last_membership: inner.applied.membership.clone(),
                snapshot_id: inner.built.to_string(),
            },
            snapshot: Box::new(crate::encoded(&inner.applied)),
        };
        inner.snapshot = Some(snapshot.clone());
        Ok(snapshot)
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Stored<(Option<LogId<NodeId>>, StoredMembership<NodeId, BasicNode>)> {
        let applied = self.0.lock().await.applied.clone();
        Ok((applied.last, applied.membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Stored<Vec<()>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let applied = &mut self.0.lock().await.applied;
        let mut replies = Vec::new();
        for entry in entries {
            applied.last = Some(*entry.get_log_id());
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(value) => applied.values.push(value),
                EntryPayload::Membership(membership) => {
                    applied.membership = StoredMembership::new(applied.last, membership);
                }
            }
            replies.push(());
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Stored<Box<Vec<u8>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<NodeId, BasicNode>,
        snapshot: Box<Vec<u8>>,
    ) -> Stored<()> {
        let mut inner = self.0.lock().await;
        inner.applied = crate::decoded(&snapshot);
        inner.snapshot = Some(Snapshot {
            meta: meta.clone(),
            snapshot,
        });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Stored<Option<Snapshot<Types>>> {
        Ok(self.0.lock().await.snapshot.clone())
    }
}
