//! Copies of a followed file beside it: those of logrotate's `copytruncate`, and those that editors make.
//!
//! A copy is a new file with lines that were read already. It is known by its name, which begins as that of the followed
//! file does, and by its bytes: those before its end stand at the same place of the followed file. After a truncation
//! the bytes that were read last tell, and the lines behind them are read from the copy.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::content::{LogContent, bytes_at};
use super::file::FileStart;
use super::stream::{FileHead, StreamName};

/// Bytes that are compared.
const COMPARED: usize = 4 << 10;

/// The last bytes that were read of a file, up to `end`.
#[derive(Clone, Debug, Default)]
pub(super) struct LastBytes {
    bytes: Vec<u8>,
    end: u64,
}

impl LastBytes {
    /// The state of a file that is read from `offset` on.
    pub(super) const fn from_offset(offset: u64) -> Self {
        Self { bytes: Vec::new(), end: offset }
    }

    /// Takes bytes that were read.
    pub(super) fn take(&mut self, read: &[u8]) {
        self.end += read.len() as u64;
        let kept = read.len().min(COMPARED);
        let surplus = (self.bytes.len() + kept).saturating_sub(COMPARED);
        self.bytes.drain(..surplus);
        self.bytes.extend_from_slice(&read[read.len() - kept..]);
    }

    /// Returns where to begin in a copy of the file that these bytes are of; `None` for another file.
    fn start_in(&self, copy: &File, length: u64) -> io::Result<Option<u64>> {
        let start = self.end - self.bytes.len() as u64;
        let end = self.end.min(length);
        let Some(shared) = usize::try_from(end.saturating_sub(start)).ok().filter(|&it| it > 0)
        else {
            return Ok(None);
        };
        let is_same = bytes_at(copy, start, shared)? == self.bytes[..shared];
        Ok(is_same.then_some(end))
    }
}

/// The content of a file before a truncation.
#[derive(Clone, Debug)]
pub(super) struct OldContent {
    pub(super) last: LastBytes,
    /// The name of the stream.
    pub(super) name: Option<StreamName>,
}

impl OldContent {
    /// Returns the start in a copy; `None` if the file is no copy.
    fn start_in(&self, copy: &LogContent, file: &File) -> io::Result<Option<FileStart>> {
        let length = copy.len()?;
        let head = FileHead::of(copy)?.map(|head| head.hash());
        let has_head = self.name.is_some_and(|name| Some(name.head) == head);
        let start = match self.last.start_in(file, length)? {
            // Nothing was read by this run: an earlier one has.
            None if self.last.bytes.is_empty() && has_head => Some(self.last.end.min(length)),
            start => start,
        };
        // The lines behind go on in the same stream.
        let stream = self.name.filter(|_| has_head);
        Ok(start.map(|offset| FileStart { offset, stream, is_resumed: true }))
    }
}

/// What a new file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewFile {
    /// A log of its own.
    Log,
    /// Nothing that is not in the followed file, or nothing yet.
    Copy,
    /// A copy of what the followed file was before its truncation: the lines up to here were read.
    OldCopy(FileStart),
}

/// Compares a new file with a followed one, and with what was read of it before its last truncation.
pub(super) fn compare(
    new: &Path,
    followed: (&Path, &File),
    before: Option<&OldContent>,
) -> io::Result<NewFile> {
    if !is_name_of_copy(new, followed.0) {
        return Ok(NewFile::Log);
    }
    let content = LogContent::open(new)?;
    let Some(file) = content.plain() else { return Ok(NewFile::Log) };
    let length = content.len()?;
    if length == 0 {
        return Ok(NewFile::Copy);
    }
    if let Some(start) = before.map(|before| before.start_in(&content, file)).transpose()?.flatten()
    {
        return Ok(NewFile::OldCopy(start));
    }
    let compared = length.min(COMPARED as u64);
    let count = usize::try_from(compared).unwrap_or(COMPARED);
    let ends = [file, followed.1].map(|file| bytes_at(file, length - compared, count));
    let [end, same] = ends;
    Ok(if end? == same? { NewFile::Copy } else { NewFile::Log })
}

/// Whether a file is in the same folder, and its name begins as the other's does, but for the ending.
pub(super) fn is_name_of_copy(new: &Path, followed: &Path) -> bool {
    let (Some(name), Some(stem)) = (new.file_name(), followed.file_stem()) else { return false };
    new != followed
        && new.parent() == followed.parent()
        && name.as_bytes().starts_with(stem.as_bytes())
}

#[cfg(test)]
mod tests {
    use pen_records::shipment::StreamId;

    use super::*;

    fn read(texts: &[&str]) -> LastBytes {
        let mut last = LastBytes::from_offset(0);
        texts.iter().for_each(|text| last.take(text.as_bytes()));
        last
    }

    #[test]
    fn a_copy_is_known_by_its_name_and_its_bytes() {
        let folder = pen_testing::TempFolder::new();
        let log = folder.write("access.log", "one\ntwo\nthree\n");
        let file = File::open(&log).unwrap();
        let old = OldContent { last: read(&["zero\n", "half\n"]), name: None };
        let head = xxhash_rust::xxh3::xxh3_64(b"zero\n");
        let name = Some(StreamName { id: StreamId::default(), head });
        let earlier = OldContent { last: LastBytes::from_offset(10), name };
        let copy =
            |offset, stream| NewFile::OldCopy(FileStart { offset, stream, is_resumed: true });
        let (old_copy, named_copy) = (|offset| copy(offset, None), |offset| copy(offset, name));
        for (name, text, before, expected) in [
            ("access.log~", "one\ntwo\n", None, NewFile::Copy),
            ("access.log.1", "one\ntwo\nthree\n", None, NewFile::Copy),
            ("access.1.log", "", None, NewFile::Copy),
            ("access.log.2", "one\ntwo\nother\n", None, NewFile::Log),
            ("access.log.3", "one\ntwo\nthree\nfour\n", None, NewFile::Log),
            ("error.log", "one\ntwo\n", None, NewFile::Log),
            ("access.log.4", "zero\nhalf\n", Some(&old), old_copy(10)),
            ("access.log.5", "zero\nhalf\nlate\n", Some(&old), old_copy(10)),
            ("access.log.6", "zero\nha", Some(&old), old_copy(7)),
            ("access.log.7", "zero\nfull\n", Some(&old), NewFile::Log),
            ("access.log.8", "zero\nhalf\nlate\n", Some(&earlier), named_copy(10)),
            ("access.log.9", "full\nhalf\nlate\n", Some(&earlier), NewFile::Log),
        ] {
            let new = folder.write(name, text);
            assert_eq!(compare(&new, (&log, &file), before).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn the_last_bytes_are_kept() {
        let text: String = (0..5_000).map(|number| format!("line {number}\n")).collect();
        let mut last = LastBytes::from_offset(7);
        for part in text.as_bytes().chunks(700) {
            last.take(part);
        }
        assert_eq!(last.end, 7 + text.len() as u64);
        assert_eq!(last.bytes, text.as_bytes()[text.len() - COMPARED..]);
        last.take(text.as_bytes());
        assert_eq!(last.bytes, text.as_bytes()[text.len() - COMPARED..]);
    }
}
