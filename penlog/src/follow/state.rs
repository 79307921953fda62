//! The state file: a line `device inode offset path` for each followed file.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::id::FileId;

/// First line of a state file, so that penlog never overwrites a file of another kind.
const TITLE: &[u8] = b"penlog positions 1";

/// How far a file has been read and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilePosition {
    pub(super) id: FileId,
    pub(super) offset: u64,
    pub(super) path: PathBuf,
}

/// Reads a state file; returns `None` if there is none.
pub(super) fn load(path: &Path) -> io::Result<Option<Vec<FilePosition>>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut lines = bytes.split(|byte| *byte == b'\n');
    if lines.next() != Some(TITLE) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a state file of penlog"));
    }
    Ok(Some(lines.filter_map(position).collect()))
}

fn position(line: &[u8]) -> Option<FilePosition> {
    let mut words = line.splitn(4, |byte| *byte == b' ');
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
    let id = FileId { device: number()?, inode: number()? };
    let offset = number()?;
    let path = PathBuf::from(OsStr::from_bytes(words.next()?));
    Some(FilePosition { id, offset, path })
}

/// Writes a new state file and renames it over the old one. Paths that contain a line feed are left out: the format
/// cannot express them.
pub(super) fn save(path: &Path, positions: &[FilePosition]) -> io::Result<()> {
    let mut text = TITLE.to_vec();
    text.push(b'\n');
    for FilePosition { id, offset, path } in positions {
        let name = path.as_os_str().as_bytes();
        if !name.contains(&b'\n') {
            write!(text, "{} {} {offset} ", id.device, id.inode)?;
            text.extend_from_slice(name);
            text.push(b'\n');
        }
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, &text)?;
    std::fs::rename(&new, path)
}

/// Finds the file of a position: under its old path, or renamed in the same folder.
pub(super) fn find(position: &FilePosition) -> Option<PathBuf> {
    let is_it = |path: &Path| FileId::of(path) == Some(position.id);
    if is_it(&position.path) {
        return Some(position.path.clone());
    }
    let folder = position.path.parent().filter(|path| !path.as_os_str().is_empty());
    let entries = std::fs::read_dir(folder.unwrap_or_else(|| Path::new("."))).ok()?;
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).find(|path| is_it(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_as_they_were_written() {
        let folder = pen_testing::TempFolder::new();
        let file = folder.join("state");
        assert_eq!(load(&file).unwrap(), None);
        let path = PathBuf::from(OsStr::from_bytes(b"/var/log/a b \xFF.log"));
        let positions = vec![
            FilePosition { id: FileId { device: 1, inode: 2 }, offset: 3, path },
            FilePosition {
                id: FileId { device: u64::MAX, inode: 0 },
                offset: u64::MAX,
                path: "x".into(),
            },
        ];
        save(&file, &positions).unwrap();
        assert_eq!(load(&file).unwrap(), Some(positions));
        std::fs::write(&file, "something else\n").unwrap();
        assert!(load(&file).is_err());
        std::fs::write(&file, "penlog positions 1\n1 2 x /a\n1 2\n\n1 2 3 /a\n").unwrap();
        assert_eq!(load(&file).unwrap().unwrap().len(), 1, "what is damaged is left out");
    }
}
