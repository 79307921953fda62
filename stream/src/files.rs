//! Files of keys and certificates: who may read them, and whether they have changed.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Most bytes read of a file: authorities of a whole system have 250 KiB.
const LONGEST: u64 = 4 << 20;

/// Reads a file that others may read.
///
/// # Errors
/// The file cannot be read, or is too long.
pub fn read(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    File::open(path).and_then(all).map_err(|error| KeyFileError::new(path, error.to_string()))
}

/// Reads a file with a private key, which has mode 0600.
///
/// # Errors
/// As [`read`], or others than the owner can use the file.
pub fn read_private(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let fail = |why: String| KeyFileError::new(path, why);
    let file = File::open(path).map_err(|error| fail(error.to_string()))?;
    let meta = file.metadata().map_err(|error| fail(error.to_string()))?;
    if meta.mode() & 0o077 != 0 {
        let mode = meta.mode() & 0o777;
        return Err(fail(format!(
            "others than its owner can use the private key (mode {mode:04o}): run chmod 600 {}",
            path.display()
        )));
    }
    all(file).map_err(|error| fail(error.to_string()))
}

fn all(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 4 MiB"));
    }
    Ok(bytes)
}

/// Modification time, size and inode of a file; `None` if the file is missing. Equal marks mean equal content.
pub type FileMark = Option<(i64, i64, u64, u64)>;

/// Returns the present mark of a file.
#[must_use]
pub fn mark(path: &Path) -> FileMark {
    // Follows symbolic links: many programs install a certificate by changing a link.
    let what = |data: Metadata| (data.mtime(), data.mtime_nsec(), data.len(), data.ino());
    std::fs::metadata(path).ok().map(what)
}

/// An unusable file of a key, a certificate or authorities.
#[derive(Clone, Debug)]
pub struct KeyFileError {
    path: PathBuf,
    why: String,
}

impl KeyFileError {
    pub(crate) fn new(path: &Path, why: impl Into<String>) -> Self {
        Self { path: path.to_owned(), why: why.into() }
    }
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for KeyFileError {}
