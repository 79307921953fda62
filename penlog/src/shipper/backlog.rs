//! Lines taken out of the queue and not sent yet.

use std::time::Duration;

use memchr::{memchr, memchr_iter};

use crate::queue::{Chunk, SendQueue};

#[derive(Default)]
pub(super) struct Backlog {
    chunk: Chunk,
    /// Offset in the chunk of the first line not sent.
    at: usize,
    /// Bytes of sent lines, over all chunks.
    consumed: u64,
}

impl Backlog {
    /// Returns the number of unsent bytes.
    pub(super) fn len(&self) -> usize {
        self.chunk.bytes.len() - self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of lines sent so far.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Returns the number of unsent lines.
    pub(super) fn lines(&self) -> u64 {
        memchr_iter(b'\n', &self.chunk.bytes[self.at..]).count() as u64
    }

    /// Takes a chunk from the queue if nothing is left. Returns `false` if the queue is empty too.
    pub(super) fn fill(&mut self, queue: &SendQueue) -> bool {
        if self.is_empty() {
            self.at = 0;
            match queue.take(std::mem::take(&mut self.chunk)) {
                Some(chunk) => self.chunk = chunk,
                None => return false,
            }
        }
        true
    }

    /// Returns the next line with its line feed and its read time.
    pub(super) fn next(&mut self) -> Option<(&[u8], Option<Duration>)> {
        let end = memchr(b'\n', &self.chunk.bytes[self.at..])?;
        let read = self.chunk.read(self.at);
        Some((&self.chunk.bytes[self.at..=self.at + end], read))
    }

    /// Marks the next line as sent; `len` is its length with the line feed.
    pub(super) fn pass(&mut self, len: usize) {
        self.at += len;
        self.consumed += len as u64;
    }

    /// Discards the rest of the chunk, which contains no whole line.
    pub(super) fn end(&mut self) {
        self.at = self.chunk.bytes.len();
    }

    /// Puts lines that had been sent in front of the unsent ones. They get the read time of the first unsent line,
    /// or `now`.
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
