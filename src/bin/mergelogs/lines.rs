//! Whole lines out of a stream of bytes, a block at a time.

use std::io::{self, Read};

/// The longest line kept in one piece.
pub(crate) const LONGEST: usize = 1 << 20;

/// Whole lines: `bytes[..filled]`. Each ends in a line feed but perhaps the last of the input, and
/// the pieces of a line longer than [`LONGEST`]. The buffer behind is kept for the next use.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) bytes: Vec<u8>,
    pub(crate) filled: usize,
}

impl Block {
    /// The spans of the lines, line feeds left out.
    pub(crate) fn spans(&self) -> Spans<'_> {
        let text = &self.bytes[..self.filled];
        Spans { ends: memchr::memchr_iter(b'\n', text), start: 0, filled: self.filled }
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.spans().map(|(start, end)| &self.bytes[start..end])
    }
}

/// See [`Block::spans`].
pub(crate) struct Spans<'a> {
    ends: memchr::Memchr<'a>,
    start: usize,
    filled: usize,
}

impl Iterator for Spans<'_> {
    type Item = (usize, usize);

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
    block: usize,
    /// The beginning of the line that the last block broke off in.
    rest: Vec<u8>,
    ended: bool,
    split: u64,
    fault: Option<io::Error>,
}

impl LineReader {
    /// Reads about `block` bytes at a time.
    pub(crate) fn new(source: Box<dyn Read + Send>, block: usize) -> Self {
        Self { source, block, rest: Vec::new(), ended: false, split: 0, fault: None }
    }

    /// Pieces cut off lines that were longer than [`LONGEST`].
    pub(crate) fn split(&self) -> u64 {
        self.split
    }

    /// Why reading ended before the input did.
    pub(crate) fn into_fault(self) -> Option<io::Error> {
        self.fault
    }

    /// The next block, in the buffer of a used one. `None` at the end, and after a fault: what was
    /// read before it has been handed out.
    pub(crate) fn next(&mut self, used: Block) -> Option<Block> {
        if self.ended {
            return None;
        }
        let mut bytes = used.bytes;
        let wanted = self.block.max(self.rest.len() + 1);
        if bytes.len() < wanted || bytes.len() > 2 * self.block {
            bytes.resize(wanted, 0);
            bytes.shrink_to(2 * self.block.max(wanted));
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
                    return Some(Block { bytes, filled: end });
                }
                if filled >= LONGEST {
                    self.split += 1;
                    return Some(Block { bytes, filled });
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
        (filled > 0).then_some(Block { bytes, filled })
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
        let mut reader = LineReader::new(Box::new(source), block);
        let (mut lines, mut block) = (Vec::new(), Block::default());
        while let Some(next) = reader.next(block) {
            lines.extend(next.lines().map(<[u8]>::to_vec));
            block = next;
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
    fn a_line_without_end_is_split_and_counted() {
        let text = [vec![b'x'; 2 * LONGEST + 5], b"\nnext\n".to_vec()].concat();
        let (lines, split) = read(&text, 4096, 100_000);
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [LONGEST, LONGEST, 5, 4]);
        assert_eq!(split, 2);
    }
}
