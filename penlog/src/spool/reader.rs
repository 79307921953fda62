//! Reads the segments of a folder as a stream, and removes confirmed segments.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use pen_records::shipment::{StreamPosition, StreamSpan};

use super::folder::SpoolFolder;
use crate::queue::SendQueue;
use crate::splitter::{Splitter, WholeLines};

/// Queue space in bytes for a read and the unfinished line before.
const ROOM: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct SpoolReader {
    pub(super) folder: SpoolFolder,
    /// The open segment, by the first offset.
    file: Option<(u64, File)>,
    /// The next byte to read.
    offset: u64,
    splitter: Splitter,
    /// Line ends, each with [`SendQueue::pushed`] there; oldest first.
    marks: VecDeque<(u64, u64)>,
    /// Offset behind the last confirmed line, and the saved offset.
    done: u64,
    saved: u64,
    /// Whether the start is known.
    has_begun: bool,
}

/// The outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpoolProgress {
    Read,
    End,
    /// The queue has no room.
    Full,
    /// The start is not known yet.
    Unknown,
}

impl SpoolReader {
    pub(super) fn new(folder: SpoolFolder) -> Self {
        let offset = folder.position();
        Self {
            // Nothing of an empty folder can have arrived.
            has_begun: folder.segments.is_empty(),
            folder,
            file: None,
            offset,
            splitter: Splitter::new(offset),
            marks: VecDeque::new(),
            done: offset,
            saved: offset,
        }
    }

    /// Waits for [`Self::begin`], to keep the order of lines: earlier runs come first.
    pub(super) const fn wait(&mut self) {
        self.has_begun = false;
    }

    pub(super) const fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Returns the offset behind the last byte of the segments.
    pub(super) fn end(&self) -> u64 {
        self.folder.segments.back().map_or(self.offset, |segment| segment.end)
    }

    /// Begins at the collector's position, or at the saved position if the stream is unknown.
    pub(super) fn begin(&mut self, position: StreamPosition) {
        if position.is_known() && position.from <= self.offset {
            self.offset = position.upto.max(self.offset).min(self.end());
            (self.splitter, self.done) = (Splitter::new(self.offset), self.offset);
        }
        self.has_begun = true;
    }

    /// Reads once and pushes whole lines into the queue. Does not wait.
    pub(super) fn read(&mut self, queue: &SendQueue) -> io::Result<SpoolProgress> {
        let has_room = || queue.wait_for_room(self.splitter.held() + ROOM, Duration::ZERO);
        if !self.has_begun {
            return Ok(SpoolProgress::Unknown);
        }
        if !has_room() {
            return Ok(SpoolProgress::Full);
        }
        let Some(segment) = self.folder.segments.iter().find(|it| it.end > self.offset) else {
            return Ok(SpoolProgress::End);
        };
        let (start, end) = (segment.start, segment.end);
        if start > self.offset {
            // A segment before is gone.
            self.finish_line(queue);
            (self.offset, self.splitter) = (start, Splitter::new(start));
        }
        let file = match self.file.take() {
            Some((open, file)) if open == start => file,
            _ => self.folder.open_segment(start)?,
        };
        let space = self.splitter.space();
        let wanted = usize::try_from(end - self.offset).unwrap_or(usize::MAX).min(space.len());
        let len = file.read_at(&mut space[..wanted], self.offset - start)?;
        self.file = Some((start, file));
        if len == 0 {
            return Ok(SpoolProgress::End);
        }
        self.offset += len as u64;
        let stream = self.folder.stream();
        let cut = self.splitter.read(len, |lines| push(queue, stream, lines));
        queue.add_cut(cut);
        self.marks.push_back((queue.pushed(), self.offset - self.splitter.pending()));
        Ok(SpoolProgress::Read)
    }

    /// Pushes an unfinished line with a line feed: the end will not come.
    pub(super) fn finish_line(&mut self, queue: &SendQueue) {
        if self.splitter.pending() > 0 {
            let stream = self.folder.stream();
            self.splitter.finish(|lines| push(queue, stream, lines));
            self.marks.push_back((queue.pushed(), self.offset));
        }
    }

    /// Whether all lines are confirmed.
    pub(super) fn is_done(&self) -> bool {
        self.has_begun && self.done >= self.end()
    }

    /// Whether some lines are read and not confirmed.
    pub(super) fn is_waiting(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Removes confirmed segments, given that the sender has finished with `done` bytes of the queue. The last segment stays
    /// for the writer.
    pub(super) fn confirm(&mut self, done: u64) -> io::Result<()> {
        while let Some(&(pushed, offset)) = self.marks.front()
            && pushed <= done
        {
            self.done = offset;
            self.marks.pop_front();
        }
        while self.folder.segments.len() > 1
            && self.folder.segments.front().is_some_and(|segment| segment.end <= self.done)
        {
            self.folder.remove_segment()?;
        }
        Ok(())
    }

    /// Saves the confirmed position.
    pub(super) fn save(&mut self) -> io::Result<()> {
        if self.saved != self.done {
            self.folder.save_position(self.done)?;
            self.saved = self.done;
        }
        Ok(())
    }
}

fn push(queue: &SendQueue, stream: pen_records::shipment::StreamId, lines: WholeLines<'_>) {
    let WholeLines { bytes, start, end } = lines;
    queue.push_part(bytes, Some(StreamSpan { stream, start, end }));
}
