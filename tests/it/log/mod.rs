//! Logs on disk: creating, locking, recovering and closing them, their topics, and refused calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use annals::{Error, Log, Partition, Result, Topic, TopicConfig};

mod foreign;
mod linked;
mod lone;
mod lost;
mod lowered;
mod open;
mod refused;
mod single;
mod topics;
mod without_threads;

/// The paths below a directory: files with their bytes, directories with `None`.
pub(crate) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Asserts that two trees are equal. The panic lists the paths that differ.
#[track_caller]
fn assert_unchanged(before: &Tree, after: &Tree) {
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> = paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .collect();
    assert!(changed.is_empty(), "changed: {changed:?}");
}

pub(crate) fn tree(dir: &Path) -> Tree {
    let mut found = Tree::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
            found.insert(path, None);
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}

/// Returns the values of all records as text.
fn texts(partition: &Partition) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for batch in partition.read(..)? {
        for record in &batch? {
            texts.push(record?.text().into_owned());
        }
    }
    Ok(texts)
}

fn one_partition(log: &Log, name: &str) -> Topic {
    log.open_topic(name, 1, TopicConfig::new()).unwrap()
}

/// Returns a copy of the directory of an open log, as a killed process would leave it: unflushed
/// and without a lock.
fn killed_copy(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    crate::kafka::copy_dir(dir, copy.path());
    copy
}

fn is_unknown_topic(result: &Result<impl Sized>) -> bool {
    matches!(result, Err(Error::UnknownTopic(_)))
}
