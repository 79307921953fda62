//! The beginnings and ends of inputs.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use pen_archive::Compression;
use pen_records::time::Timestamp;

use super::facts::TimeSpan;
use crate::config::InputOrigin;
use crate::input::archive;
use crate::input::heads::InputHead;
use crate::input::lines::{LineReader, TextBlock};

/// Bytes read at once.
const BLOCK: usize = 64 << 10;
/// Decompressed bytes read to find the last time in an archive.
const ARCHIVE: usize = 128 << 20;

/// Whether the last times of archives are looked for, which takes as long as to read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArchiveEnds {
    Read,
    Skip,
}

/// Shows the lines of the first `most` bytes of an input, and returns the number of bytes. Errors are left to the
/// merge.
pub(super) fn lines_of(head: &InputHead, most: usize, mut show: impl FnMut(&[u8])) -> usize {
    let mut seen = 0;
    let Some(mut reader) = open(head) else { return 0 };
    let mut block = TextBlock::default();
    while seen < most
        && let Some(next) = reader.next(block, BLOCK)
    {
        next.lines().for_each(&mut show);
        seen += next.filled;
        block = next;
    }
    seen.min(most)
}

fn open(head: &InputHead) -> Option<LineReader> {
    let archive = head.repeatable.then(|| archive::open(&head.origin, BLOCK, None))?;
    Some(LineReader::new(archive.ok()?.bytes))
}

/// Returns the span of the times in the last lines of an input. Of a large archive, the end is not looked for.
pub(super) fn last_time(
    head: &InputHead,
    ends: ArchiveEnds,
    mut time: impl FnMut(&[u8]) -> Option<Timestamp>,
) -> Option<TimeSpan> {
    let text = head.repeatable.then(|| last_text(head, ends).ok()).flatten()?;
    let lines = text.split(|&byte| byte == b'\n');
    lines.filter_map(&mut time).fold(None, TimeSpan::with)
}

fn last_text(head: &InputHead, ends: ArchiveEnds) -> io::Result<Vec<u8>> {
    let archive = archive::open(&head.origin, BLOCK, None)?;
    if let InputOrigin::File(path) = &head.origin
        && archive.compression == Compression::Plain
    {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let start = length.saturating_sub(BLOCK as u64);
        file.seek(SeekFrom::Start(start))?;
        let mut text = Vec::new();
        file.take(BLOCK as u64).read_to_end(&mut text)?;
        // The first line of a part may be cut.
        let whole =
            if start > 0 { memchr::memchr(b'\n', &text).map_or(0, |end| end + 1) } else { 0 };
        text.drain(..whole);
        return Ok(text);
    }
    if ends == ArchiveEnds::Skip {
        return Ok(Vec::new());
    }
    let mut reader = LineReader::new(archive.bytes);
    let (mut seen, mut last) = (0, TextBlock::default());
    let mut used = TextBlock::default();
    while let Some(next) = reader.next(used, BLOCK) {
        seen += next.filled;
        if seen > ARCHIVE {
            return Ok(Vec::new());
        }
        used = std::mem::replace(&mut last, next);
    }
    last.bytes.truncate(last.filled);
    Ok(last.bytes)
}
