//! Reads a part of a log, from about a given time on.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::ControlFlow;

use pen_archive::Compression;
use pen_records::time::Timestamp;

use crate::config::InputOrigin;
use crate::input::archive;
use crate::input::heads::InputHead;
use crate::input::lines::{LineReader, TextBlock};

/// Limit of decompressed bytes skipped to reach the sample.
const PASSED: usize = 256 << 20;
/// Bytes read to find the next time when searching a plain file.
const PROBE: usize = 64 << 10;

/// Parses a line to a value with its time.
pub(crate) trait ParseSample<T>: FnMut(&[u8]) -> Option<(Timestamp, T)> {}
impl<T, F: FnMut(&[u8]) -> Option<(Timestamp, T)>> ParseSample<T> for F {}

/// Visits the lines from about `from` on, for `most` bytes. Read errors are left to the merge, which
/// reports them.
pub(crate) fn walk<T>(
    heads: &[&InputHead],
    from: Timestamp,
    most: usize,
    mut parse: impl ParseSample<T>,
    mut show: impl FnMut(Timestamp, T) -> ControlFlow<()>,
) {
    let first = heads.partition_point(|head| head.first_time <= from).saturating_sub(1);
    let (mut shown, mut passed) = (0, 0);
    for head in &heads[first..] {
        let Ok(mut reader) = open_near(head, from, &mut parse) else { continue };
        let mut block = TextBlock::default();
        while let Some(next) = reader.next(block, PROBE.min(most)) {
            if last_time(&next, &mut parse).is_some_and(|last| last < from) {
                passed += next.filled;
            } else {
                for (time, said) in next.lines().filter_map(&mut parse) {
                    if time >= from && show(time, said).is_break() {
                        return;
                    }
                }
                shown += next.filled;
            }
            if shown >= most || passed >= PASSED {
                return;
            }
            block = next;
        }
    }
}

/// Returns the last time in a block.
fn last_time<T>(block: &TextBlock, parse: &mut impl ParseSample<T>) -> Option<Timestamp> {
    let text = &block.bytes[..block.filled];
    text.rsplit(|&byte| byte == b'\n').take(16).find_map(parse).map(|(time, _)| time)
}

/// Opens an input; a plain file is opened shortly before the first line of `from`.
fn open_near<T>(
    head: &InputHead,
    from: Timestamp,
    parse: &mut impl ParseSample<T>,
) -> io::Result<LineReader> {
    let archive = archive::open(&head.origin, PROBE, None)?;
    if let InputOrigin::File(path) = &head.origin
        && archive.compression == Compression::Plain
        && head.first_time < from
    {
        let mut file = File::open(path)?;
        let offset = offset_before(&mut file, from, parse)?;
        file.seek(SeekFrom::Start(offset))?;
        return Ok(LineReader::new(Box::new(file)));
    }
    Ok(LineReader::new(archive.bytes))
}

/// Bisects a file until less than a probe is left before the first line of `from`.
fn offset_before<T>(
    file: &mut File,
    from: Timestamp,
    parse: &mut impl ParseSample<T>,
) -> io::Result<u64> {
    let (mut low, mut high) = (0, file.metadata()?.len());
    let mut probe = vec![0; PROBE];
    while high - low > PROBE as u64 {
        let middle = low + (high - low) / 2;
        file.seek(SeekFrom::Start(middle))?;
        let read = file.read(&mut probe)?;
        let whole = memchr::memchr(b'\n', &probe[..read]).map_or(read, |end| end + 1);
        let mut lines = probe[whole..read].split(|&byte| byte == b'\n');
        match lines.find_map(&mut *parse) {
            Some((time, _)) if time < from => low = middle,
            _ => high = middle,
        }
    }
    Ok(low)
}
