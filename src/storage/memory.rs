//! A disk in memory, for tests and for logs that need not outlive the process.
//!
//! It behaves as [`Disk`](super::Disk) does, including the kinds of its errors. It has one tree of
//! directories under `/`, to which relative paths refer as well, and no links. The content of a
//! file is copied when it is written while a view shares it, so views cost nothing and never
//! change. A sync has no effect: the end of the process loses all files.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::ops::Deref;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Access, DirEntry, FileLock, FileMetadata, FileView, Storage, StorageFile, sealed};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::sync::{Mutex, RwLock};

/// A disk in memory, for tests and for logs that need not outlive the process. Clones share the
/// files.
///
/// ```
/// use annals::{Log, MemoryDisk, TopicConfig};
///
/// let disk = MemoryDisk::new();
/// let log = Log::builder("data").storage(disk.clone()).open()?;
/// log.open_topic("orders", 1, TopicConfig::new())?.append("paid")?;
/// log.close()?;
///
/// let log = Log::builder("data").storage(disk).open()?; // the same files
/// assert_eq!(log.topic("orders")?.partition(0)?.log_end_offset(), 1);
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryDisk {
    root: Arc<Mutex<Directory>>,
    clock: Arc<dyn Clock>,
}

impl MemoryDisk {
    /// Creates an empty disk.
    pub fn new() -> Self {
        Self::with_clock(SystemClock)
    }

    /// Creates an empty disk whose files take their times of modification from `clock`.
    pub fn with_clock(clock: impl Clock) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(clock);
        Self {
            root: Arc::new(Mutex::new(Directory::new(clock.now()))),
            clock,
        }
    }
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk").finish_non_exhaustive()
    }
}

/// A directory or a file.
enum Node {
    Directory(Directory),
    File(Name),
}

/// A name of a file. The file counts its names.
struct Name(Arc<Content>);

impl Name {
    fn of(content: &Arc<Content>) -> Self {
        content.names.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(content))
    }
}

impl Deref for Name {
    type Target = Arc<Content>;

    fn deref(&self) -> &Arc<Content> {
        &self.0
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let before = self.0.names.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "each name is counted once");
    }
}

struct Directory {
    nodes: BTreeMap<OsString, Node>,
    modified: Timestamp,
}

impl Directory {
    fn new(modified: Timestamp) -> Self {
        Self {
            nodes: BTreeMap::new(),
            modified,
        }
    }

    /// Returns the directory at the path `names` below this one.
    fn descend<'a>(&mut self, names: impl IntoIterator<Item = &'a OsStr>) -> io::Result<&mut Self> {
        names
            .into_iter()
            .try_fold(self, |dir, name| match dir.nodes.get_mut(name) {
                Some(Node::Directory(dir)) => Ok(dir),
                Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
                None => Err(ErrorKind::NotFound.into()),
            })
    }
}

/// The id of the next file on any disk.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A file. It exists as long as it has a name or is open.
struct Content {
    id: u64,
    data: RwLock<Data>,
    /// Changed while the tree is locked.
    names: AtomicU64,
    is_locked: AtomicBool,
}

struct Data {
    bytes: Arc<Vec<u8>>,
    modified: Timestamp,
}

/// Returns the names on the way from the root to `path`.
pub(super) fn names(path: &Path) -> Vec<&OsStr> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            // The parent of the root is the root.
            Component::ParentDir => drop(names.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    names
}

/// Returns the names on the way to the directory of `path`, and the name in it. Fails with
/// `on_root` for the root, which is in no directory.
pub(super) fn split(path: &Path, on_root: ErrorKind) -> io::Result<(Vec<&OsStr>, &OsStr)> {
    let mut names = names(path);
    let name = names.pop().ok_or(on_root)?;
    Ok((names, name))
}

impl MemoryDisk {
    fn content(&self, path: &Path, access: Access) -> io::Result<Arc<Content>> {
        let (dir, name) = split(path, ErrorKind::IsADirectory)?;
        let mut root = self.root.lock();
        let dir = root.descend(dir)?;
        match dir.nodes.get(name) {
            Some(_) if access == Access::CreateNew => Err(ErrorKind::AlreadyExists.into()),
            Some(Node::File(content)) => Ok(Arc::clone(content)),
            Some(Node::Directory(_)) => Err(ErrorKind::IsADirectory.into()),
            None if matches!(access, Access::CreateNew | Access::OpenOrCreate) => {
                let modified = self.clock.now();
                let data = RwLock::new(Data {
                    bytes: Arc::default(),
                    modified,
                });
                let content = Arc::new(Content {
                    id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                    data,
                    names: AtomicU64::new(0),
                    is_locked: AtomicBool::new(false),
                });
                dir.nodes
                    .insert(name.to_owned(), Node::File(Name::of(&content)));
                dir.modified = modified;
                Ok(content)
            }
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Removes the file or directory at `path`, if `check` allows it.
    fn remove(&self, path: &Path, check: impl FnOnce(&Node) -> io::Result<()>) -> io::Result<()> {
        let (dir, name) = split(path, ErrorKind::ResourceBusy)?;
        let mut root = self.root.lock();
        let dir = root.descend(dir)?;
        check(dir.nodes.get(name).ok_or(ErrorKind::NotFound)?)?;
        let removed = dir.nodes.remove(name);
        dir.modified = self.clock.now();
        // A large tree is freed after the lock is released.
        drop(root);
        drop(removed);
        Ok(())
    }
}

impl sealed::Sealed for MemoryDisk {}

impl Storage for MemoryDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let content = self.content(path, access)?;
        Ok(Arc::new(MemoryFile {
            content,
            clock: Arc::clone(&self.clock),
            is_writable: access != Access::Read,
        }))
    }

    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        let of_directory = |dir: &Directory| FileMetadata {
            bytes: 0,
            modified: dir.modified,
            id: 0,
            is_dir: true,
            names: 1,
        };
        let mut root = self.root.lock();
        let Ok((dir, name)) = split(path, ErrorKind::IsADirectory) else {
            return Ok(of_directory(&root));
        };
        match root
            .descend(dir)?
            .nodes
            .get(name)
            .ok_or(ErrorKind::NotFound)?
        {
            Node::Directory(dir) => Ok(of_directory(dir)),
            Node::File(content) => {
                let data = content.data.read();
                let bytes = data.bytes.len() as u64;
                Ok(FileMetadata {
                    bytes,
                    modified: data.modified,
                    id: content.id,
                    is_dir: false,
                    names: content.names.load(Ordering::Relaxed),
                })
            }
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let entry = |(name, node): (&OsString, &Node)| DirEntry {
            name: name.to_string_lossy().into_owned(),
            is_dir: matches!(node, Node::Directory(_)),
        };
        Ok(self
            .root
            .lock()
            .descend(names(dir))?
            .nodes
            .iter()
            .map(entry)
            .collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let now = self.clock.now();
        let mut root = self.root.lock();
        let mut at = &mut *root;
        for name in names(dir) {
            if !at.nodes.contains_key(name) {
                at.nodes
                    .insert(name.to_owned(), Node::Directory(Directory::new(now)));
                at.modified = now;
            }
            at = at.descend([name])?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = split(from, ErrorKind::ResourceBusy)?;
        let (to_dir, to_name) = split(to, ErrorKind::ResourceBusy)?;
        let now = self.clock.now();
        let mut root = self.root.lock();
        let is_dir = match root.descend(from_dir.iter().copied())?.nodes.get(from_name) {
            Some(node) => matches!(node, Node::Directory(_)),
            None => return Err(ErrorKind::NotFound.into()),
        };
        if is_dir && names(to).starts_with(&names(from)) {
            // A directory can be renamed to itself, and cannot be moved into itself.
            return if names(to) == names(from) {
                Ok(())
            } else {
                Err(ErrorKind::InvalidInput.into())
            };
        }
        match root.descend(to_dir.iter().copied())?.nodes.get(to_name) {
            Some(Node::File(_)) if is_dir => return Err(ErrorKind::NotADirectory.into()),
            Some(Node::Directory(_)) if !is_dir => return Err(ErrorKind::IsADirectory.into()),
            Some(Node::Directory(dir)) if !dir.nodes.is_empty() => {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        let from_dir = root.descend(from_dir)?;
        let moved = from_dir
            .nodes
            .remove(from_name)
            .ok_or(ErrorKind::NotFound)?;
        from_dir.modified = now;
        let to_dir = root.descend(to_dir)?;
        to_dir.nodes.insert(to_name.to_owned(), moved);
        to_dir.modified = now;
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = split(from, ErrorKind::PermissionDenied)?;
        let (to_dir, to_name) = split(to, ErrorKind::AlreadyExists)?;
        let mut root = self.root.lock();
        let name = match root.descend(from_dir)?.nodes.get(from_name) {
            Some(Node::File(content)) => Name::of(content),
            Some(Node::Directory(_)) => return Err(ErrorKind::PermissionDenied.into()),
            None => return Err(ErrorKind::NotFound.into()),
        };
        let to_dir = root.descend(to_dir)?;
        if to_dir.nodes.contains_key(to_name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        to_dir.nodes.insert(to_name.to_owned(), Node::File(name));
        to_dir.modified = self.clock.now();
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.remove(path, |node| match node {
            Node::File(_) => Ok(()),
            Node::Directory(_) => Err(ErrorKind::IsADirectory.into()),
        })
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.remove(dir, |node| match node {
            Node::Directory(_) => Ok(()),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.root.lock().descend(names(dir)).map(drop)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let content = self.content(path, Access::OpenOrCreate)?;
        if content.is_locked.swap(true, Ordering::Acquire) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock(content)))
    }

    fn lock_holder(&self, path: &Path) -> Option<u32> {
        let content = self.content(path, Access::Read).ok()?;
        content
            .is_locked
            .load(Ordering::Relaxed)
            .then(std::process::id)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.metadata(path)?;
        Ok([OsStr::new("/")].into_iter().chain(names(path)).collect())
    }
}

struct MemoryFile {
    content: Arc<Content>,
    clock: Arc<dyn Clock>,
    is_writable: bool,
}

impl MemoryFile {
    /// Changes the content. If a view shares it, the content is copied before.
    fn change(&self, change: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        if !self.is_writable {
            return Err(io::Error::new(
                ErrorKind::PermissionDenied,
                "the file is open for reading",
            ));
        }
        let mut data = self.content.data.write();
        data.modified = self.clock.now();
        change(Arc::make_mut(&mut data.bytes))
    }
}

/// Extends `bytes` with zeros to at least `len` bytes.
fn extend(bytes: &mut Vec<u8>, len: usize) -> io::Result<()> {
    if let Some(more) = len.checked_sub(bytes.len()) {
        bytes.try_reserve(more)?;
        bytes.resize(len, 0);
    }
    Ok(())
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MemoryFile({} bytes)",
            self.content.data.read().bytes.len()
        )
    }
}

impl sealed::Sealed for MemoryFile {}

impl StorageFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let data = self.content.data.read();
        let Some(mut found) = usize::try_from(position)
            .ok()
            .and_then(|start| data.bytes.get(start..))
        else {
            return Ok(0);
        };
        // `read` of a slice copies as many bytes as fit into the buffer.
        found.read(buffer)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let start = usize::try_from(position).map_err(|_| ErrorKind::FileTooLarge)?;
        let end = start
            .checked_add(bytes.len())
            .ok_or(ErrorKind::FileTooLarge)?;
        self.change(|content| {
            if start == content.len() {
                content.try_reserve(bytes.len())?;
                content.extend_from_slice(bytes);
                return Ok(());
            }
            extend(content, end)?;
            content
                .get_mut(start..end)
                .ok_or(ErrorKind::FileTooLarge)?
                .copy_from_slice(bytes);
            Ok(())
        })
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.content.data.read().bytes.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let len = usize::try_from(bytes).map_err(|_| ErrorKind::FileTooLarge)?;
        self.change(|content| {
            content.truncate(len);
            extend(content, len)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn view(&self, bytes: usize) -> io::Result<FileView> {
        let content = Arc::clone(&self.content.data.read().bytes);
        if content.len() < bytes {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(FileView::from_shared(content, bytes))
    }

    fn set_modified(&self, at: Timestamp) -> io::Result<()> {
        self.content.data.write().modified = at;
        Ok(())
    }

    fn drop_cache(&self, _position: u64) -> io::Result<()> {
        Ok(())
    }
}

/// A locked file. As on a real disk, the lock belongs to the file and not to its name.
struct MemoryLock(Arc<Content>);

impl FileLock for MemoryLock {}

impl fmt::Debug for MemoryLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryLock")
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.is_locked.store(false, Ordering::Release);
    }
}
