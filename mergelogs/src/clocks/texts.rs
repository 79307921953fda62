//! Texts that can be read at any place: plain files, and the beginnings of compressed ones.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use pen_archive::Compression;
use pen_records::time::Timestamp;

use crate::config::InputOrigin;
use crate::input::archive;
use crate::input::lines::LineSpans;

/// Bytes read to find a time.
const PROBE: usize = 4 << 10;

/// Lines as long as this are read whole.
const LONGEST: usize = 1 << 20;

/// A text that can be read at any place.
pub(super) struct SeekableText {
    source: TextSource,
    len: u64,
}

enum TextSource {
    File(File),
    Memory(Vec<u8>),
}

/// Whole lines of a text, and the offset of the first.
pub(super) struct TextPart {
    pub(super) from: u64,
    /// The lines, behind the end of the line before them.
    bytes: Vec<u8>,
    skipped: usize,
}

impl TextPart {
    /// Returns the offset behind the last line.
    pub(super) fn to(&self) -> u64 {
        self.from + self.text().len() as u64
    }

    /// Returns each line and its offset.
    pub(super) fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let text = self.text();
        LineSpans::new(text).map(|(start, end)| (self.from + start as u64, &text[start..end]))
    }

    fn text(&self) -> &[u8] {
        &self.bytes[self.skipped..]
    }
}

impl SeekableText {
    /// Opens an input. Of a compressed one the first `most` bytes are held.
    pub(super) fn open(origin: &InputOrigin, most: usize) -> io::Result<Self> {
        let archive = archive::open(origin, PROBE, None)?;
        if let InputOrigin::File(path) = origin
            && archive.compression == Compression::Plain
        {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            return Ok(Self { source: TextSource::File(file), len });
        }
        let mut text = Vec::new();
        // What comes before an error is text all the same; the merge reports the error.
        let _ = archive.bytes.take(most as u64).read_to_end(&mut text);
        let whole = memchr::memrchr(b'\n', &text).map_or(0, |end| end + 1);
        text.truncate(whole);
        Ok(Self { len: text.len() as u64, source: TextSource::Memory(text) })
    }

    #[cfg(test)]
    pub(super) fn of_bytes(bytes: Vec<u8>) -> Self {
        Self { len: bytes.len() as u64, source: TextSource::Memory(bytes) }
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Returns the whole lines in `len` bytes, the first of them at or behind `from`.
    pub(super) fn part(&self, from: u64, len: usize) -> TextPart {
        let before = from.saturating_sub(1);
        let mut bytes = self.bytes(before, len + usize::from(from > 0));
        let is_end = before + bytes.len() as u64 >= self.len;
        let skipped = match from {
            0 => 0,
            _ => memchr::memchr(b'\n', &bytes).map_or(bytes.len(), |end| end + 1),
        };
        if !is_end {
            let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
            bytes.truncate(whole.max(skipped));
        }
        TextPart { from: before + skipped as u64, bytes, skipped }
    }

    /// Returns whole lines, with all that begin between two offsets, unless they are longer than [`LONGEST`].
    pub(super) fn begun_between(&self, from: u64, to: u64) -> TextPart {
        let between = usize::try_from(to - from).unwrap_or(usize::MAX);
        let mut more = PROBE;
        loop {
            let len = between.saturating_add(more);
            let part = self.part(from, len);
            if part.to() >= to.min(self.len) || more >= LONGEST {
                return part;
            }
            more *= 4;
        }
    }

    fn bytes(&self, from: u64, len: usize) -> Vec<u8> {
        let left = usize::try_from(self.len.saturating_sub(from)).unwrap_or(usize::MAX);
        let len = len.min(left);
        match &self.source {
            TextSource::Memory(text) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(text.len());
                text[from..from + len].to_vec()
            }
            TextSource::File(file) => {
                let (mut file, mut bytes) = (file, Vec::with_capacity(len));
                // The merge reports what cannot be read.
                if file.seek(SeekFrom::Start(from)).is_ok() {
                    let _ = file.take(len as u64).read_to_end(&mut bytes);
                }
                bytes
            }
        }
    }

    /// Returns the offset of a line shortly before the first of `from` or later, in a log that is in order.
    pub(super) fn find(
        &self,
        from: Timestamp,
        mut time: impl FnMut(u64, &[u8]) -> Option<Timestamp>,
    ) -> u64 {
        let (mut low, mut high) = (0, self.len);
        while high - low > PROBE as u64 {
            let middle = low.midpoint(high);
            let part = self.part(middle, PROBE);
            match part.lines().find_map(|(at, line)| time(at, line)) {
                Some(time) if time < from => low = middle,
                _ => high = middle,
            }
        }
        low
    }

    /// Returns the last time in the text.
    pub(super) fn last_time(
        &self,
        mut time: impl FnMut(u64, &[u8]) -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        let tail = self.part(self.len.saturating_sub(4 * PROBE as u64), 4 * PROBE);
        tail.lines().filter_map(|(at, line)| time(at, line)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_lines_at_their_offsets() {
        let whole = SeekableText::of_bytes(b"one\ntwo\nthree\nlast".to_vec());
        let lines = |from, len| -> Vec<(u64, String)> {
            let part = whole.part(from, len);
            part.lines().map(|(at, line)| (at, String::from_utf8_lossy(line).into())).collect()
        };
        assert_eq!(lines(0, 8), [(0, "one".into()), (4, "two".into())]);
        assert_eq!(lines(1, 99), [(4, "two".into()), (8, "three".into()), (14, "last".into())]);
        assert_eq!(lines(4, 4), [(4, "two".into())]);
        assert_eq!(lines(5, 2), []);
        assert_eq!(lines(99, 9), []);
        assert_eq!(whole.part(4, 5).to(), 8);
    }

    #[test]
    fn a_line_is_read_with_the_part_in_which_it_begins() {
        let long = "x".repeat(3 * PROBE);
        let text = SeekableText::of_bytes(format!("one\ntwo\n{long}\nlast").into_bytes());
        let lines = |from, to| -> Vec<(u64, usize)> {
            let part = text.begun_between(from, to);
            let lines = part.lines().take_while(|(at, _)| *at < to);
            lines.map(|(at, line)| (at, line.len())).collect()
        };
        assert_eq!(lines(0, 4), [(0, 3)]);
        assert_eq!(lines(4, 9), [(4, 3), (8, long.len())]);
        assert_eq!(lines(9, 8 + long.len() as u64), []);
        assert_eq!(lines(9 + long.len() as u64, 1 << 20), [(9 + long.len() as u64, 4)]);
    }

    #[test]
    fn a_time_is_found_by_halves() {
        let lines: String = (0..5_000).map(|n| format!("{n}\n")).collect();
        let text = SeekableText::of_bytes(lines.into_bytes());
        let time =
            |line: &[u8]| std::str::from_utf8(line).ok()?.parse().ok().map(Timestamp::from_seconds);
        for wanted in [0, 1, 777, 4_999, 6_000] {
            let at = text.find(Timestamp::from_seconds(wanted), |_, line| time(line));
            let part = text.part(at, 2 * PROBE);
            let first = part.lines().find_map(|(_, line)| time(line)).unwrap();
            assert!(first <= Timestamp::from_seconds(wanted), "{wanted}");
            let last = part.lines().filter_map(|(_, line)| time(line)).max().unwrap();
            assert!(last >= Timestamp::from_seconds(wanted.min(4_999)), "{wanted}");
        }
        assert_eq!(text.last_time(|_, line| time(line)), Some(Timestamp::from_seconds(4_999)));
    }
}
