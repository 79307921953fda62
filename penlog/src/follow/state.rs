//! The state file: a line `device inode offset path` for each followed file, and a line `collector host port` if the
//! collector there has been one of this package.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::id::FileId;

/// First line of a state file, so that penlog never overwrites a file of another kind.
const TITLE: &[u8] = b"penlog positions 1";

/// First word of the line about the collector.
const COLLECTOR: &[u8] = b"collector ";

/// What an earlier run left for this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShipperState {
    pub(super) positions: Vec<FilePosition>,
    /// Host and port of the collector, as the command line named it, if it has been one of this package.
    pub(crate) collector: Option<String>,
}

/// How far a file has been read and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilePosition {
    pub(super) id: FileId,
    pub(super) offset: u64,
    pub(super) path: PathBuf,
}

/// Reads a state file; returns `None` if there is none.
pub(crate) fn load(path: &Path) -> io::Result<Option<ShipperState>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut lines = bytes.split(|byte| *byte == b'\n');
    if lines.next() != Some(TITLE) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a state file of penlog"));
    }
    let mut state = ShipperState::default();
    for line in lines {
        match line.strip_prefix(COLLECTOR) {
            Some(name) => state.collector = String::from_utf8(name.to_vec()).ok(),
            None => state.positions.extend(position(line)),
        }
    }
    Ok(Some(state))
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
/// cannot express them. Nothing is written through a link that somebody placed there.
pub(super) fn save(path: &Path, state: &ShipperState) -> io::Result<()> {
    let mut text = TITLE.to_vec();
    text.push(b'\n');
    if let Some(collector) = &state.collector {
        text.extend([COLLECTOR, collector.as_bytes(), b"\n"].concat());
    }
    for FilePosition { id, offset, path } in &state.positions {
        let name = path.as_os_str().as_bytes();
        if !name.contains(&b'\n') {
            write!(text, "{} {} {offset} ", id.device, id.inode)?;
            text.extend_from_slice(name);
            text.push(b'\n');
        }
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    // A run that was killed may have left one.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(&new)?;
    file.write_all(&text)?;
    // Without this a power cut may leave an empty file under the new name.
    file.sync_data()?;
    fs::rename(&new, path)
}

/// Finds the file of a position: under its old path, or renamed in the same folder.
pub(super) fn find(position: &FilePosition) -> Option<PathBuf> {
    let is_it = |path: &Path| FileId::of(path) == Some(position.id);
    if is_it(&position.path) {
        return Some(position.path.clone());
    }
    let folder = position.path.parent().filter(|path| !path.as_os_str().is_empty());
    let entries = fs::read_dir(folder.unwrap_or_else(|| Path::new("."))).ok()?;
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).find(|path| is_it(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> ShipperState {
        let path = PathBuf::from(OsStr::from_bytes(b"/var/log/a b \xFF.log"));
        let id = FileId { device: u64::MAX, inode: 0 };
        let positions = vec![
            FilePosition { id: FileId { device: 1, inode: 2 }, offset: 3, path },
            FilePosition { id, offset: u64::MAX, path: "x".into() },
        ];
        ShipperState { positions, collector: Some("log.example.org 10000".into()) }
    }

    #[test]
    fn positions_read_as_they_were_written() {
        let folder = pen_testing::TempFolder::new();
        let file = folder.join("state");
        assert_eq!(load(&file).unwrap(), None);
        for state in [state(), ShipperState { collector: None, ..state() }] {
            save(&file, &state).unwrap();
            assert_eq!(load(&file).unwrap(), Some(state));
        }
        fs::write(&file, "something else\n").unwrap();
        assert!(load(&file).is_err());
        fs::write(&file, "penlog positions 1\n1 2 x /a\n1 2\n\n1 2 3 /a\n").unwrap();
        let state = load(&file).unwrap().unwrap();
        assert_eq!(state.positions.len(), 1, "what is damaged is left out");
    }

    #[test]
    fn a_link_in_place_of_the_file_is_replaced_and_its_target_left_alone() {
        let folder = pen_testing::TempFolder::new();
        let target = folder.write("passwd", "root\n");
        for name in ["state", "state.new"] {
            std::os::unix::fs::symlink(&target, folder.join(name)).unwrap();
        }
        save(&folder.join("state"), &state()).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"root\n");
        assert_eq!(load(&folder.join("state")).unwrap(), Some(state()));
    }
}
