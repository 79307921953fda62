//! Which files were read, and whether they are still what they were.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::TlsError;
use crate::config::files::read_short;

/// What tells a file from what it was: when it changed, how long it is, which one it is. `None` if
/// it is not there.
type FileMark = Option<(i64, i64, u64, u64)>;

/// The files and folders that were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileMarks(BTreeMap<PathBuf, FileMark>);

impl FileMarks {
    /// The same files as they are by now.
    pub(super) fn again(&self) -> Self {
        Self(self.0.keys().map(|path| (path.clone(), mark(path))).collect())
    }

    /// What is known of a file: the same mark is the same content.
    pub(super) fn of(&self, path: &Path) -> FileMark {
        self.0.get(path).copied().flatten()
    }
}

/// Reads files and notes which.
#[derive(Debug, Default)]
pub(super) struct FileReader(RefCell<FileMarks>);

impl FileReader {
    /// Notes a file or folder without reading it.
    pub(super) fn note(&self, path: &Path) {
        // Before it is read: what changes meanwhile shows then.
        let mark = mark(path);
        self.0.borrow_mut().0.insert(path.to_owned(), mark);
    }

    /// Reads a file.
    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, TlsError> {
        self.note(path);
        read_short(path).map_err(|error| TlsError::new(path, format!("cannot read it: {error}")))
    }

    /// What is in a folder, in order, if it can be read.
    pub(super) fn list(&self, folder: &Path) -> Result<Vec<PathBuf>, TlsError> {
        self.note(folder);
        let fail = |error| TlsError::new(folder, format!("cannot list it: {error}"));
        let entries = std::fs::read_dir(folder).map_err(fail)?;
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(fail)?.path());
        }
        paths.sort();
        Ok(paths)
    }

    /// Whether these files, which were noted, are what they were then.
    pub(super) fn are_as(&self, paths: &[&PathBuf], then: &FileMarks) -> bool {
        let now = self.0.borrow();
        paths.iter().all(|path| now.of(path) == then.of(path))
    }

    /// All that was looked at.
    pub(super) fn into_marks(self) -> FileMarks {
        self.0.into_inner()
    }
}

fn mark(path: &Path) -> FileMark {
    // Where a link leads to matters: that is how many programs put a new certificate in place.
    let what = |data: Metadata| (data.mtime(), data.mtime_nsec(), data.len(), data.ino());
    std::fs::metadata(path).ok().map(what)
}
