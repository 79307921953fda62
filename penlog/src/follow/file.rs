//! One file that is followed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::queue::LineQueue;
use crate::splitter::Splitter;

use super::id::FileId;
use super::state::FilePosition;

#[derive(Debug)]
pub(super) struct FollowedFile {
    /// What it was called when it was found.
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    /// When something was added last.
    pub(super) active: Instant,
    file: File,
    /// Bytes read of it.
    offset: u64,
    splitter: Splitter,
    /// Ends of lines in the file, each with [`LineQueue::pushed`] behind it; oldest first.
    marks: VecDeque<(u64, u64)>,
    /// The last end of a line that the sender is done with.
    done: u64,
}

/// What became of an attempt to read.
pub(super) enum ReadProgress {
    Read,
    End,
    /// The queue has no room.
    Full,
}

/// What one read and the start of a line before it may need in the queue.
const ROOM: usize = 256 << 10;
/// How long a full queue is waited for before signals are looked at again.
const PATIENCE: Duration = Duration::from_millis(100);
/// More ends of lines than this are not told apart.
const MARKS: usize = 4096;

impl FollowedFile {
    /// Goes on at `offset`, or at the start if the file is shorter than that.
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
            splitter: Splitter::new(),
            marks: VecDeque::new(),
            done: offset,
        })
    }

    /// Reads once.
    pub(super) fn read(&mut self, queue: &LineQueue, now: Instant) -> io::Result<ReadProgress> {
        if !queue.wait_for_room(self.splitter.pending() + ROOM, PATIENCE) {
            return Ok(ReadProgress::Full);
        }
        let len = self.file.read(self.splitter.space())?;
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

    /// It was truncated: what is there now is new. A line that had no end yet will get none.
    fn start_again(&mut self, queue: &LineQueue) -> io::Result<()> {
        self.splitter.finish(|lines| queue.push(lines));
        self.file.seek(SeekFrom::Start(0))?;
        self.marks.clear();
        (self.offset, self.done) = (0, 0);
        Ok(())
    }

    /// Whether all of it has been sent.
    pub(super) fn is_settled(&self) -> bool {
        self.marks.is_empty()
    }

    /// Where to go on, if the sender is done with `done` bytes of the queue.
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
