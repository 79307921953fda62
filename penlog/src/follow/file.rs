//! One followed file.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pen_records::shipment::{StreamId, StreamSpan};

use crate::queue::SendQueue;
use crate::splitter::{Splitter, WholeLines};

use super::content::LogContent;
use super::copies::{self, LastBytes, NewFile, OldContent};
use super::id::FileId;
use super::state::FilePosition;
use super::stream::{FileHead, HostKey, StreamName};

#[derive(Debug)]
pub(super) struct FollowedFile {
    /// Path under which the file was found.
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    /// When data was last read.
    pub(super) active: Instant,
    /// An earlier run of penlog has left a position.
    pub(super) is_resumed: bool,
    log: LogContent,
    /// Bytes read from the file.
    offset: u64,
    last: LastBytes,
    /// The content before the last truncation.
    before: Option<OldContent>,
    /// The beginning of the file; `None` while the first line is not whole.
    head: Option<FileHead>,
    /// The name of the file's stream, known together with the head.
    name: Option<StreamName>,
    splitter: Splitter,
    /// Line ends in the file, each with [`SendQueue::pushed`] after its line; oldest first.
    marks: VecDeque<(u64, u64)>,
    /// Offset behind the last line that the sender has finished with.
    done: u64,
}

/// Where to begin in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileStart {
    pub(super) offset: u64,
    /// The stream of the bytes before, if known.
    pub(super) stream: Option<StreamName>,
    /// The offset was left by an earlier run of penlog.
    pub(super) is_resumed: bool,
}

/// Outcome of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadProgress {
    Read,
    End,
    /// The file was truncated, after so many bytes of it had been read.
    Truncated(u64),
    /// The queue has no room.
    Full,
    /// The stream has a name. Save it before reading: it may be random, and who finds the file packed cannot derive it.
    Named,
}

/// Queue space in bytes that one read, with the unfinished line before, may need.
const ROOM: usize = 256 << 10;
/// Limit for remembered line ends; further reads extend the newest entry.
const MARKS: usize = 4096;

impl FollowedFile {
    /// Opens a file. Begins at offset 0 if the file is shorter than `start` says, or begins with other bytes than the stream.
    pub(super) fn open(
        path: &Path,
        start: FileStart,
        host: &HostKey,
        now: Instant,
    ) -> io::Result<Self> {
        let log = LogContent::open(path)?;
        let mut this = Self {
            path: path.to_owned(),
            id: FileId::from_metadata(&log.metadata()?),
            active: now,
            is_resumed: start.is_resumed,
            log,
            offset: start.offset,
            last: LastBytes::from_offset(start.offset),
            before: None,
            head: None,
            name: None,
            splitter: Splitter::new(start.offset),
            marks: VecDeque::new(),
            done: start.offset,
        };
        this.begin(start)?;
        this.learn(host)?;
        Ok(this)
    }

    fn begin(&mut self, start: FileStart) -> io::Result<()> {
        let head = match start.stream {
            Some(_) => FileHead::of(&self.log)?,
            None => None,
        };
        let has_head = match (start.stream, &head) {
            (Some(stream), Some(head)) => stream.head == head.hash(),
            (Some(_), None) => false,
            (None, _) => true,
        };
        if has_head && start.offset <= self.len()? {
            (self.head, self.name) = (head, start.stream);
            return self.start_at(start.offset);
        }
        self.before = Some(OldContent { last: std::mem::take(&mut self.last), name: start.stream });
        self.start_at(0)
    }

    /// Begins at an offset; nothing has been read yet.
    pub(super) fn start_at(&mut self, offset: u64) -> io::Result<()> {
        self.log.begin_at(offset)?;
        (self.offset, self.done) = (offset, offset);
        self.last = LastBytes::from_offset(offset);
        self.splitter = Splitter::new(offset);
        Ok(())
    }

    /// Begins at offset 0 with another name: the collector has received more bytes under the old name than the file holds.
    pub(super) fn start_anew(&mut self) -> io::Result<()> {
        let last = LastBytes::from_offset(self.offset);
        self.before = Some(OldContent { last, name: self.name.take() });
        self.head = None;
        self.start_at(0)
    }

    /// Returns the length of the log, as [`LogContent::len`].
    pub(super) fn len(&self) -> io::Result<u64> {
        self.log.len()
    }

    /// Offset of the next read.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the stream of the file, once known.
    pub(super) fn stream(&self) -> Option<StreamId> {
        self.name.map(|name| name.id)
    }

    /// Names the stream if the first line is whole by now. Returns whether the name is new.
    fn learn(&mut self, host: &HostKey) -> io::Result<bool> {
        if self.name.is_some() {
            return Ok(false);
        }
        let Some(head) = FileHead::of(&self.log)? else { return Ok(false) };
        self.take_head(head, host).map(|()| true)
    }

    fn take_head(&mut self, head: FileHead, host: &HostKey) -> io::Result<()> {
        let meta = self.log.metadata()?;
        let before = self.before.as_ref().and_then(|before| before.name);
        let mut name = head.name(host, &meta, 0);
        if before.is_some_and(|before| before.head == name.head) {
            name = head.name(host, &meta, RandomState::new().hash_one(&self.path));
        }
        (self.head, self.name) = (Some(head), Some(name));
        Ok(())
    }

    /// Reads once and pushes whole lines into the queue; waits up to `patience` for room.
    pub(super) fn read(
        &mut self,
        queue: &SendQueue,
        host: &HostKey,
        patience: Duration,
        now: Instant,
    ) -> io::Result<ReadProgress> {
        if !queue.wait_for_room(self.splitter.held() + ROOM, patience) {
            return Ok(ReadProgress::Full);
        }
        let len = self.len()?;
        if len < self.offset || len > self.offset && !self.begins_as_before()? {
            let read = self.offset;
            self.start_again(queue)?;
            return Ok(ReadProgress::Truncated(read));
        }
        if self.learn(host)? {
            return Ok(ReadProgress::Named);
        }
        if len == self.offset || self.name.is_none() {
            return Ok(ReadProgress::End);
        }
        self.read_on(queue, now)
    }

    fn read_on(&mut self, queue: &SendQueue, now: Instant) -> io::Result<ReadProgress> {
        let stream = self.stream();
        let space = self.splitter.space();
        let len = self.log.read(space)?;
        self.last.take(&space[..len]);
        if len == 0 {
            return Ok(ReadProgress::End);
        }
        self.offset += len as u64;
        self.active = now;
        let cut = self.splitter.read(len, |lines| push(queue, stream, lines));
        queue.add_cut(cut);
        self.mark(queue);
        Ok(ReadProgress::Read)
    }

    fn mark(&mut self, queue: &SendQueue) {
        if self.marks.len() >= MARKS {
            self.marks.pop_back();
        }
        self.marks.push_back((queue.pushed(), self.offset - self.splitter.pending()));
    }

    /// Whether the head is unchanged. A truncated file that has outgrown the old length has another head.
    fn begins_as_before(&self) -> io::Result<bool> {
        self.head.as_ref().map_or(Ok(true), |head| head.is_of(&self.log))
    }

    /// Pushes an unfinished line of a file that nobody writes to any more, with a line feed.
    pub(super) fn end_line(&mut self, queue: &SendQueue, host: &HostKey, now: Instant) {
        if self.name.is_none()
            && let Ok(head) = FileHead::of_rest(&self.log)
            && self.take_head(head, host).is_ok()
        {
            // What cannot be read is lost with the file.
            let _ = self.read_on(queue, now);
        }
        self.finish_line(queue);
    }

    fn finish_line(&mut self, queue: &SendQueue) {
        if self.splitter.pending() > 0 {
            let stream = self.stream();
            self.splitter.finish(|lines| push(queue, stream, lines));
            self.mark(queue);
        }
    }

    /// Starts over after a truncation. An unfinished line of the old content gets a line feed.
    fn start_again(&mut self, queue: &SendQueue) -> io::Result<()> {
        self.finish_line(queue);
        self.marks.clear();
        self.before =
            Some(OldContent { last: std::mem::take(&mut self.last), name: self.name.take() });
        self.head = None;
        self.start_at(0)
    }

    /// Compares a new file with this one.
    pub(super) fn compare(&self, new: &Path) -> io::Result<NewFile> {
        let Some(file) = self.log.plain() else { return Ok(NewFile::Log) };
        let is_truncated = self.len()? < self.offset || !self.begins_as_before()?;
        let now = OldContent { last: self.last.clone(), name: self.name };
        let before = if is_truncated { Some(&now) } else { self.before.as_ref() };
        copies::compare(new, (&self.path, file), before)
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
        let (path, stream) = (self.path.clone(), self.name);
        FilePosition { id: self.id, offset: self.done, path, stream }
    }
}

fn push(queue: &SendQueue, stream: Option<StreamId>, lines: WholeLines<'_>) {
    let WholeLines { bytes, start, end } = lines;
    queue.push_part(bytes, stream.map(|stream| StreamSpan { stream, start, end }));
}
