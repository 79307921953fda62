//! The pid file: locked while its owner lives, so that a second instance can't take it over, and
//! removed at the end even from inside a jail.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::process::ProcessError;

/// A pid file that this process holds.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    file: Flock<File>,
    /// Its folder, opened before any jail: the way back to it.
    folder: File,
    name: OsString,
}

impl PidFile {
    /// Creates and locks the file, but leaves what is in it.
    pub(crate) fn lock(path: &Path) -> Result<Self, ProcessError> {
        let fail = |deed| move |source| ProcessError::new(deed, path.display(), source);
        let name = path.file_name().ok_or_else(|| {
            ProcessError::new(
                "create the pid file",
                path.display(),
                io::ErrorKind::IsADirectory.into(),
            )
        })?;
        let folder =
            path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let folder = File::open(folder).map_err(fail("open the folder of the pid file"))?;
        // Between open and lock a leaving instance may remove the file: then what we locked is not
        // what the name stands for, and we begin again.
        for _ in 0..100 {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(path)
                .map_err(fail("create the pid file"))?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((mut file, _)) => {
                    let mut pid = String::new();
                    file.read_to_string(&mut pid).unwrap_or_default();
                    return Err(ProcessError::running(path, pid.trim()));
                }
            };
            let held = file.metadata().map_err(fail("look at the pid file"))?;
            let named = std::fs::symlink_metadata(path);
            if named.is_ok_and(|named| named.ino() == held.ino() && named.dev() == held.dev()) {
                return Ok(Self { path: path.into(), file, folder, name: name.into() });
            }
        }
        Err(ProcessError::new("lock the pid file", path.display(), io::ErrorKind::Deadlock.into()))
    }

    /// Writes our pid: decimal, no line end, as the old programs did.
    pub(crate) fn write(&mut self) -> Result<(), ProcessError> {
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        };
        write(&mut self.file)
            .map_err(|source| ProcessError::new("write the pid file", self.path.display(), source))
    }

    /// Removes the file; where the user we became may not, it is left empty.
    pub(crate) fn remove(self) {
        if unlinkat(&self.folder, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir).is_err()
            && let Err(error) = self.file.set_len(0)
        {
            tracing::warn!("cannot remove the pid file {}: {error}", self.path.display());
        }
    }
}
