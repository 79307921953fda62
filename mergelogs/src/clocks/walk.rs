//! A look at a part of a log: what was said from about a time on.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::ControlFlow;

use pen_records::time::Timestamp;

use crate::config::Origin;
use crate::input::archive::{self, Compression};
use crate::input::heads::Head;
use crate::input::lines::{Block, LineReader};

/// Bytes passed over to reach the sample, where they have to be decompressed for that.
const PASSED: usize = 256 << 20;
/// Bytes read to find the next time when searching a plain file.
const PROBE: usize = 64 << 10;

/// What a line says, with its time.
pub(super) trait Parse<T>: FnMut(&[u8]) -> Option<(Timestamp, T)> {}
impl<T, F: FnMut(&[u8]) -> Option<(Timestamp, T)>> Parse<T> for F {}

/// Shows what was said from about `from` on, for `most` bytes. What cannot be read is left to the
/// merge to complain about.
pub(super) fn walk<T>(
    heads: &[&Head],
    from: Timestamp,
    most: usize,
    mut parse: impl Parse<T>,
    mut show: impl FnMut(Timestamp, T) -> ControlFlow<()>,
) {
    let first = heads.partition_point(|head| head.first_time <= from).saturating_sub(1);
    let (mut shown, mut passed) = (0, 0);
    for head in &heads[first..] {
        let Ok(mut reader) = open_near(head, from, &mut parse) else { continue };
        let mut block = Block::default();
        while let Some(next) = reader.next(block, PROBE) {
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

/// The time of the last line of a block that has one.
fn last_time<T>(block: &Block, parse: &mut impl Parse<T>) -> Option<Timestamp> {
    let text = &block.bytes[..block.filled];
    text.rsplit(|&byte| byte == b'\n').take(16).find_map(parse).map(|(time, _)| time)
}

/// Opens an input; a plain file not far before the first line of that time.
fn open_near<T>(head: &Head, from: Timestamp, parse: &mut impl Parse<T>) -> io::Result<LineReader> {
    let archive = archive::open(&head.origin, PROBE, None)?;
    if let Origin::File(path) = &head.origin
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

/// Halves a file until less than a probe is left before the first line of that time.
fn offset_before<T>(
    file: &mut File,
    from: Timestamp,
    parse: &mut impl Parse<T>,
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
