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
    /// The rest of a truncated line is being skipped.
    skipping: bool,
}

impl Splitter {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; READ], filled: 0, skipping: false }
    }

    /// Returns the buffer to read into.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.bytes.len() - self.filled < READ / 2 {
            self.bytes.resize(self.filled + READ, 0);
        }
        &mut self.bytes[self.filled..]
    }

    /// Processes the `len` bytes just read: calls `push` with whole lines, line feeds included. Returns how many
    /// lines were truncated.
    pub(crate) fn read(&mut self, len: usize, mut push: impl FnMut(&[u8])) -> u32 {
        let fresh = self.filled;
        self.filled += len;
        let mut start = 0;
        let mut cut = 0;
        if self.skipping {
            match memchr(b'\n', &self.bytes[..self.filled]) {
                Some(end) => (start, self.skipping) = (end + 1, false),
                None => self.filled = 0,
            }
        } else if self.filled > LINE {
            // Only the first line can be too long: the rest came in one read.
            let end = memchr(b'\n', &self.bytes[fresh..self.filled]).map(|end| fresh + end);
            if end.unwrap_or(self.filled) > LINE {
                self.bytes[LINE] = b'\n';
                push(&self.bytes[..=LINE]);
                cut = 1;
                match end {
                    Some(end) => start = end + 1,
                    None => (self.filled, self.skipping) = (0, true),
                }
            }
        }
        if start < self.filled
            && let Some(last) = memrchr(b'\n', &self.bytes[start.max(fresh)..self.filled])
        {
            let end = start.max(fresh) + last + 1;
            push(&self.bytes[start..end]);
            start = end;
        }
        self.bytes.copy_within(start..self.filled, 0);
        self.filled -= start;
        cut
    }

    /// Ends the input: a last line without a line feed gets one.
    pub(crate) fn finish(&mut self, mut push: impl FnMut(&[u8])) {
        if self.filled > 0 && !self.skipping {
            self.bytes.truncate(self.filled);
            self.bytes.push(b'\n');
            push(&self.bytes);
        }
        *self = Self::new();
    }

    /// Returns the number of bytes of an unfinished line.
    pub(crate) fn pending(&self) -> usize {
        self.filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the input in parts of `part` bytes and gives back lines and how many were cut.
    fn split(input: &[u8], part: usize) -> (Vec<u8>, u32) {
        let mut splitter = Splitter::new();
        let (mut out, mut cut) = (Vec::new(), 0);
        for bytes in input.chunks(part) {
            splitter.space()[..bytes.len()].copy_from_slice(bytes);
            cut += splitter.read(bytes.len(), |lines| out.extend_from_slice(lines));
        }
        splitter.finish(|lines| out.extend_from_slice(lines));
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
