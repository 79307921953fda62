//! One followed file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::queue::SendQueue;
use crate::splitter::Splitter;

use super::copies::{self, LastBytes, NewFile};
use super::id::FileId;
use super::state::FilePosition;

#[derive(Debug)]
pub(super) struct FollowedFile {
    /// Path under which the file was found.
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    /// When data was last read.
    pub(super) active: Instant,
    file: File,
    /// Bytes read from the file.
    offset: u64,
    last: LastBytes,
    /// The last bytes before the file was truncated.
    before: Option<LastBytes>,
    splitter: Splitter,
    /// Line ends in the file, each with [`SendQueue::pushed`] after its line; oldest first.
    marks: VecDeque<(u64, u64)>,
    /// Offset behind the last line that the sender has finished with.
    done: u64,
}

/// Outcome of one read.
pub(super) enum ReadProgress {
    Read,
    End,
    /// The queue has no room.
    Full,
}

/// Queue space in bytes that one read, with the unfinished line before, may need.
const ROOM: usize = 256 << 10;
/// How long to wait for room in the queue before looking at signals again.
const PATIENCE: Duration = Duration::from_millis(100);
/// Limit for remembered line ends; further reads extend the newest entry.
const MARKS: usize = 4096;

impl FollowedFile {
    /// Opens a file at `offset`, or at its start if the file is shorter.
    pub(super) fn open(path: &Path, offset: u64, now: Instant) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file"));
        }
        let offset = if offset > meta.len() { 0 } else { offset };
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self {
            path: path.to_owned(),
            id: FileId::from_metadata(&meta),
            active: now,
            file,
            offset,
            last: LastBytes::from_offset(offset),
            before: None,
            splitter: Splitter::new(),
            marks: VecDeque::new(),
            done: offset,
        })
    }

    /// Reads once and pushes whole lines into the queue.
    pub(super) fn read(&mut self, queue: &SendQueue, now: Instant) -> io::Result<ReadProgress> {
        if !queue.wait_for_room(self.splitter.pending() + ROOM, PATIENCE) {
            return Ok(ReadProgress::Full);
        }
        let space = self.splitter.space();
        let len = self.file.read(space)?;
        self.last.take(&space[..len]);
        if len == 0 {
            if self.file.metadata()?.len() < self.offset {
                self.start_again(queue)?;
                return Ok(ReadProgress::Read);
            }
            return Ok(ReadProgress::End);
        }
        self.offset += len as u64;
        self.active = now;
        let cut = self.splitter.read(len, |lines| queue.push(lines));
        queue.add_cut(cut);
        if self.marks.len() >= MARKS {
            self.marks.pop_back();
        }
        self.marks.push_back((queue.pushed(), self.offset - self.splitter.pending() as u64));
        Ok(ReadProgress::Read)
    }

    /// Pushes an unfinished line of a file that nobody writes to any more, with a line feed.
    pub(super) fn end_line(&mut self, queue: &SendQueue) {
        if self.splitter.pending() > 0 {
            self.splitter.finish(|lines| queue.push(lines));
            self.marks.push_back((queue.pushed(), self.offset));
        }
    }

    /// Starts over after a truncation. An unfinished line of the old content gets a line feed.
    fn start_again(&mut self, queue: &SendQueue) -> io::Result<()> {
        self.splitter.finish(|lines| queue.push(lines));
        self.file.seek(SeekFrom::Start(0))?;
        self.marks.clear();
        (self.offset, self.done) = (0, 0);
        self.before = Some(std::mem::take(&mut self.last));
        Ok(())
    }

    /// Compares a new file with this one.
    pub(super) fn compare(&self, new: &Path) -> io::Result<NewFile> {
        let is_truncated = self.file.metadata()?.len() < self.offset;
        let before = if is_truncated { Some(&self.last) } else { self.before.as_ref() };
        copies::compare(new, (&self.path, &self.file), before)
    }

    /// Returns whether the sender has finished with every line that was read.
    pub(super) fn is_settled(&self) -> bool {
        self.marks.is_empty()
    }

    /// Returns the position to resume from, given that the sender has finished with `done` bytes of the queue.
    pub(super) fn position(&mut self, done: u64) -> FilePosition {
        while let Some(&(pushed, offset)) = self.marks.front()
            && pushed <= done
        {
            self.done = offset;
            self.marks.pop_front();
        }
        FilePosition { id: self.id, offset: self.done, path: self.path.clone() }
    }
}
