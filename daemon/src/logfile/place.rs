//! Places in log files, for a later run to find the lines written by an earlier run.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::folder::folder_of;

/// Where a line begins in a plain file, or the next one will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// Device of the file.
    pub device: u64,
    /// The file's number on the device.
    pub inode: u64,
    /// Bytes before the line.
    pub offset: u64,
}

/// The lines behind a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinesBehind {
    /// The count of whole lines. A torn line at the end, left by a killed process, was cut off, and so were all bytes
    /// from a zero byte on, left by a power cut.
    Lines(u64),
    /// The file has become shorter: cut by an operator or a program.
    Shorter,
    /// The file is gone.
    Gone,
}

/// Counts the lines behind a place in the log at `path`, or renamed since in the same folder.
///
/// # Errors
/// The file cannot be read, or not be cut.
pub fn lines_behind(path: &Path, place: LogPlace) -> io::Result<LinesBehind> {
    let Some(path) = find(path, place)? else { return Ok(LinesBehind::Gone) };
    let mut file = open(&path)?;
    if file.metadata()?.len() < place.offset {
        return Ok(LinesBehind::Shorter);
    }
    file.seek(SeekFrom::Start(place.offset))?;
    let (mut lines, mut whole, mut at) = (0, place.offset, place.offset);
    let mut block = vec![0; 256 << 10];
    'file: loop {
        let len = match file.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            len => len?,
        };
        if len == 0 {
            break;
        }
        for &byte in &block[..len] {
            at += 1;
            match byte {
                b'\n' => (lines, whole) = (lines + 1, at),
                0 => break 'file,
                _ => {}
            }
        }
    }
    if file.metadata()?.len() > whole {
        file.set_len(whole)?;
    }
    Ok(LinesBehind::Lines(lines))
}

/// Finds the file of a place: at `path`, or renamed in the same folder.
fn find(path: &Path, place: LogPlace) -> io::Result<Option<PathBuf>> {
    let is_it = |meta: fs::Metadata| meta.dev() == place.device && meta.ino() == place.inode;
    if fs::metadata(path).is_ok_and(is_it) {
        return Ok(Some(path.to_owned()));
    }
    for entry in fs::read_dir(folder_of(path))? {
        let entry = entry?;
        if entry.metadata().is_ok_and(is_it) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &Path, offset: u64) -> LogPlace {
        let meta = fs::metadata(path).expect("it is there");
        LogPlace { device: meta.dev(), inode: meta.ino(), offset }
    }

    #[test]
    fn lines_are_counted_and_a_torn_end_is_cut_off() {
        let folder = pen_testing::TempFolder::new();
        for (text, lines, left) in [
            ("one\n", 0, "one\n"),
            ("one\ntwo\nthree\n", 2, "one\ntwo\nthree\n"),
            ("one\ntwo\nthr", 1, "one\ntwo\n"),
            ("one\nthr", 0, "one\n"),
            ("one\ntwo\n\0\0\0\nfour\n", 1, "one\ntwo\n"),
        ] {
            let log = folder.write("log", text);
            let place = place(&log, 4);
            assert_eq!(lines_behind(&log, place).unwrap(), LinesBehind::Lines(lines), "{text:?}");
            assert_eq!(fs::read_to_string(&log).unwrap(), left);
            let renamed = folder.join("log.1");
            fs::rename(&log, &renamed).unwrap();
            folder.write("log", "");
            assert_eq!(lines_behind(&log, place).unwrap(), LinesBehind::Lines(lines), "renamed");
            fs::write(&renamed, "on").unwrap();
            assert_eq!(lines_behind(&log, place).unwrap(), LinesBehind::Shorter);
            fs::remove_file(&renamed).unwrap();
            assert_eq!(lines_behind(&log, place).unwrap(), LinesBehind::Gone);
        }
    }
}
