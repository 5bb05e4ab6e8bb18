//! A disk in memory that fails as real disks do, for tests of programs that must not lose records.
//!
//! It stores the state that programs see and the state of the device separately. From both it
//! derives what a power cut can leave. Each write that was not synced is lost, kept or torn,
//! independently of the others. A file can be longer than what was written of it. Names that were
//! not synced are lost. Calls fail as the test demands. A seed decides everything random. Apart
//! from that, files and names behave as on [`MemoryDisk`](super::MemoryDisk).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::memory::{names, split};
use super::{Access, DirEntry, FileLock, FileMetadata, FileView, Storage, StorageFile, sealed};
use crate::clock::{Clock, SystemClock};
use crate::sync::Mutex;
use choice::{Choices, next_random};
use plan::{Fault, Plan, Turn};
use tree::{Kind, NodeId, Tree};

mod choice;
mod content;
mod plan;
#[cfg(test)]
mod tests;
mod tree;

/// A disk for tests that can lose power, run full and fail. Clones share the files.
///
/// Needs the feature `simulation`.
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
    /// Creates an empty disk. With the same seed and the same calls, each crash leaves the same
    /// disk.
    pub fn new(seed: u64) -> Self {
        Self::with_clock(seed, SystemClock)
    }

    /// Creates an empty disk whose files take their times of modification from `clock`.
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

    /// Cuts the power and returns a disk as the power cut may have left it.
    ///
    /// All later calls on this disk fail. A second call of `crash` returns another disk that the
    /// same power cut may have left.
    #[must_use = "a test continues with the disk that is returned"]
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

    /// Cuts the power and returns every disk that the power cut may have left. There can be very
    /// many.
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

    /// Kills the process and returns the disk as the next process finds it: with everything that
    /// was written, and without locks. All later calls on this disk fail.
    #[must_use = "a test continues with the disk that is returned"]
    pub fn process_killed(&self) -> Self {
        self.state.lock().plan.is_over = true;
        self.fork()
    }

    /// Returns another disk with the same files, as a new process finds them. Bytes and names that
    /// are not durable here are not durable there. This disk can still be used.
    #[must_use = "the copy is the disk that is returned"]
    pub fn fork(&self) -> Self {
        let state = self.state.lock();
        Self::from_tree(state.tree.killed(), state.random, Arc::clone(&self.clock))
    }

    /// Cuts the power at call number `call`, counted as by [`calls`](Self::calls): this call and
    /// all later ones fail without effect.
    pub fn cut_power_at(&self, call: u64) {
        self.state.lock().plan.cut_at = Some(call);
    }

    /// Returns whether the disk has lost power, so that every call fails.
    pub fn has_lost_power(&self) -> bool {
        self.state.lock().plan.is_without_power()
    }

    /// Sets how many bytes the files may have in total. A write that exceeds them writes the bytes
    /// that fit, and fails with [`ErrorKind::StorageFull`]. Removing files makes room.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().plan.capacity = Some(bytes);
    }

    /// Returns the number of calls so far, of all kinds. The first is call 0.
    pub fn calls(&self) -> u64 {
        self.state.lock().plan.calls
    }

    /// Makes call number `call` fail once, without effect.
    ///
    /// A failed sync of a file loses the writes that it should have made durable: they stay in
    /// memory, and no later sync writes them. After a failed sync of a directory, a later sync
    /// makes the names durable.
    pub fn fail_call(&self, call: u64, error: io::Error) {
        self.add_fault(Fault {
            call,
            is_for_good: false,
            is_short: false,
            error,
        });
    }

    /// Makes call number `call` fail once, as [`fail_call`](Self::fail_call) does. If the call is a
    /// write, it writes half of its bytes before it fails.
    pub fn fail_call_short(&self, call: u64, error: io::Error) {
        self.add_fault(Fault {
            call,
            is_for_good: false,
            is_short: true,
            error,
        });
    }

    /// Makes call number `call` and all later calls fail, until [`heal`](Self::heal).
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

    /// Removes the planned failures and flips, and the limit of
    /// [`set_capacity`](Self::set_capacity). Power that is lost stays lost.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.plan.faults.clear();
        state.plan.flips.clear();
        state.plan.capacity = None;
    }

    /// Flips bit `bit` of the bytes that call number `call` reads, if it is a read. The file does
    /// not change.
    pub fn flip_on_read(&self, call: u64, bit: usize) {
        self.state.lock().plan.flips.push((call, bit));
    }

    /// Flips the bits of `mask` in the byte at `position` of a file, permanently. Has no effect
    /// after the end of the file.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if the file does not exist, and `IsADirectory` if it is a directory.
    pub fn flip_bits(&self, path: impl AsRef<Path>, position: u64, mask: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = state.tree.find(names(path.as_ref()))?;
        state
            .tree
            .file(file)?
            .flip(usize::try_from(position).unwrap_or(usize::MAX), mask);
        Ok(())
    }

    /// Returns a number that is equal for disks with equal files.
    pub fn fingerprint(&self) -> u64 {
        self.state.lock().tree.fingerprint()
    }

    /// Counts a call, and runs `work` unless the call is to fail.
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
    /// Returns the number of bytes that are free.
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
            let names = state.tree.name_count(id).max(1);
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
                names,
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

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|state| {
            let (from_dir, from_name) = split(from, ErrorKind::PermissionDenied)?;
            let (to_dir, to_name) = split(to, ErrorKind::AlreadyExists)?;
            let (from_dir, to_dir) = (state.tree.find(from_dir)?, state.tree.find(to_dir)?);
            state
                .tree
                .link((from_dir, from_name), (to_dir, to_name), self.clock.now())
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

    /// A unit smaller than a page, so that small files are viewed too.
    fn view_unit(&self) -> Option<u32> {
        u32::try_from(content::SECTOR).ok()
    }
}

/// An open file. After a crash of its disk, all calls fail.
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
                // Only a failed write-back forgets the bytes. After a power cut they may still be
                // on the device.
                if !state.plan.is_without_power() {
                    state.tree.file(self.node)?.forget_unsynced();
                }
                Err(error)
            }
        }
    }

    fn view(&self, bytes: usize) -> io::Result<FileView> {
        self.disk.call(|state| {
            let content = state.tree.file(self.node)?;
            if content.live().len() < bytes {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            Ok(FileView::from_shared(content.map(bytes), bytes))
        })
    }

    fn is_viewed(&self) -> bool {
        let mut state = self.disk.state.lock();
        state
            .tree
            .file(self.node)
            .is_ok_and(content::Content::is_viewed)
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

/// A locked file. As on a real disk, the lock belongs to the file and not to its name.
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
