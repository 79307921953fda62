//! Temporary folders.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A temporary folder, removed when dropped unless the environment variable `PEN_STAGE_KEEP` is set.
///
/// All functions panic when the file system refuses: a test or a bench cannot go on without its files.
#[derive(Debug)]
pub struct TempFolder(TempDir);

impl TempFolder {
    /// Creates an empty folder that every user may read and enter: web servers change their user.
    ///
    /// # Panics
    /// If the system's folder for temporary files is not writable.
    #[must_use]
    pub fn new() -> Self {
        let mut folder = tempfile::Builder::new()
            .prefix("pen-test-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .expect("the folder for temporary files is writable");
        folder.disable_cleanup(std::env::var_os("PEN_STAGE_KEEP").is_some());
        // The umask may have taken rights away.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .expect("the folder belongs to this process");
        Self(folder)
    }

    /// Creates an empty folder in which every user may also create files.
    ///
    /// # Panics
    /// As [`Self::new`].
    #[must_use]
    pub fn writable_by_all() -> Self {
        let folder = Self::new();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777))
            .expect("the folder belongs to this process");
        folder
    }

    /// The path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of a file in the folder.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a whole file, and returns its path.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, bytes).expect("a temporary file can be written");
        path
    }

    /// Appends to a file, which need not exist.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn append(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let file = OpenOptions::new().append(true).create(true).open(self.join(name));
        file.and_then(|mut file| file.write_all(bytes.as_ref()))
            .expect("a temporary file can be written");
    }

    /// Returns the contents of a file.
    ///
    /// # Panics
    /// If the file cannot be read.
    #[must_use]
    pub fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        let path = self.join(name);
        fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    }

    /// Returns the names of all entries, sorted.
    ///
    /// # Panics
    /// If the folder is gone.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("the folder is there");
        let mut names: Vec<_> = entries
            .map(|entry| {
                entry.expect("the folder can be read").file_name().to_string_lossy().into_owned()
            })
            .collect();
        names.sort();
        names
    }
}

impl Default for TempFolder {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns how many lines a file holds: 0 if the file does not exist.
#[must_use]
pub fn line_count(path: &Path) -> usize {
    #[expect(clippy::naive_bytecount, reason = "log files of tests are small")]
    fs::read(path).map_or(0, |text| text.iter().filter(|&&byte| byte == b'\n').count())
}
