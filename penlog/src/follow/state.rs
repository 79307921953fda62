//! The state file.
//!
//! - `device inode offset path`: position in a followed file.
//! - `stream device inode id head`: name of the file's stream, and hash of the first bytes, in hexadecimal digits.
//! - `collector host port`: address of a collector of this package.
//! - `host key`: name of the host, where the system has none.
//!
//! Releases before streams skip unknown lines.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use pen_daemon::folder::folder_of;
use pen_records::shipment::StreamId;

use super::id::FileId;
use super::rotated::head_of;
use super::stream::{HostKey, StreamName};

/// First line of a state file, so that penlog never overwrites a file of another kind.
const TITLE: &[u8] = b"penlog positions 1";

/// First words of lines.
const COLLECTOR: &[u8] = b"collector ";
const STREAM: &[u8] = b"stream ";
const HOST: &[u8] = b"host ";

/// What an earlier run left for this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShipperState {
    pub(super) positions: Vec<FilePosition>,
    /// Host and port of the collector, as the command line named it, if it has been one of this package.
    pub(crate) collector: Option<String>,
    /// The name of the host, where the system has none.
    pub(super) host: Option<HostKey>,
}

/// How far a file has been read and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilePosition {
    pub(super) id: FileId,
    pub(super) offset: u64,
    pub(super) path: PathBuf,
    /// `None` if the first line was not whole, or from a release before streams.
    pub(super) stream: Option<StreamName>,
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
        if let Some(name) = line.strip_prefix(COLLECTOR) {
            state.collector = String::from_utf8(name.to_vec()).ok();
        } else if let Some(key) = line.strip_prefix(HOST) {
            state.host = Some(HostKey(key.to_vec()));
        } else if let Some((id, name)) = line.strip_prefix(STREAM).and_then(stream) {
            let mut of_file = state.positions.iter_mut().filter(|position| position.id == id);
            of_file.by_ref().for_each(|position| position.stream = Some(name));
        } else {
            state.positions.extend(position(line));
        }
    }
    Ok(Some(state))
}

fn stream(words: &[u8]) -> Option<(FileId, StreamName)> {
    let mut words = std::str::from_utf8(words).ok()?.split(' ');
    let id = FileId { device: words.next()?.parse().ok()?, inode: words.next()?.parse().ok()? };
    let stream = u128::from_str_radix(words.next()?, 16).ok()?;
    let head = u64::from_str_radix(words.next()?, 16).ok()?;
    Some((id, StreamName { id: StreamId(stream.to_be_bytes()), head }))
}

fn position(line: &[u8]) -> Option<FilePosition> {
    let mut words = line.splitn(4, |byte| *byte == b' ');
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
    let id = FileId { device: number()?, inode: number()? };
    let offset = number()?;
    let path = PathBuf::from(OsStr::from_bytes(words.next()?));
    Some(FilePosition { id, offset, path, stream: None })
}

/// Writes a new state file and renames it over the old one. Paths that contain a line feed are left out: the format
/// cannot express them. Nothing is written through a link that somebody placed there.
pub(super) fn save(path: &Path, state: &ShipperState) -> io::Result<()> {
    let mut text = TITLE.to_vec();
    text.push(b'\n');
    if let Some(collector) = &state.collector {
        text.extend([COLLECTOR, collector.as_bytes(), b"\n"].concat());
    }
    if let Some(HostKey(key)) = &state.host {
        text.extend([HOST, key, b"\n"].concat());
    }
    for FilePosition { id, offset, path, stream } in &state.positions {
        let name = path.as_os_str().as_bytes();
        if !name.contains(&b'\n') {
            write!(text, "{} {} {offset} ", id.device, id.inode)?;
            text.extend_from_slice(name);
            text.push(b'\n');
            if let Some(StreamName { id: StreamId(stream), head }) = stream {
                let stream = u128::from_be_bytes(*stream);
                writeln!(text, "stream {} {} {stream:032x} {head:016x}", id.device, id.inode)?;
            }
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

/// Finds the file of a position: under the old path, or renamed in the same folder. Device and inode have to be equal, and so
/// do the first bytes; with equal first bytes, the device may differ.
pub(super) fn find(position: &FilePosition) -> Option<PathBuf> {
    let is_it = |path: &Path| FileId::of(path).is_some_and(|id| is_same(position, id, path));
    if is_it(&position.path) {
        return Some(position.path.clone());
    }
    let entries = fs::read_dir(folder_of(&position.path)).ok()?;
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).find(|path| is_it(path))
}

fn is_same(position: &FilePosition, id: FileId, path: &Path) -> bool {
    match position.stream {
        None => id == position.id,
        // At its old path it may have been truncated: its owner says so.
        Some(_) if id == position.id && path == position.path => true,
        Some(stream) => id.inode == position.id.inode && head_of(path) == Some(stream.head),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> ShipperState {
        let path = PathBuf::from(OsStr::from_bytes(b"/var/log/a b \xFF.log"));
        let id = FileId { device: u64::MAX, inode: 0 };
        let stream = StreamName { id: StreamId([0xFE; 16]), head: 7 };
        let positions = vec![
            FilePosition { id: FileId { device: 1, inode: 2 }, offset: 3, path, stream: None },
            FilePosition { id, offset: u64::MAX, path: "x".into(), stream: Some(stream) },
        ];
        let host = Some(HostKey(b"0123".to_vec()));
        ShipperState { positions, collector: Some("log.example.org 10000".into()), host }
    }

    #[test]
    fn positions_read_as_they_were_written() {
        let folder = pen_testing::TempFolder::new();
        let file = folder.join("state");
        assert_eq!(load(&file).unwrap(), None);
        for state in [state(), ShipperState { collector: None, host: None, ..state() }] {
            save(&file, &state).unwrap();
            assert_eq!(load(&file).unwrap(), Some(state));
        }
        fs::write(&file, "something else\n").unwrap();
        assert!(load(&file).is_err());
        fs::write(
            &file,
            "penlog positions 1\n1 2 x /a\n1 2\n\n1 2 3 /a\nstream 1 2 x\nstream 1 2 7\n",
        )
        .unwrap();
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
