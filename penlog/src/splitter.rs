//! Splits a stream of bytes into whole lines.

use memchr::{memchr, memrchr};

use pen_records::shipment::LINE;

/// Buffer space for one read, in bytes.
const READ: usize = 256 << 10;

/// Splits a stream at line feeds only: NUL, carriage return and 8-bit bytes are ordinary bytes. Lines longer
/// than [`LINE`] are truncated and counted.
#[derive(Debug)]
pub(crate) struct Splitter {
    bytes: Vec<u8>,
    filled: usize,
    /// Bytes of a truncated line that were skipped so far; `None` while no line is truncated.
    skipped: Option<u64>,
    /// Offset in the stream of the first byte in `bytes`.
    offset: u64,
}

/// Whole lines, line feeds included, with offsets in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WholeLines<'a> {
    pub(crate) bytes: &'a [u8],
    /// Offset of the first byte.
    pub(crate) start: u64,
    /// Offset behind the last byte.
    pub(crate) end: u64,
}

impl Splitter {
    /// Creates a splitter of a stream read from `offset` on.
    pub(crate) fn new(offset: u64) -> Self {
        Self { bytes: vec![0; READ], filled: 0, skipped: None, offset }
    }

    /// Returns the buffer to read into.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.bytes.len() - self.filled < READ / 2 {
            self.bytes.resize(self.filled + READ, 0);
        }
        &mut self.bytes[self.filled..]
    }

    /// Processes the `len` bytes just read: calls `push` with whole lines. Returns how many lines were truncated.
    pub(crate) fn read(&mut self, len: usize, mut push: impl FnMut(WholeLines<'_>)) -> u32 {
        let fresh = self.filled;
        self.filled += len;
        let is_long = self.skipped.is_some();
        if is_long || self.filled > LINE {
            // Only the first line can be too long: the rest came in one read.
            let end = memchr(b'\n', &self.bytes[fresh..self.filled]).map(|end| fresh + end);
            if is_long || end.unwrap_or(self.filled) > LINE {
                self.truncate(end, &mut push);
                let cut = u32::from(!is_long);
                if end.is_some() {
                    self.whole_lines(0, &mut push);
                }
                return cut;
            }
        }
        self.whole_lines(fresh, &mut push);
        0
    }

    /// Keeps the beginning of a long line, and pushes the line once the `end` is read: the place ends there.
    fn truncate(&mut self, end: Option<usize>, push: &mut impl FnMut(WholeLines<'_>)) {
        let skipped = self.skipped.unwrap_or(0);
        let Some(end) = end else {
            self.skipped = Some(skipped + (self.filled - LINE) as u64);
            self.filled = LINE;
            return;
        };
        self.bytes[LINE] = b'\n';
        let place = self.offset + skipped + end as u64 + 1;
        push(WholeLines { bytes: &self.bytes[..=LINE], start: self.offset, end: place });
        self.skipped = None;
        self.pass(end + 1, place);
    }

    /// Pushes whole lines; there is no line feed before `fresh`.
    fn whole_lines(&mut self, fresh: usize, push: &mut impl FnMut(WholeLines<'_>)) {
        if let Some(last) = memrchr(b'\n', &self.bytes[fresh..self.filled]) {
            let end = fresh + last + 1;
            let place = self.offset + end as u64;
            push(WholeLines { bytes: &self.bytes[..end], start: self.offset, end: place });
            self.pass(end, place);
        }
    }

    /// Drops pushed bytes; `offset` is the stream offset behind.
    fn pass(&mut self, bytes: usize, offset: u64) {
        self.bytes.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
        self.offset = offset;
    }

    /// Ends the input: a last line without a line feed gets one.
    pub(crate) fn finish(&mut self, mut push: impl FnMut(WholeLines<'_>)) {
        let end = self.offset + self.pending();
        if self.filled > 0 {
            self.bytes.truncate(self.filled);
            self.bytes.push(b'\n');
            push(WholeLines { bytes: &self.bytes, start: self.offset, end });
        }
        *self = Self::new(end);
    }

    /// Returns the bytes that an unfinished line occupies here.
    pub(crate) fn held(&self) -> usize {
        self.filled
    }

    /// Returns the number of bytes of an unfinished line.
    pub(crate) fn pending(&self) -> u64 {
        self.filled as u64 + self.skipped.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the input in parts of `part` bytes and gives back lines and how many were cut.
    fn split(input: &[u8], part: usize) -> (Vec<u8>, u32) {
        let mut splitter = Splitter::new(7);
        let (mut out, mut cut, mut place) = (Vec::new(), 0, 7);
        let mut push = |lines: WholeLines<'_>| {
            assert_eq!(lines.start, place, "no byte is left out");
            place = lines.end;
            out.extend_from_slice(lines.bytes);
        };
        for bytes in input.chunks(part) {
            splitter.space()[..bytes.len()].copy_from_slice(bytes);
            cut += splitter.read(bytes.len(), &mut push);
        }
        splitter.finish(&mut push);
        assert_eq!(place, 7 + input.len() as u64, "each byte has its place");
        (out, cut)
    }

    #[test]
    fn lines_come_out_whole_however_they_are_read() {
        for input in [
            &b"one\ntwo\n"[..],
            b"\n\n",
            b"nul \x00 in it\n\x00\n",
            b"dos\r\nlatin \xE9\n",
            b"\"\\x22\"\t\x1B\x7F\xFF\n",
        ] {
            for part in 1..=input.len() {
                assert_eq!(split(input, part), (input.to_vec(), 0), "{input:?} by {part}");
            }
        }
    }

    #[test]
    fn a_last_line_without_its_line_feed_gets_one() {
        for part in 1..8 {
            assert_eq!(split(b"one\ntwo", part), (b"one\ntwo\n".to_vec(), 0), "by {part}");
        }
        assert_eq!(split(b"", 1), (Vec::new(), 0));
    }

    #[test]
    fn a_mebibyte_is_kept_and_what_is_longer_is_cut_and_counted() {
        for (len, cut) in [(LINE - 1, 0), (LINE, 0), (LINE + 1, 1), (3 * LINE, 1)] {
            for part in [1000, 65_536, 131_072] {
                let mut input = b"before\n".to_vec();
                input.resize(7 + len, b'x');
                input.extend_from_slice(b"\nafter\n");
                let mut expected = b"before\n".to_vec();
                expected.resize(7 + len.min(LINE), b'x');
                expected.extend_from_slice(b"\nafter\n");
                let (out, counted) = split(&input, part);
                assert_eq!((out == expected, counted), (true, cut), "{len} by {part}");
            }
        }
    }

    #[test]
    fn a_cut_line_at_the_end_of_the_input_ends_there() {
        let (out, cut) = split(&vec![b'x'; 2 * LINE], 100_000);
        assert_eq!((out.len(), cut), (LINE + 1, 1));
    }
}
