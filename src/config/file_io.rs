//! File operations of the process: replacing a file as a whole, so that no reader sees half of it; reading a command
//! file; removing socket files at the end.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use nix::unistd::{UnlinkatFlags, unlinkat};
use pen_daemon::folder::folder_of;

/// Replaces the contents of `path` by `bytes` in one step. A path that is not a plain file, such as a pipe, is written to
/// instead.
///
/// # Errors
/// The folder is not writable, or the disk is full; the old file is unchanged then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A symbolic link stays a link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = fs::metadata(&path).ok();
    if before.as_ref().is_some_and(|before| !before.is_file()) {
        return OpenOptions::new().write(true).open(&path)?.write_all(bytes);
    }
    let (fresh, mut file) = create_beside(&path)?;
    let written = file.write_all(bytes).and_then(|()| match &before {
        Some(before) => file.set_permissions(before.permissions()),
        None => Ok(()),
    });
    let done = written.and_then(|()| fs::rename(&fresh, &path));
    if done.is_err() {
        let _ = fs::remove_file(&fresh); // Left over at worst.
    }
    done
}

/// Creates a file with an unused name in the same folder.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.display();
    let mut attempt = 0;
    loop {
        let fresh = path.with_file_name(format!(".{name}.{}.{attempt}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o644).open(&fresh) {
            Ok(file) => return Ok((fresh, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A temporary file, such as the file of a socket. Dropping the value removes the file, also after a chroot, unless another
/// file has the name by then.
#[derive(Debug)]
pub struct TemporaryFile {
    /// The folder of the file, opened before any chroot.
    folder: File,
    name: OsString,
    /// Device and inode number.
    id: (u64, u64),
}

impl TemporaryFile {
    /// Takes over the existing file `path`.
    ///
    /// # Errors
    /// The file does not exist, or the folder cannot be opened.
    pub fn at(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
        let folder = File::open(folder_of(path))?;
        let found = fs::symlink_metadata(path)?;
        Ok(Self { folder, name, id: (found.dev(), found.ino()) })
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let name = self.name.as_os_str();
        let found = fstatat(&self.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        if found.is_ok_and(|found| (found.st_dev, found.st_ino) == self.id) {
            // Without the right to remove it the file stays, and the next start replaces it.
            let _ = unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Reads a file of at most 16 MiB, such as a command file.
///
/// # Errors
/// The file cannot be read, or is longer.
pub fn read_short(path: &Path) -> io::Result<Vec<u8>> {
    const MOST: u64 = 16 << 20;
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::other("expected at most 16 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use pen_testing::TempFolder;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_keeps_its_mode() {
        let folder = TempFolder::new();
        let path = folder.join("page.html");
        replace(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_link_is_followed() {
        let folder = TempFolder::new();
        let (path, link) = (folder.join("page"), folder.join("link"));
        replace(&path, b"one").unwrap();
        symlink(&path, &link).unwrap();
        replace(&link, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_temporary_file_is_removed_unless_its_name_is_another_ones() {
        let folder = TempFolder::new();
        let path = folder.join("socket");
        fs::write(&path, "one").unwrap();
        drop(TemporaryFile::at(&path).unwrap());
        assert!(!path.exists());
        fs::write(&path, "one").unwrap();
        let ours = TemporaryFile::at(&path).unwrap();
        fs::write(folder.join("other"), "two").unwrap();
        fs::rename(folder.join("other"), &path).unwrap();
        drop(ours);
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_leaves_nothing() {
        let folder = TempFolder::new();
        assert!(replace(&folder.join("gone/page"), b"one").is_err());
        assert!(replace(Path::new("/"), b"one").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
