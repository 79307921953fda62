//! Frames: datagrams on a byte stream.
//!
//! A stream is another path for the same datagrams, not another protocol. `docs/design/wire.md` has the layout:
//!
//! ```text
//! stream = *frame
//! frame  = length(u32, little-endian) datagram      ; 1 to 65,536 bytes
//! ```

use std::fmt;

/// Longest datagram in a frame, in bytes.
pub const LONGEST_FRAME: usize = 1 << 16;
/// Bytes in front of a datagram.
pub const FRAME_HEAD: usize = 4;

/// Appends a frame. Returns `false`, and appends nothing, if the datagram does not fit.
pub fn write_frame(datagram: &[u8], out: &mut Vec<u8>) -> bool {
    let fits = (1..=LONGEST_FRAME).contains(&datagram.len());
    if let (true, Ok(len)) = (fits, u32::try_from(datagram.len())) {
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(datagram);
    }
    fits
}

/// Splits a byte stream into frames. Keeps the beginning of an unfinished frame, and nothing else: at most
/// [`LONGEST_FRAME`] and [`FRAME_HEAD`] bytes.
#[derive(Clone, Debug, Default)]
pub struct FrameReader {
    /// The unfinished frame with its head.
    partial: Vec<u8>,
    /// Bytes of the stream up to the unfinished frame.
    at: u64,
}

impl FrameReader {
    /// Takes the next bytes of the stream, and hands each whole datagram to `take`.
    ///
    /// # Errors
    /// An impossible length. The rest of the stream cannot be understood: close the connection.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), FrameError> {
        if !self.partial.is_empty() {
            bytes = self.complete(bytes, FRAME_HEAD);
            let Some(end) = self.frame_end(&self.partial)? else { return Ok(()) };
            bytes = self.complete(bytes, end);
            if self.partial.len() < end {
                return Ok(());
            }
            take(self.partial.get(FRAME_HEAD..).unwrap_or_default());
            self.at += end as u64;
            // A long frame does not keep its memory: there may be thousands of streams.
            self.partial = Vec::new();
        }
        while let Some(end) = self.frame_end(bytes)?
            && let Some((frame, rest)) = bytes.split_at_checked(end)
        {
            take(frame.get(FRAME_HEAD..).unwrap_or_default());
            self.at += end as u64;
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns whether a frame has begun and is not whole.
    #[must_use]
    pub fn is_within_frame(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Moves bytes to the unfinished frame until it has `end` bytes. Returns the rest.
    fn complete<'a>(&mut self, bytes: &'a [u8], end: usize) -> &'a [u8] {
        let missing = end.saturating_sub(self.partial.len()).min(bytes.len());
        let (more, rest) = bytes.split_at(missing);
        self.partial.extend_from_slice(more);
        rest
    }

    /// Returns the end of the frame at the beginning of `bytes`; `None` without a whole head.
    fn frame_end(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(head) = bytes.first_chunk() else { return Ok(None) };
        let length = u32::from_le_bytes(*head);
        match usize::try_from(length) {
            Ok(len @ 1..=LONGEST_FRAME) => Ok(Some(FRAME_HEAD + len)),
            _ => Err(FrameError { length, at: self.at }),
        }
    }
}

/// An impossible length of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// The length.
    pub length: u32,
    /// Offset of the frame in the stream, in bytes.
    pub at: u64,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, at } = self;
        write!(
            f,
            "byte {at} of the stream begins a frame of {length} bytes, expected 1 to {LONGEST_FRAME}"
        )
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reader: &mut FrameReader, bytes: &[u8]) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut frames = Vec::new();
        reader.feed(bytes, |frame| frames.push(frame.to_vec())).map(|()| frames)
    }

    #[test]
    fn what_is_written_is_read_however_it_is_cut() {
        let datagrams = [b"a".to_vec(), vec![7; LONGEST_FRAME], b"last".to_vec()];
        let mut stream = Vec::new();
        for datagram in &datagrams {
            assert!(write_frame(datagram, &mut stream));
        }
        for step in [1, 2, 3, 5, 4_096, 65_539, stream.len()] {
            let mut reader = FrameReader::default();
            let frames: Vec<_> =
                stream.chunks(step).flat_map(|cut| read(&mut reader, cut).unwrap()).collect();
            assert_eq!(frames, datagrams, "cut after {step} bytes");
            assert!(!reader.is_within_frame());
        }
    }

    #[test]
    fn a_length_that_no_frame_has_ends_the_stream() {
        for (bytes, length) in [
            (&[1, 0, 0, 0, 9, 0, 0, 0, 0][..], 0),
            (&[1, 0, 0, 0, 9, 1, 0, 1, 0], 65_537),
            (b"\x01\0\0\0\x09GET / HTTP/1.1", u32::from_le_bytes(*b"GET ")),
        ] {
            let mut reader = FrameReader::default();
            let mut taken = 0;
            let error = reader.feed(bytes, |_| taken += 1).unwrap_err();
            assert_eq!((error, taken), (FrameError { length, at: 5 }, 1));
        }
    }

    #[test]
    fn what_does_not_fit_into_a_frame_is_not_written() {
        let mut out = Vec::new();
        assert!(!write_frame(b"", &mut out));
        assert!(!write_frame(&vec![0; LONGEST_FRAME + 1], &mut out));
        assert!(out.is_empty());
    }

    #[test]
    fn a_cut_frame_is_known_and_bounded() {
        let mut reader = FrameReader::default();
        let mut stream = Vec::new();
        write_frame(&vec![1; LONGEST_FRAME], &mut stream);
        stream.pop();
        assert_eq!(read(&mut reader, &stream).unwrap().len(), 0);
        assert!(reader.is_within_frame() && reader.partial.len() < LONGEST_FRAME + FRAME_HEAD);
    }
}
