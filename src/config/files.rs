//! Files that are replaced as a whole: whoever reads one sees the old text or the new, never half. And the
//! files of sockets, which are removed at the end if they still are ours.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Writes `bytes` under this name. What is no plain file, such as a pipe, is written to as it is.
///
/// # Errors
/// The folder can't be written to, or the disk is full; the old file is untouched then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A link stays one.
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
        // It would only lie about.
        fs::remove_file(&fresh).unwrap_or_default();
    }
    done
}

/// A new file with a name of its own in the same folder.
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

/// A file that was made for a while, such as a socket's. Dropping this removes it, even from inside of
/// a jail, unless another one has its name by now.
#[derive(Debug)]
pub struct TemporaryFile {
    /// Opened before any jail: the way back to it.
    folder: File,
    name: OsString,
    /// Device and number.
    id: (u64, u64),
}

impl TemporaryFile {
    /// The file of this name, which is ours.
    ///
    /// # Errors
    /// It is not there, or its folder can't be opened.
    pub fn at(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or_else(|| Path::new(".")))?;
        let found = fs::symlink_metadata(path)?;
        Ok(Self { folder, name, id: (found.dev(), found.ino()) })
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let name = self.name.as_os_str();
        let found = fstatat(&self.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        if found.is_ok_and(|found| (found.st_dev, found.st_ino) == self.id) {
            // Without the right to do so it stays, and the next start replaces it.
            unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir).unwrap_or_default();
        }
    }
}

/// Reads a file, as long as it is no longer than files of commands are.
///
/// # Errors
/// It can't be read, or is too long.
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

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("pen-files-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap_or_default();
        }
    }

    #[test]
    fn a_file_is_replaced_and_keeps_its_mode() {
        let folder = Folder::new("mode");
        let path = folder.0.join("page.html");
        replace(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_link_is_followed() {
        let folder = Folder::new("link");
        let (path, link) = (folder.0.join("page"), folder.0.join("link"));
        replace(&path, b"one").unwrap();
        symlink(&path, &link).unwrap();
        replace(&link, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_temporary_file_is_removed_unless_its_name_is_another_ones() {
        let folder = Folder::new("temporary");
        let path = folder.0.join("socket");
        fs::write(&path, "one").unwrap();
        drop(TemporaryFile::at(&path).unwrap());
        assert!(!path.exists());
        fs::write(&path, "one").unwrap();
        let ours = TemporaryFile::at(&path).unwrap();
        fs::write(folder.0.join("other"), "two").unwrap();
        fs::rename(folder.0.join("other"), &path).unwrap();
        drop(ours);
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_leaves_nothing() {
        let folder = Folder::new("error");
        assert!(replace(&folder.0.join("gone/page"), b"one").is_err());
        assert!(replace(Path::new("/"), b"one").is_err());
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
    }
}
