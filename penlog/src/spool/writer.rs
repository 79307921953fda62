//! Writes the input into segments. The kernel moves the bytes of a pipe, which are never in this process alone.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};

use super::folder::SpoolFolder;

/// The most bytes in a move: the capacity of a pipe.
const MOST: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct SegmentWriter {
    file: Option<File>,
    /// Bytes of a segment, about.
    size: u64,
    /// The next offset.
    end: u64,
}

/// The outcome of a move.
#[derive(Debug)]
pub(super) enum Moved {
    Some,
    /// The kernel cannot move the input, or not now: read the input.
    Not,
    InputEnd,
}

impl SegmentWriter {
    /// Writes from an offset on, in segments of about `size` bytes.
    pub(super) const fn new(end: u64, size: u64) -> Self {
        Self { file: None, size, end }
    }

    /// Moves bytes of a pipe into the segment.
    pub(super) fn move_from(&mut self, input: &File, folder: &mut SpoolFolder) -> Moved {
        let Ok(file) = self.segment(folder) else { return Moved::Not };
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        match splice(input.as_fd(), None, file.as_fd(), None, MOST, flags) {
            Ok(0) => Moved::InputEnd,
            Ok(len) => {
                self.add(len, folder);
                Moved::Some
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Moved::Some,
            Err(_) => Moved::Not,
        }
    }

    /// Writes bytes; returns how many are written, and the error before the rest.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        folder: &mut SpoolFolder,
    ) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < bytes.len() {
            let result = self.segment(folder).and_then(|mut file| file.write(&bytes[written..]));
            match result {
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(len) => {
                    self.add(len, folder);
                    written += len;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// Whether the last byte is a line feed, or there is none.
    pub(super) fn is_at_line_end(&self, folder: &SpoolFolder) -> io::Result<bool> {
        let Some(segment) = folder.segments.iter().rev().find(|it| it.end > it.start) else {
            return Ok(true);
        };
        let mut last = [0];
        let len = segment.end - segment.start;
        folder.open_segment(segment.start)?.read_exact_at(&mut last, len - 1)?;
        Ok(last == *b"\n")
    }

    /// Returns the segment to write to.
    fn segment(&mut self, folder: &mut SpoolFolder) -> io::Result<&File> {
        let is_full =
            folder.segments.back().is_none_or(|segment| self.end - segment.start >= self.size);
        if is_full {
            self.file = None;
        }
        match &mut self.file {
            Some(file) => Ok(file),
            none => Ok(none.insert(folder.add_segment(self.end)?)),
        }
    }

    fn add(&mut self, len: usize, folder: &mut SpoolFolder) {
        self.end += len as u64;
        if let Some(segment) = folder.segments.back_mut() {
            segment.end = self.end;
        }
    }
}
