//! Lines taken out of the queue that have not gone out yet.

use std::time::Duration;

use memchr::{memchr, memchr_iter};

use crate::queue::{Chunk, LineQueue};

#[derive(Default)]
pub(super) struct Backlog {
    chunk: Chunk,
    /// How much of the chunk has gone out.
    at: usize,
    /// Bytes of lines that have gone out, of all chunks.
    consumed: u64,
}

impl Backlog {
    /// Bytes that are left.
    pub(super) fn len(&self) -> usize {
        self.chunk.bytes.len() - self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of lines that have gone out so far.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Lines that are left.
    pub(super) fn lines(&self) -> u64 {
        memchr_iter(b'\n', &self.chunk.bytes[self.at..]).count() as u64
    }

    /// If nothing is left, takes more out of the queue. `false` if nothing is there either.
    pub(super) fn fill(&mut self, queue: &LineQueue) -> bool {
        if self.is_empty() {
            self.at = 0;
            match queue.take(std::mem::take(&mut self.chunk)) {
                Some(chunk) => self.chunk = chunk,
                None => return false,
            }
        }
        true
    }

    /// The next line with its line feed, and when it was read.
    pub(super) fn next(&mut self) -> Option<(&[u8], Option<Duration>)> {
        let end = memchr(b'\n', &self.chunk.bytes[self.at..])?;
        let read = self.chunk.read(self.at);
        Some((&self.chunk.bytes[self.at..=self.at + end], read))
    }

    /// The next line, which with its line feed is `len` bytes long, has gone out.
    pub(super) fn pass(&mut self, len: usize) {
        self.at += len;
        self.consumed += len as u64;
    }

    /// There is no next line: whatever is left is none.
    pub(super) fn end(&mut self) {
        self.at = self.chunk.bytes.len();
    }

    /// Lines that had gone out before go in front of those that are left, and are as old as the first of
    /// them, or as `now`.
    pub(super) fn put_back(&mut self, mut lines: Vec<u8>, now: Duration) {
        let len = lines.len();
        let read = self.chunk.read(self.at).unwrap_or(now);
        lines.extend_from_slice(&self.chunk.bytes[self.at..]);
        let later = self.chunk.reads.iter().map(|&(end, read)| (end - self.at + len, read));
        let reads = std::iter::once((len, read)).chain(later).collect();
        self.consumed -= len as u64;
        (self.chunk, self.at) = (Chunk { bytes: lines, reads }, 0);
    }
}
