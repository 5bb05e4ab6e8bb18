//! The bytes of a file as one slice, mapped or in memory.
//!
//! A view never changes, and stays valid after its file is removed or closed. The caller of
//! [`StorageFile::view`](super::StorageFile::view) promises that the mapped part of the file is
//! neither shortened nor changed.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::disk::mapping::Mapping;

/// Bytes of a file, mapped or in memory. Cheap to clone.
#[derive(Clone)]
pub struct FileView(Source);

#[derive(Clone)]
enum Source {
    Mapped(Arc<Mapping>),
    Copied(Arc<[u8]>),
    /// The first `bytes` of the content of a file in memory. The file copies the content before it
    /// writes again.
    Shared {
        content: Arc<Vec<u8>>,
        bytes: usize,
    },
}

impl FileView {
    /// Creates a view of bytes in memory.
    pub(crate) fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(Source::Copied(bytes.into()))
    }

    pub(super) fn from_mapping(mapping: Mapping) -> Self {
        Self(Source::Mapped(Arc::new(mapping)))
    }

    /// Creates a view of the first `bytes` of a content that has at least as many.
    pub(super) fn from_shared(content: Arc<Vec<u8>>, bytes: usize) -> Self {
        assert!(
            bytes <= content.len(),
            "a view of {bytes} bytes is longer than its content of {}",
            content.len()
        );
        Self(Source::Shared { content, bytes })
    }
}

impl Deref for FileView {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Mapped(mapping) => mapping,
            Source::Copied(bytes) => bytes,
            Source::Shared { content, bytes } => content.get(..*bytes).unwrap_or_default(),
        }
    }
}

impl fmt::Debug for FileView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileView({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_of_memory_shares_the_content() {
        let content = Arc::new(b"records".to_vec());
        let view = FileView::from_shared(Arc::clone(&content), 3);
        assert_eq!(&*view, b"rec");
        assert_eq!(view.as_ptr(), content.as_ptr());
        assert_eq!(view.clone().as_ptr(), content.as_ptr());
        assert_eq!(&*FileView::from_bytes(*b"abc"), b"abc");
        assert_eq!(format!("{view:?}"), "FileView(3 bytes)");
    }

    #[test]
    #[should_panic(expected = "a view of 4 bytes is longer than its content of 3")]
    fn a_view_that_is_longer_than_its_content_panics() {
        let _view = FileView::from_shared(Arc::new(b"abc".to_vec()), 4);
    }
}
