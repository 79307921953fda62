//! What a journal needs of a disk: a folder of files that only grow.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Files of one folder, by name.
pub trait Disk {
    /// An open file.
    type File: DiskFile;

    /// Returns the names of all files, in no order.
    ///
    /// # Errors
    /// The folder cannot be read.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Creates a file for appending.
    ///
    /// # Errors
    /// There is such a file, or it cannot be created.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// There is no such file, or it cannot be read.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Removes a file.
    ///
    /// # Errors
    /// There is no such file, or it cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes created and removed names durable.
    ///
    /// # Errors
    /// The disk refuses.
    fn sync_names(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Sized {
    /// Appends some bytes, perhaps not all; returns how many.
    ///
    /// # Errors
    /// The disk is full or fails.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts the file to a length.
    ///
    /// # Errors
    /// The disk fails.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Reads some bytes from an offset; 0 at the end.
    ///
    /// # Errors
    /// The disk fails.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes all bytes durable.
    ///
    /// # Errors
    /// The disk fails; some bytes may be lost.
    fn sync(&self) -> io::Result<()>;

    /// Returns the same file once more, to be synced by another thread.
    ///
    /// # Errors
    /// No descriptor is left.
    fn again(&self) -> io::Result<Self>;
}

/// A folder of a file system.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Uses the folder `path`; creates it if missing, for its owner alone.
    ///
    /// # Errors
    /// It cannot be created, or is no folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        let meta = fs::metadata(path)?;
        if !meta.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        // Whoever may make files here could have segments lead to other files.
        if meta.mode() & 0o022 != 0 {
            let text = format!("others may write into {} (chmod go-w)", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Self(path.to_owned()))
    }
}

impl Disk for Folder {
    type File = File;

    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn create(&self, name: &str) -> io::Result<File> {
        // `create_new` follows no link.
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(0o600).open(self.0.join(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let path = self.0.join(name);
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        if !fs::symlink_metadata(&path).map_err(named)?.is_file() {
            return Err(named(io::Error::other("it is no plain file")));
        }
        OpenOptions::new().read(true).append(true).open(&path).map_err(named)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn again(&self) -> io::Result<Self> {
        self.try_clone()
    }
}
