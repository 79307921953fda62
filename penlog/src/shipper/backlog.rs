//! Lines taken out of the queue and not sent yet.

use std::time::Duration;

use memchr::{memchr, memchr_iter};

use pen_records::shipment::OutgoingLine;

use crate::chunk::Chunk;
use crate::queue::SendQueue;

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

    /// Returns the next line with its line feed.
    pub(super) fn next(&self) -> Option<&[u8]> {
        let end = memchr(b'\n', &self.chunk.bytes[self.at..])?;
        Some(&self.chunk.bytes[self.at..=self.at + end])
    }

    /// Returns the next line for a shipment.
    pub(super) fn next_to_ship(&mut self) -> Option<OutgoingLine<'_>> {
        let len = memchr(b'\n', &self.chunk.bytes[self.at..])?;
        let read = self.chunk.read(self.at);
        let span = self.chunk.place(self.at, len + 1);
        Some(OutgoingLine { bytes: &self.chunk.bytes[self.at..self.at + len], read, span })
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
    pub(super) fn put_back(&mut self, lines: Vec<u8>, now: Duration) {
        self.consumed -= lines.len() as u64;
        (self.chunk, self.at) = (self.chunk.behind(lines, now, self.at), 0);
    }
}
