//! openraft's own tests of a log store, and what a restart keeps.

use annals_openraft::state_machine::StateMachine;
use annals_openraft::{LogStore, Types};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::{StoreBuilder, Suite, blank_ent, log_id};
use openraft::{RaftLogId, RaftLogReader, StorageError, StorageIOError, Vote};
use tempfile::TempDir;

/// Returns a directory in memory, where a sync is fast, or an ordinary one if there is none.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

struct Builder;

impl StoreBuilder<Types, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<u64>> {
        let dir = scratch();
        let store = LogStore::open(dir.path().join("raft"));
        let store = store.map_err(|error| StorageIOError::write(&error))?;
        Ok((dir, store, StateMachine::default()))
    }
}

#[test]
fn a_partition_passes_the_storage_tests_of_openraft() {
    Suite::test_all(Builder).expect("all tests pass");
}

async fn indexes(store: &mut LogStore) -> Vec<u64> {
    let entries = store.try_get_log_entries(..).await.expect("entries");
    entries
        .iter()
        .map(|entry| entry.get_log_id().index)
        .collect()
}

#[tokio::test]
async fn a_restart_keeps_entries_vote_and_positions() {
    let dir = scratch();
    let mut store = LogStore::open(dir.path()).unwrap();
    let entries = (0..10).map(|index| blank_ent(1, 0, index));
    store.blocking_append(entries).await.unwrap();
    store.save_vote(&Vote::new(3, 7)).await.unwrap();
    store.save_committed(Some(log_id(1, 0, 6))).await.unwrap();
    store.truncate(log_id(1, 0, 8)).await.unwrap();
    store.purge(log_id(1, 0, 3)).await.unwrap();
    drop(store);
    let mut store = LogStore::open(dir.path()).unwrap();
    assert_eq!(indexes(&mut store).await, [4, 5, 6, 7]);
    assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new(3, 7)));
    assert_eq!(store.read_committed().await.unwrap(), Some(log_id(1, 0, 6)));
    let state = store.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 0, 3)));
    assert_eq!(state.last_log_id, Some(log_id(1, 0, 7)));
    store.blocking_append([blank_ent(2, 0, 8)]).await.unwrap();
    assert_eq!(indexes(&mut store).await, [4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn a_purge_beyond_the_end_continues_after_the_snapshot() {
    let dir = scratch();
    let mut store = LogStore::open(dir.path()).unwrap();
    let entries = (0..10).map(|index| blank_ent(1, 0, index));
    store.blocking_append(entries).await.unwrap();
    store.purge(log_id(5, 0, 100)).await.unwrap();
    store.blocking_append([blank_ent(5, 0, 101)]).await.unwrap();
    drop(store);
    let mut store = LogStore::open(dir.path()).unwrap();
    assert_eq!(indexes(&mut store).await, [101]);
    let state = store.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(5, 0, 100)));
    assert_eq!(state.last_log_id, Some(log_id(5, 0, 101)));
}

#[tokio::test]
async fn an_entry_that_leaves_a_hole_or_is_there_already_is_refused() {
    let dir = scratch();
    let mut store = LogStore::open(dir.path()).unwrap();
    let entries = (0..5).map(|index| blank_ent(1, 0, index));
    store.blocking_append(entries).await.unwrap();
    for index in [3, 4, 6] {
        let refused = store.blocking_append([blank_ent(2, 0, index)]).await;
        let error = refused.expect_err("only entry 5 follows").to_string();
        assert!(error.contains("ends at 5, not at"), "{error}");
    }
    assert_eq!(indexes(&mut store).await, [0, 1, 2, 3, 4]);
    store.truncate(log_id(1, 0, 3)).await.unwrap();
    store.blocking_append([blank_ent(2, 0, 3)]).await.unwrap();
    assert_eq!(indexes(&mut store).await, [0, 1, 2, 3]);
}
