//! The pid file: locked while its owner lives, so that no second instance can take it over, and removed at the end even from
//! inside a chroot.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{ActionError, Doing as _};
use crate::folder::folder_of;

/// A pid file locked by this process.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    file: Flock<File>,
    /// The folder of the file, opened before any chroot, to remove the file by.
    folder: File,
    name: OsString,
}

impl PidFile {
    /// Creates and locks the file without changing its content.
    pub(crate) fn lock(path: &Path) -> Result<Self, ActionError> {
        let shown = path.display();
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory));
        let name = name.doing(format_args!("create the pid file {shown}"))?;
        let folder = File::open(folder_of(path))
            .doing(format_args!("open the folder of the pid file {shown}"))?;
        // Between open and lock, an instance that exits may remove the file; then the locked file has lost its name: try again.
        for _ in 0..100 {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(path)
                .doing(format_args!("create the pid file {shown}"))?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((mut file, _)) => {
                    let mut pid = String::new();
                    // An unreadable pid is left out of the message.
                    let _ = file.read_to_string(&mut pid);
                    return Err(already_running(path, pid.trim()));
                }
            };
            let held = file.metadata().doing(format_args!("look at the pid file {shown}"))?;
            let named = std::fs::symlink_metadata(path);
            if named.is_ok_and(|named| named.ino() == held.ino() && named.dev() == held.dev()) {
                return Ok(Self { path: path.into(), file, folder, name: name.into() });
            }
        }
        let busy = io::Error::from(io::ErrorKind::Deadlock);
        Err(ActionError::cannot(format_args!("lock the pid file {shown}"), busy))
    }

    /// Returns the folder of the file.
    pub(crate) const fn folder(&self) -> &File {
        &self.folder
    }

    /// Writes the pid: decimal, without a line feed, as the C programs did.
    pub(crate) fn write(&mut self) -> Result<(), ActionError> {
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        };
        write(&mut self.file).doing(format_args!("write the pid file {}", self.path.display()))
    }

    /// Removes the file, or empties it where the user after a change of user may not remove it.
    pub(crate) fn remove(self) {
        if unlinkat(&self.folder, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir).is_err()
            && let Err(error) = self.file.set_len(0)
        {
            tracing::warn!("cannot remove the pid file {}: {error}", self.path.display());
        }
    }
}

fn already_running(path: &Path, pid: &str) -> ActionError {
    let pid = if pid.is_empty() { String::new() } else { format!(" as process {pid}") };
    ActionError::new(format!("already running{pid}: the pid file {} is locked", path.display()))
}
