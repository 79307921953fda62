//! Remembers which files were read, and detects changes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pen_stream::files::{FileMark, mark};

use super::TlsError;
use crate::config::file_io::read_short;

/// The files and folders that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileMarks(BTreeMap<PathBuf, FileMark>);

impl FileMarks {
    /// Returns the same files in their current state.
    pub(super) fn again(&self) -> Self {
        Self(self.0.keys().map(|path| (path.clone(), mark(path))).collect())
    }

    /// State of a file: equal marks mean equal content.
    pub(super) fn of(&self, path: &Path) -> FileMark {
        self.0.get(path).copied().flatten()
    }
}

/// Reads files and remembers their state.
#[derive(Debug, Default)]
pub(super) struct TlsFileReader(RefCell<FileMarks>);

impl TlsFileReader {
    /// Remembers a file or folder without reading it.
    pub(super) fn note(&self, path: &Path) {
        // Before reading: a change during the read is then noticed later.
        let mark = mark(path);
        self.0.borrow_mut().0.insert(path.to_owned(), mark);
    }

    /// Reads a file.
    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, TlsError> {
        self.note(path);
        read_short(path).map_err(|error| TlsError::new(path, format!("cannot read it: {error}")))
    }

    /// Lists a folder, sorted; empty if it cannot be read.
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

    /// Returns whether all remembered files are unchanged.
    pub(super) fn are_as(&self, paths: &[&PathBuf], then: &FileMarks) -> bool {
        let now = self.0.borrow();
        paths.iter().all(|path| now.of(path) == then.of(path))
    }

    /// Returns the remembered files.
    pub(super) fn into_marks(self) -> FileMarks {
        self.0.into_inner()
    }
}
