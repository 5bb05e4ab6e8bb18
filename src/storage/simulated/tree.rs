//! Directories and files: the names as programs see them, and as the device has them.
//!
//! A step (creation, rename, removal) changes one or more names. It becomes durable as a whole when
//! a directory that it changes is synced. A power cut keeps or loses each step independently, but
//! keeps a step only with the earlier steps that changed the same name.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};

use super::choice::Choices;
use super::content::Content;
use crate::clock::Timestamp;

/// A number for a file or directory, whatever its names.
pub(super) type NodeId = u64;
pub(super) const ROOT: NodeId = 0;

#[derive(Clone, Debug)]
pub(super) enum Kind {
    File(Content),
    Directory { live: Names, durable: Names },
}

type Names = BTreeMap<OsString, NodeId>;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) modified: Timestamp,
    /// The number of handles that have it open.
    pub(super) open: usize,
}

/// A name in a directory, and the node that gets this name; `None` removes the name.
type Naming = (NodeId, OsString, Option<NodeId>);

/// The directories and files of a disk.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    next: NodeId,
    unsynced: Vec<Vec<Naming>>,
    pub(super) locked: BTreeSet<NodeId>,
}

impl Tree {
    pub(super) fn new(now: Timestamp) -> Self {
        let mut tree = Self {
            nodes: BTreeMap::new(),
            next: ROOT,
            unsynced: Vec::new(),
            locked: BTreeSet::new(),
        };
        tree.add(directory(), now);
        tree
    }

    fn add(&mut self, kind: Kind, modified: Timestamp) -> NodeId {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(
            id,
            Node {
                kind,
                modified,
                open: 0,
            },
        );
        id
    }

    pub(super) fn node(&mut self, id: NodeId) -> io::Result<&mut Node> {
        self.nodes
            .get_mut(&id)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn file(&mut self, id: NodeId) -> io::Result<&mut Content> {
        match &mut self.node(id)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Directory { .. } => Err(ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn names(&self, dir: NodeId) -> io::Result<&Names> {
        match self.nodes.get(&dir).map(|node| &node.kind) {
            Some(Kind::Directory { live, .. }) => Ok(live),
            Some(Kind::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn is_dir(&self, id: NodeId) -> bool {
        self.names(id).is_ok()
    }

    pub(super) fn find<'a>(&self, path: impl IntoIterator<Item = &'a OsStr>) -> io::Result<NodeId> {
        path.into_iter().try_fold(ROOT, |dir, name| {
            self.names(dir)?
                .get(name)
                .copied()
                .ok_or_else(|| io::Error::from(ErrorKind::NotFound))
        })
    }

    /// Changes live names in one step that is not durable yet.
    fn step(&mut self, namings: Vec<Naming>, now: Timestamp) -> io::Result<()> {
        for (dir, name, target) in &namings {
            let node = self.node(*dir)?;
            node.modified = now;
            if let Kind::Directory { live, .. } = &mut node.kind {
                set(live, name, *target);
            }
        }
        self.unsynced.push(namings);
        Ok(())
    }

    pub(super) fn create(
        &mut self,
        dir: NodeId,
        name: &OsStr,
        is_dir: bool,
        now: Timestamp,
    ) -> io::Result<NodeId> {
        self.names(dir)?;
        let id = self.add(
            if is_dir {
                directory()
            } else {
                Kind::File(Content::default())
            },
            now,
        );
        self.step(vec![(dir, name.to_owned(), Some(id))], now)?;
        Ok(id)
    }

    pub(super) fn rename(
        &mut self,
        from: (NodeId, &OsStr),
        to: (NodeId, &OsStr),
        now: Timestamp,
    ) -> io::Result<()> {
        let moved = *self.names(from.0)?.get(from.1).ok_or(ErrorKind::NotFound)?;
        let is_dir = self.is_dir(moved);
        match self.names(to.0)?.get(to.1).copied() {
            Some(same) if same == moved => return Ok(()),
            Some(there) if is_dir && !self.is_dir(there) => {
                return Err(ErrorKind::NotADirectory.into());
            }
            Some(there) if !is_dir && self.is_dir(there) => {
                return Err(ErrorKind::IsADirectory.into());
            }
            Some(there) if is_dir && !self.names(there)?.is_empty() => {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        self.step(
            vec![
                (from.0, from.1.to_owned(), None),
                (to.0, to.1.to_owned(), Some(moved)),
            ],
            now,
        )
    }

    /// Gives a file a second name.
    pub(super) fn link(
        &mut self,
        from: (NodeId, &OsStr),
        to: (NodeId, &OsStr),
        now: Timestamp,
    ) -> io::Result<()> {
        let linked = *self.names(from.0)?.get(from.1).ok_or(ErrorKind::NotFound)?;
        if self.is_dir(linked) {
            return Err(ErrorKind::PermissionDenied.into());
        }
        if self.names(to.0)?.contains_key(to.1) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.step(vec![(to.0, to.1.to_owned(), Some(linked))], now)
    }

    /// Returns the number of names of a file.
    pub(super) fn name_count(&self, id: NodeId) -> u64 {
        let of_directory = |node: &Node| match &node.kind {
            Kind::Directory { live, .. } => live.values().filter(|target| **target == id).count(),
            Kind::File(_) => 0,
        };
        self.nodes.values().map(of_directory).sum::<usize>() as u64
    }

    /// Removes a name and everything below it, the innermost first.
    pub(super) fn remove(&mut self, dir: NodeId, name: &OsStr, now: Timestamp) -> io::Result<()> {
        let id = *self.names(dir)?.get(name).ok_or(ErrorKind::NotFound)?;
        let inside: Vec<OsString> = self
            .names(id)
            .map(|names| names.keys().cloned().collect())
            .unwrap_or_default();
        for inner in inside {
            self.remove(id, &inner, now)?;
        }
        self.step(vec![(dir, name.to_owned(), None)], now)
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_dir(&mut self, dir: NodeId) -> io::Result<()> {
        self.names(dir)?;
        let mut wanted = BTreeSet::new();
        // We go backwards, since the earlier steps that a step builds on become durable with it.
        for (number, step) in self.unsynced.iter().enumerate().rev() {
            let builds_on = |later: &usize| {
                self.unsynced
                    .get(*later)
                    .is_some_and(|later| share_a_name(step, later))
            };
            if step.iter().any(|(at, ..)| *at == dir) || wanted.iter().any(builds_on) {
                wanted.insert(number);
            }
        }
        let steps = std::mem::take(&mut self.unsynced);
        for (number, step) in steps.into_iter().enumerate() {
            if wanted.contains(&number) {
                self.make_durable(&step);
            } else {
                self.unsynced.push(step);
            }
        }
        self.collect();
        Ok(())
    }

    fn make_durable(&mut self, step: &[Naming]) {
        for (dir, name, target) in step {
            if let Some(Node {
                kind: Kind::Directory { durable, .. },
                ..
            }) = self.nodes.get_mut(dir)
            {
                set(durable, name, *target);
            }
        }
    }

    /// Frees nodes that are not open and have no name, neither in memory nor on the device.
    fn collect(&mut self) {
        let mut named: BTreeSet<NodeId> = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            if let Kind::Directory { live, durable } = &node.kind {
                named.extend(live.values().chain(durable.values()));
            }
        }
        named.extend(
            self.unsynced
                .iter()
                .flatten()
                .filter_map(|(.., target)| *target),
        );
        self.nodes
            .retain(|id, node| node.open > 0 || named.contains(id));
    }

    /// Returns the bytes of all files that have a name or are open.
    pub(super) fn bytes_used(&self) -> u64 {
        let mut named = BTreeSet::new();
        for node in self.nodes.values() {
            if let Kind::Directory { live, .. } = &node.kind {
                named.extend(live.values().copied());
            }
        }
        let files = self
            .nodes
            .iter()
            .filter(|(id, node)| node.open > 0 || named.contains(id));
        files
            .map(|(_, node)| {
                if let Kind::File(content) = &node.kind {
                    content.live().len() as u64
                } else {
                    0
                }
            })
            .sum()
    }

    /// Returns the tree that the device has after a power cut.
    pub(super) fn cut(&self, choices: &mut Choices) -> io::Result<Self> {
        let mut left = self.clone();
        left.unsynced.clear();
        left.locked.clear();
        let mut lost: Vec<&[Naming]> = Vec::new();
        for step in &self.unsynced {
            let is_kept =
                !lost.iter().any(|earlier| share_a_name(earlier, step)) && choices.choose(2) == 1;
            if is_kept {
                left.make_durable(step);
            } else {
                lost.push(step);
            }
        }
        for node in left.nodes.values_mut() {
            node.open = 0;
            if let Kind::Directory { live, durable } = &mut node.kind {
                live.clone_from(durable);
            }
        }
        left.keep_reachable();
        for node in left.nodes.values_mut() {
            if let Kind::File(content) = &mut node.kind {
                *content = content.cut(choices)?;
            }
        }
        Ok(left)
    }

    /// Returns the same tree without open or locked files.
    pub(super) fn killed(&self) -> Self {
        let mut left = self.clone();
        left.locked.clear();
        left.nodes.values_mut().for_each(|node| node.open = 0);
        left
    }

    /// Removes nodes that cannot be reached by a name.
    fn keep_reachable(&mut self) {
        let (mut reached, mut next) = (BTreeSet::new(), vec![ROOT]);
        while let Some(id) = next.pop() {
            if reached.insert(id) {
                next.extend(self.names(id).into_iter().flat_map(BTreeMap::values));
            }
        }
        self.nodes.retain(|id, _| reached.contains(id));
    }

    /// Returns a number that is equal for trees that programs see as equal.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash_below(ROOT, &mut hasher);
        hasher.finish()
    }

    fn hash_below(&self, id: NodeId, hasher: &mut DefaultHasher) {
        match self.nodes.get(&id).map(|node| &node.kind) {
            Some(Kind::File(content)) => content.live().hash(hasher),
            Some(Kind::Directory { live, .. }) => {
                live.len().hash(hasher);
                for (name, inner) in live {
                    name.hash(hasher);
                    self.hash_below(*inner, hasher);
                }
            }
            None => {}
        }
    }
}

fn directory() -> Kind {
    Kind::Directory {
        live: Names::new(),
        durable: Names::new(),
    }
}

fn set(names: &mut Names, name: &OsStr, target: Option<NodeId>) {
    match target {
        Some(target) => drop(names.insert(name.to_owned(), target)),
        None => drop(names.remove(name)),
    }
}

fn share_a_name(one: &[Naming], other: &[Naming]) -> bool {
    one.iter().any(|(dir, name, _)| {
        other
            .iter()
            .any(|(other_dir, other_name, _)| dir == other_dir && name == other_name)
    })
}
