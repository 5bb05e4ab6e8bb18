//! A disk in memory that fails as real ones do, for tests of programs that must not lose anything.
//!
//! It keeps what programs see and what the device has apart, and so knows what a power cut can
//! leave: writes that were not synced are lost, kept or torn, each by itself; a file can be longer
//! than what was written of it; names that were not synced are lost. Calls fail where they are told
//! to. All that chance decides comes from the seed. Files and names behave as on
//! [`MemoryDisk`](super::MemoryDisk) otherwise.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::memory::{names, split};
use super::{Access, DirEntry, FileLock, FileMetadata, FileView, Storage, StorageFile, sealed};
use crate::clock::{Clock, SystemClock};
use choice::{Choices, next_random};
use plan::{Fault, Plan, Turn};
use tree::{Kind, NodeId, Tree};

mod choice;
mod content;
mod plan;
#[cfg(test)]
mod tests;
mod tree;

/// A disk for tests that can lose its power, fill up and fail. Clones share the files. Feature
/// `simulation`.
///
/// ```
/// # #[cfg(feature = "simulation")]
/// # fn main() -> annals::Result<()> {
/// use annals::{Durability, Log, SimulatedDisk, TopicConfig};
///
/// for seed in 0..10 {
///     let disk = SimulatedDisk::new(seed);
///     let log = Log::builder("data").storage(disk.clone()).open()?;
///     let lines = log.open_topic("lines", 1, TopicConfig::new())?;
///     lines.with_durability(Durability::Synced).append("kept")?;
///     lines.append("perhaps")?;
///
///     let log = Log::builder("data").storage(disk.crash()).open()?;
///     let end = log.topic("lines")?.partition(0)?.log_end_offset();
///     assert!((1..=2).contains(&end), "seed {seed}");
/// }
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "simulation"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    plan: Plan,
    random: u64,
}

impl SimulatedDisk {
    /// An empty disk. The same seed and the same calls give the same disk after every crash.
    pub fn new(seed: u64) -> Self {
        Self::with_clock(seed, SystemClock)
    }

    /// An empty disk whose files take their times of modification from `clock`.
    pub fn with_clock(seed: u64, clock: impl Clock) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(clock);
        Self::from_tree(Tree::new(clock.now()), seed, clock)
    }

    fn from_tree(tree: Tree, random: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                tree,
                plan: Plan::default(),
                random,
            })),
            clock,
        }
    }

    /// Cuts the power: the disk as it is found afterwards. This one answers every call with an
    /// error from now on; asked again, it gives another disk that the same power cut could have
    /// left.
    #[must_use = "this is the disk to go on with"]
    pub fn crash(&self) -> Self {
        let mut state = self.state.lock();
        state.plan.is_over = true;
        let seed = next_random(&mut state.random);
        let left = state.tree.cut(&mut Choices::seeded(seed));
        Self::from_tree(
            left.unwrap_or_else(|_| Tree::new(self.clock.now())),
            seed,
            Arc::clone(&self.clock),
        )
    }

    /// Cuts the power: each disk that could be found afterwards, one after the other. There can be
    /// very many.
    pub fn crash_states(&self) -> impl Iterator<Item = Self> + use<> {
        let mut state = self.state.lock();
        state.plan.is_over = true;
        let (tree, seed, clock) = (state.tree.clone(), state.random, Arc::clone(&self.clock));
        let mut next = Some(Choices::default());
        std::iter::from_fn(move || {
            let mut choices = next.take()?;
            let left = tree.cut(&mut choices).ok()?;
            next = choices.next();
            Some(Self::from_tree(left, seed, Arc::clone(&clock)))
        })
    }

    /// Kills the process: the disk as the next one finds it, with all that was written, and without
    /// locks. This one answers every call with an error from now on.
    #[must_use = "this is the disk to go on with"]
    pub fn process_killed(&self) -> Self {
        self.state.lock().plan.is_over = true;
        self.fork()
    }

    /// Another disk with the same files, durable and not, as a new process finds them. This one
    /// goes on.
    #[must_use = "this is the other disk"]
    pub fn fork(&self) -> Self {
        let state = self.state.lock();
        Self::from_tree(state.tree.killed(), state.random, Arc::clone(&self.clock))
    }

    /// Cuts the power when `call` is made, counted as [`calls`](Self::calls) does: it and all
    /// behind it fail and do nothing.
    pub fn cut_power_at(&self, call: u64) {
        self.state.lock().plan.cut_at = Some(call);
    }

    /// Whether the power is gone: every call fails.
    pub fn has_lost_power(&self) -> bool {
        self.state.lock().plan.is_without_power()
    }

    /// The files have room for this many bytes in all. A write beyond puts there what fits, and
    /// fails with [`ErrorKind::StorageFull`]; removing files makes room.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().plan.capacity = Some(bytes);
    }

    /// How many calls were made, of all kinds. The first is call 0.
    pub fn calls(&self) -> u64 {
        self.state.lock().plan.calls
    }

    /// Call number `call` fails, once, and does nothing. A sync of a file that fails loses what it
    /// should have made durable: it stays in memory, and no later sync writes it. Names stay as
    /// undurable as they were, and a later sync of their directory makes them durable.
    pub fn fail_call(&self, call: u64, error: io::Error) {
        self.add_fault(Fault {
            call,
            is_for_good: false,
            is_short: false,
            error,
        });
    }

    /// As [`fail_call`](Self::fail_call), but a write has put half of its bytes there when it
    /// fails.
    pub fn fail_call_short(&self, call: u64, error: io::Error) {
        self.add_fault(Fault {
            call,
            is_for_good: false,
            is_short: true,
            error,
        });
    }

    /// Call number `call` and all that follow fail, until [`heal`](Self::heal).
    pub fn fail_calls_from(&self, call: u64, error: io::Error) {
        self.add_fault(Fault {
            call,
            is_for_good: true,
            is_short: false,
            error,
        });
    }

    fn add_fault(&self, fault: Fault) {
        self.state.lock().plan.faults.push(fault);
    }

    /// No call fails any more, and there is room without end.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.plan.faults.clear();
        state.plan.flips.clear();
        state.plan.capacity = None;
    }

    /// If call number `call` reads, bit `bit` of what it reads is wrong, this once.
    pub fn flip_on_read(&self, call: u64, bit: usize) {
        self.state.lock().plan.flips.push((call, bit));
    }

    /// Flips the bits of `mask` in the byte at `position` of a file, for good. Beyond its end
    /// nothing happens.
    pub fn flip_bits(&self, path: impl AsRef<Path>, position: u64, mask: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = state.tree.find(names(path.as_ref()))?;
        state
            .tree
            .file(file)?
            .flip(usize::try_from(position).unwrap_or(usize::MAX), mask);
        Ok(())
    }

    /// A number that is the same for disks with the same files.
    pub fn fingerprint(&self) -> u64 {
        self.state.lock().tree.fingerprint()
    }

    /// One call: counted, and failed where it is to fail.
    fn call<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        match state.plan.take_turn() {
            Turn::Whole => work(&mut state),
            Turn::Fail { error, .. } => Err(error),
        }
    }

    fn open_node(&self, state: &mut State, path: &Path, access: Access) -> io::Result<NodeId> {
        let (dir, name) = split(path, ErrorKind::IsADirectory)?;
        let dir = state.tree.find(dir)?;
        let found = state.tree.names(dir)?.get(name).copied();
        match found {
            Some(_) if access == Access::CreateNew => Err(ErrorKind::AlreadyExists.into()),
            Some(node) if state.tree.is_dir(node) => Err(ErrorKind::IsADirectory.into()),
            Some(node) => Ok(node),
            None if matches!(access, Access::CreateNew | Access::OpenOrCreate) => {
                state.tree.create(dir, name, false, self.clock.now())
            }
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn remove(&self, path: &Path, wants_dir: bool) -> io::Result<()> {
        self.call(|state| {
            let (dir, name) = split(path, ErrorKind::ResourceBusy)?;
            let dir = state.tree.find(dir)?;
            let node = *state
                .tree
                .names(dir)?
                .get(name)
                .ok_or(ErrorKind::NotFound)?;
            match (state.tree.is_dir(node), wants_dir) {
                (true, false) => Err(ErrorKind::IsADirectory.into()),
                (false, true) => Err(ErrorKind::NotADirectory.into()),
                _ => state.tree.remove(dir, name, self.clock.now()),
            }
        })
    }
}

impl State {
    /// Bytes that a file may still grow by.
    fn room(&self) -> u64 {
        self.plan.capacity.map_or(u64::MAX, |capacity| {
            capacity.saturating_sub(self.tree.bytes_used())
        })
    }
}

impl sealed::Sealed for SimulatedDisk {}

impl Storage for SimulatedDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let node = self.call(|state| {
            let node = self.open_node(state, path, access)?;
            state.tree.node(node)?.open += 1;
            Ok(node)
        })?;
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            node,
            is_writable: access != Access::Read,
        }))
    }

    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.call(|state| {
            let id = state.tree.find(names(path))?;
            let node = state.tree.node(id)?;
            let (bytes, is_dir) = match &node.kind {
                Kind::File(content) => (content.live().len() as u64, false),
                Kind::Directory { .. } => (0, true),
            };
            Ok(FileMetadata {
                bytes,
                modified: node.modified,
                id,
                is_dir,
            })
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.call(|state| {
            let dir = state.tree.find(names(dir))?;
            let entry = |(name, node): (&OsString, &NodeId)| DirEntry {
                name: name.to_string_lossy().into_owned(),
                is_dir: state.tree.is_dir(*node),
            };
            Ok(state.tree.names(dir)?.iter().map(entry).collect())
        })
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.call(|state| {
            let now = self.clock.now();
            names(dir)
                .into_iter()
                .try_fold(tree::ROOT, |at, name| {
                    match state.tree.names(at)?.get(name) {
                        Some(there) => Ok(*there),
                        None => state.tree.create(at, name, true, now),
                    }
                })
                .and_then(|last| state.tree.names(last).map(drop))
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|state| {
            let ((from_dir, from_name), (to_dir, to_name)) = (
                split(from, ErrorKind::ResourceBusy)?,
                split(to, ErrorKind::ResourceBusy)?,
            );
            let (from_dir, to_dir) = (state.tree.find(from_dir)?, state.tree.find(to_dir)?);
            if names(to) != names(from)
                && names(to).starts_with(&names(from))
                && state.tree.is_dir(to_dir)
            {
                return Err(ErrorKind::InvalidInput.into());
            }
            state
                .tree
                .rename((from_dir, from_name), (to_dir, to_name), self.clock.now())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.remove(path, false)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.remove(dir, true)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(|state| {
            let dir = state.tree.find(names(dir))?;
            state.tree.sync_dir(dir)
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let node = self.call(|state| {
            let node = self.open_node(state, path, Access::OpenOrCreate)?;
            if state.tree.locked.insert(node) {
                Ok(node)
            } else {
                Err(ErrorKind::WouldBlock.into())
            }
        })?;
        Ok(Box::new(SimulatedLock {
            disk: self.clone(),
            node,
        }))
    }

    fn lock_holder(&self, path: &Path) -> Option<u32> {
        let state = self.state.lock();
        let node = state.tree.find(names(path)).ok()?;
        state.tree.locked.contains(&node).then(std::process::id)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.metadata(path)?;
        Ok([OsStr::new("/")].into_iter().chain(names(path)).collect())
    }
}

/// An open file. Once its disk has crashed, all it gives is an error.
struct SimulatedFile {
    disk: SimulatedDisk,
    node: NodeId,
    is_writable: bool,
}

impl SimulatedFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.is_writable {
            Ok(())
        } else {
            Err(ErrorKind::PermissionDenied.into())
        }
    }

    fn write(&self, state: &mut State, bytes: &[u8], position: u64) -> io::Result<()> {
        state.tree.node(self.node)?.modified = self.disk.clock.now();
        let room = state.room();
        let file = state.tree.file(self.node)?;
        let limit = (file.live().len() as u64).saturating_add(room);
        let fits = usize::try_from(limit.saturating_sub(position)).unwrap_or(usize::MAX);
        match bytes.get(..fits) {
            Some(part) if part.len() < bytes.len() => {
                if !part.is_empty() {
                    file.write(part, position)?;
                }
                Err(ErrorKind::StorageFull.into())
            }
            _ => file.write(bytes, position),
        }
    }
}

impl sealed::Sealed for SimulatedFile {}

impl StorageFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.disk.call(|state| {
            let flip = state.plan.take_flip();
            let live = state.tree.file(self.node)?.live();
            let found = usize::try_from(position)
                .ok()
                .and_then(|start| live.get(start..));
            let Some(mut found) = found else { return Ok(0) };
            let read = found.read(buffer)?;
            if let Some(byte) = flip
                .filter(|_| read > 0)
                .and_then(|bit| buffer.get_mut(bit / 8 % read))
            {
                *byte ^= 1 << (flip.unwrap_or(0) % 8);
            }
            Ok(read)
        })
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.check_writable()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let mut state = self.disk.state.lock();
        match state.plan.take_turn() {
            Turn::Whole => self.write(&mut state, bytes, position),
            Turn::Fail { error, is_short } => {
                if let Some(half) = bytes
                    .get(..bytes.len() / 2)
                    .filter(|half| is_short && !half.is_empty())
                {
                    self.write(&mut state, half, position)?;
                }
                Err(error)
            }
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        self.disk
            .call(|state| Ok(state.tree.file(self.node)?.live().len() as u64))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        self.disk.call(|state| {
            let room = state.room();
            state.tree.node(self.node)?.modified = self.disk.clock.now();
            let file = state.tree.file(self.node)?;
            if bytes.saturating_sub(file.live().len() as u64) > room {
                return Err(ErrorKind::StorageFull.into());
            }
            file.set_len(bytes)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        match state.plan.take_turn() {
            Turn::Whole => state.tree.file(self.node)?.sync(),
            Turn::Fail { error, .. } => {
                // Without power nothing reports a write-back.
                if !state.plan.is_without_power() {
                    state.tree.file(self.node)?.forget_unsynced();
                }
                Err(error)
            }
        }
    }

    fn view(&self, bytes: usize) -> io::Result<FileView> {
        self.disk.call(|state| {
            let content = Arc::clone(state.tree.file(self.node)?.live());
            if content.len() < bytes {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            Ok(FileView::from_shared(content, bytes))
        })
    }

    fn drop_cache(&self, _position: u64) -> io::Result<()> {
        self.disk
            .call(|state| state.tree.file(self.node)?.drop_cache())
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        if let Ok(node) = self.disk.state.lock().tree.node(self.node) {
            node.open = node.open.saturating_sub(1);
        }
    }
}

/// A locked file. The lock is the file's, not the name's, as on a real disk.
struct SimulatedLock {
    disk: SimulatedDisk,
    node: NodeId,
}

impl FileLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.state.lock().tree.locked.remove(&self.node);
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDisk").finish_non_exhaustive()
    }
}

impl fmt::Debug for SimulatedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedFile({})", self.node)
    }
}

impl fmt::Debug for SimulatedLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedLock")
    }
}
