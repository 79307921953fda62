//! Splits a stream of bytes into blocks of whole lines.

use std::io::{self, Read};

use pen_records::scan::BytePlaces;

/// The longest line kept in one piece.
pub(crate) const LONGEST: usize = 1 << 20;

/// Whole lines: `bytes[..filled]`. Each ends in a line feed but perhaps the last of the input, and
/// the pieces of a line longer than [`LONGEST`]. The buffer behind is kept for the next use.
#[derive(Debug, Default)]
pub(crate) struct TextBlock {
    pub(crate) bytes: Vec<u8>,
    pub(crate) filled: usize,
}

impl TextBlock {
    /// Returns the spans of the lines, without line feeds.
    pub(crate) fn spans(&self) -> LineSpans<'_> {
        LineSpans::new(&self.bytes[..self.filled])
    }

    /// Returns whether the block takes much more memory than `size` bytes need.
    pub(crate) fn is_larger_than(&self, size: usize) -> bool {
        self.bytes.capacity() > 2 * size
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.spans().map(|(start, end)| &self.bytes[start..end])
    }
}

/// The spans of a text's lines, without line feeds.
pub(crate) struct LineSpans<'a> {
    ends: BytePlaces<'a, b'\n'>,
    start: usize,
    filled: usize,
}

impl<'a> LineSpans<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { ends: BytePlaces::new(text, 0), start: 0, filled: text.len() }
    }

    /// Where the next line begins.
    pub(crate) fn position(&self) -> usize {
        self.start
    }
}

impl Iterator for LineSpans<'_> {
    type Item = (usize, usize);

    #[inline]
    fn next(&mut self) -> Option<(usize, usize)> {
        let start = self.start;
        if let Some(end) = self.ends.next() {
            self.start = end + 1;
            return Some((start, end));
        }
        if start < self.filled {
            self.start = self.filled;
            return Some((start, self.filled));
        }
        None
    }
}

/// Reads blocks of whole lines.
pub(crate) struct LineReader {
    source: Box<dyn Read + Send>,
    /// Bytes that precede the source: lines that were put back, then the beginning of the line cut by the
    /// last block.
    rest: Vec<u8>,
    /// Bytes of whole lines in `rest`.
    whole: usize,
    ended: bool,
    split: u64,
    fault: Option<io::Error>,
}

impl LineReader {
    pub(crate) fn new(source: Box<dyn Read + Send>) -> Self {
        Self { source, rest: Vec::new(), whole: 0, ended: false, split: 0, fault: None }
    }

    /// Pieces cut off lines that were longer than [`LONGEST`].
    pub(crate) fn split(&self) -> u64 {
        self.split
    }

    /// Why reading ended before the input did.
    pub(crate) fn into_fault(self) -> Option<io::Error> {
        self.fault
    }

    /// Takes back the lines of a block behind its first `seen` bytes, to hand them out again.
    pub(crate) fn put_back(&mut self, block: &mut TextBlock, seen: usize) {
        if seen < block.filled {
            let lines = &block.bytes[seen..block.filled];
            self.rest.splice(..0, lines.iter().copied());
            self.whole += lines.len();
            block.filled = seen;
        }
    }

    /// Returns the next block of about `size` bytes, in the buffer of a used block; `None` at the end, and
    /// after an error, when all lines before the error were returned.
    pub(crate) fn next(&mut self, used: TextBlock, size: usize) -> Option<TextBlock> {
        if self.whole > 0 {
            return Some(self.again(used));
        }
        if self.ended {
            return None;
        }
        let mut bytes = used.bytes;
        let wanted = size.max(self.rest.len() + 1);
        if bytes.len() < wanted || bytes.len() > 2 * size {
            bytes.resize(wanted, 0);
            bytes.shrink_to(wanted);
        }
        let mut filled = self.rest.len();
        bytes[..filled].copy_from_slice(&self.rest);
        self.rest.clear();
        let mut searched = filled;
        loop {
            if filled == bytes.len() {
                if let Some(last) = memchr::memrchr(b'\n', &bytes[searched..filled]) {
                    let end = searched + last + 1;
                    self.rest.extend_from_slice(&bytes[end..filled]);
                    return Some(TextBlock { bytes, filled: end });
                }
                if filled >= LONGEST {
                    self.split += 1;
                    return Some(TextBlock { bytes, filled });
                }
                searched = filled;
                bytes.resize((2 * filled).min(LONGEST), 0);
            }
            match self.source.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.fault = Some(error);
                    break;
                }
            }
        }
        self.ended = true;
        (filled > 0).then_some(TextBlock { bytes, filled })
    }

    /// Lines that were put back.
    fn again(&mut self, used: TextBlock) -> TextBlock {
        let mut bytes = used.bytes;
        let filled = std::mem::take(&mut self.whole);
        bytes.resize(bytes.len().max(filled), 0);
        bytes[..filled].copy_from_slice(&self.rest[..filled]);
        self.rest.drain(..filled);
        TextBlock { bytes, filled }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Hands out a few bytes at a time.
    struct Drip(Cursor<Vec<u8>>, usize);

    impl Read for Drip {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let most = buf.len().min(self.1);
            self.0.read(&mut buf[..most])
        }
    }

    fn read(text: &[u8], block: usize, drip: usize) -> (Vec<Vec<u8>>, u64) {
        let source = Drip(Cursor::new(text.to_vec()), drip);
        let mut reader = LineReader::new(Box::new(source));
        let (mut lines, mut used) = (Vec::new(), TextBlock::default());
        while let Some(next) = reader.next(used, block) {
            lines.extend(next.lines().map(<[u8]>::to_vec));
            used = next;
        }
        (lines, reader.split())
    }

    #[test]
    fn lines_are_whole_whatever_the_block() {
        let long = vec![b'x'; 300];
        let text = [b"one\ntwo\r\n\n".as_slice(), &long, b"\nlast"].concat();
        for block in [1, 2, 3, 7, 64, 1000] {
            for drip in [1, 5, 1000] {
                let (lines, split) = read(&text, block, drip);
                let expected: [&[u8]; 5] = [b"one", b"two\r", b"", &long, b"last"];
                assert_eq!(lines, expected, "block {block}, drip {drip}");
                assert_eq!(split, 0);
            }
        }
        assert_eq!(read(b"", 8, 8).0, Vec::<Vec<u8>>::new());
        assert_eq!(read(b"\n", 8, 8).0, [b""]);
    }

    #[test]
    fn lines_that_are_put_back_come_again() {
        let text = b"one\ntwo\n\n\nthree and more\nlast";
        for size in [1, 3, 9, 64] {
            for most in [1, 2, 3] {
                let mut reader = LineReader::new(Box::new(Cursor::new(text.to_vec())));
                let (mut lines, mut used) = (Vec::new(), TextBlock::default());
                while let Some(mut next) = reader.next(used, size) {
                    let mut spans = next.spans();
                    let some = spans.by_ref().take(most);
                    lines.extend(some.map(|(start, end)| next.bytes[start..end].to_vec()));
                    let seen = spans.position();
                    reader.put_back(&mut next, seen);
                    assert!(next.lines().count() <= most, "size {size}, most {most}");
                    used = next;
                }
                let expected: [&[u8]; 6] = [b"one", b"two", b"", b"", b"three and more", b"last"];
                assert_eq!(lines, expected, "size {size}, most {most}");
            }
        }
    }

    #[test]
    fn a_line_without_end_is_split_and_counted() {
        let text = [vec![b'x'; 2 * LONGEST + 5], b"\nnext\n".to_vec()].concat();
        let (lines, split) = read(&text, 4096, 100_000);
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [LONGEST, LONGEST, 5, 4]);
        assert_eq!(split, 2);
    }
}
