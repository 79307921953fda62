//! A log file: whole lines are appended, reach the disk's cache within a second, and survive a full
//! disk, a vanished folder and a rotation; what can't be kept is counted in lines.
//!
//! Lines are put into [`LogFile::buffer`], each with its line end; [`LogFile::settle`] writes when it is
//! time. When a write fails the lines stay in the buffer, up to a bound, and the write is tried again
//! each second. A line of which only a part could be written is completed first; if the file is
//! changed meanwhile, the part is cut off the old one and the whole line goes to the new one.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

/// Bytes that are worth a write of their own.
const FULL: usize = 64 * 1024;
/// How long a line waits for company.
const FLUSH: Duration = Duration::from_millis(200);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// When lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Buffering {
    /// Many at once, but none waits for more than a fraction of a second.
    #[default]
    Blocks,
    /// As soon as they are there.
    Lines,
}

/// An open log.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    /// `None` for the standard output.
    path: Option<PathBuf>,
    buffering: Buffering,
    /// The most bytes kept while nothing can be written.
    bound: usize,
    /// Whole lines that are not, or not wholly, in the file.
    buf: Vec<u8>,
    /// Bytes of the buffer's first line that are in the file, and how long the file was then.
    torn: usize,
    torn_len: u64,
    /// When the first of the waiting lines came.
    since: Option<Instant>,
    /// When to try again, after a failure.
    retry: Option<Instant>,
    /// A write failed and none has succeeded since.
    failing: bool,
    /// A reopening failed and is still wanted.
    reopen: bool,
    /// When it was last looked whether the file still has a name.
    looked: Option<Instant>,
    closed: bool,
    counts: Counts,
}

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines that are wholly in the file.
    pub written: u64,
    /// Bytes in the file, parts of lines included.
    pub bytes: u64,
    /// Lines given up because nothing could be written and the buffer was full.
    pub dropped: u64,
    /// Lines in the buffer.
    pub waiting: u64,
    /// Times a write or a reopening began to fail.
    pub failures: u64,
}

impl LogFile {
    /// Opens `path` for appending; `bound` is how many bytes to keep while the disk is full. If a
    /// line was left unfinished there, by a crash, it is ended.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn open(path: &Path, buffering: Buffering, bound: usize) -> io::Result<Self> {
        let file = append(path)?;
        end_last_line(&file, path);
        Ok(Self::new(file, Some(path.into()), buffering, bound))
    }

    /// Takes the standard output for a log.
    ///
    /// # Errors
    /// There is no standard output.
    pub fn stdout(buffering: Buffering, bound: usize) -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::new(file, None, buffering, bound))
    }

    fn new(file: File, path: Option<PathBuf>, buffering: Buffering, bound: usize) -> Self {
        Self {
            file,
            path,
            buffering,
            bound: bound.max(FULL),
            buf: Vec::with_capacity(4 * FULL),
            torn: 0,
            torn_len: 0,
            since: None,
            retry: None,
            failing: false,
            reopen: false,
            looked: None,
            closed: false,
            counts: Counts::default(),
        }
    }

    /// Where to append whole lines, each with its line end.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buf
    }

    /// The file, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "the standard output".into(), |p| p.display().to_string())
    }

    /// Whether the reader of the standard output has gone away: an end, not an error.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What is wrong with it now, if anything is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let what = match (self.failing, self.reopen) {
            (true, _) => "write",
            (false, true) => "reopen",
            (false, false) => return None,
        };
        Some(format!("cannot {what} {}", self.name()))
    }

    /// Lines that are wholly in the file, and lines given up; without counting those that wait, which
    /// takes a look at each of them.
    #[must_use]
    pub fn settled(&self) -> (u64, u64) {
        (self.counts.written, self.counts.dropped)
    }

    /// What became of the lines so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { waiting: lines(&self.buf), ..self.counts }
    }

    /// Call after each round and when [`Self::next_due`] says so: writes if it is time to.
    pub fn settle(&mut self, now: Instant) {
        if self.buf.is_empty() && !self.reopen {
            return;
        }
        if self.retry.is_some_and(|retry| now < retry) {
            self.keep_within_bound();
            return;
        }
        let since = *self.since.get_or_insert(now);
        let due = self.buffering == Buffering::Lines
            || self.buf.len() >= FULL
            || now.saturating_duration_since(since) >= FLUSH
            || self.retry.is_some();
        if due {
            self.flush(now);
        }
    }

    /// When [`Self::settle`] has something to do at the latest.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.retry.or_else(|| self.since.map(|since| since + FLUSH))
    }

    /// Opens the file anew, for a rotation. If that fails the old file stays in use, and the new one
    /// is tried each second.
    pub fn reopen(&mut self, now: Instant) {
        if self.path.is_none() {
            return;
        }
        self.retry = None;
        self.flush(now);
        self.try_reopen(now);
    }

    /// Writes what is left; what can't be written now is counted as dropped.
    pub fn finish(&mut self, now: Instant) {
        self.retry = None;
        self.flush(now);
        self.counts.dropped += lines(&self.buf);
        self.cut_torn();
        self.buf.clear();
    }

    fn try_reopen(&mut self, now: Instant) {
        let Some(path) = self.path.clone() else { return };
        match append(&path) {
            Ok(file) => {
                end_last_line(&file, &path);
                self.cut_torn();
                self.file = file;
                self.reopen = false;
                info!("reopened {}", path.display());
            }
            Err(error) => {
                if !self.reopen {
                    self.counts.failures += 1;
                    warn!("cannot reopen {}: {error}; the old file stays in use", path.display());
                }
                self.reopen = true;
                self.retry = Some(now + RETRY);
            }
        }
    }

    fn flush(&mut self, now: Instant) {
        self.retry = None;
        self.look_for_name(now);
        match self.write_out() {
            Ok(()) => {
                self.since = None;
                if std::mem::take(&mut self.failing) {
                    info!("writing {}; {} lines were dropped", self.name(), self.counts.dropped);
                }
            }
            Err(error) => self.put_off(&error, now),
        }
    }

    fn put_off(&mut self, error: &io::Error, now: Instant) {
        self.retry = Some(now + RETRY);
        match error.kind() {
            ErrorKind::BrokenPipe => {
                self.closed = true;
                self.retry = None;
            }
            ErrorKind::WouldBlock => {}
            _ if self.failing => {}
            _ => {
                self.failing = true;
                self.counts.failures += 1;
                error!("cannot write {}: {error}; lines are kept for now", self.name());
            }
        }
        self.keep_within_bound();
    }

    /// A file without a name is one that somebody removed: its lines would never be seen.
    fn look_for_name(&mut self, now: Instant) {
        if self.path.is_none() {
            return;
        }
        let recently = |looked| now.saturating_duration_since(looked) < RETRY;
        if !self.reopen && self.looked.is_some_and(recently) {
            return;
        }
        self.looked = Some(now);
        if self.reopen || self.file.metadata().is_ok_and(|file| file.nlink() == 0) {
            self.try_reopen(now);
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        let mut done = self.torn;
        let result = loop {
            if done == self.buf.len() {
                break Ok(());
            }
            match self.file.write(&self.buf[done..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(len) => done += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.counts.bytes += (done - self.torn) as u64;
        let whole = self.buf[..done].iter().rposition(|&byte| byte == b'\n').map_or(0, |lf| lf + 1);
        self.counts.written += lines(&self.buf[..whole]);
        self.buf.drain(..whole);
        self.torn = done - whole;
        if self.torn > 0 {
            self.torn_len = self.file.metadata().map_or(0, |file| file.len());
        }
        result
    }

    /// Takes the part of a line off the end of the file, if it still is the end.
    fn cut_torn(&mut self) {
        let torn = std::mem::take(&mut self.torn) as u64;
        if torn == 0 {
            return;
        }
        let unchanged = self.file.metadata().is_ok_and(|f| f.is_file() && f.len() == self.torn_len);
        let cut = unchanged && self.file.set_len(self.torn_len.saturating_sub(torn)).is_ok();
        if cut {
            self.counts.bytes -= torn;
        } else {
            warn!("{} may end in a part of a line, which is whole in the next file", self.name());
        }
    }

    /// The newest lines go: what stays is without a gap.
    fn keep_within_bound(&mut self) {
        if self.buf.len() <= self.bound {
            return;
        }
        let kept = &self.buf[..self.bound];
        let end = kept.iter().rposition(|&byte| byte == b'\n').map_or(0, |lf| lf + 1);
        // The line that is partly in the file stays, whatever its length.
        let end = if end == 0 && self.torn > 0 {
            self.buf.iter().position(|&byte| byte == b'\n').map_or(self.buf.len(), |lf| lf + 1)
        } else {
            end
        };
        self.counts.dropped += lines(&self.buf[end..]);
        self.buf.truncate(end);
    }
}

/// Counts line ends. In runs that a byte can count: so it takes many at a time.
fn lines(bytes: &[u8]) -> u64 {
    let run = |run: &[u8]| run.iter().map(|&byte| u8::from(byte == b'\n')).sum::<u8>();
    bytes.chunks(usize::from(u8::MAX)).map(|bytes| u64::from(run(bytes))).sum()
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Best effort: what was cut off by a crash must not have our first line glued to it.
fn end_last_line(mut file: &File, path: &Path) {
    let Ok(metadata) = file.metadata() else { return };
    if !metadata.is_file() || metadata.len() == 0 {
        return;
    }
    let mut last = [0];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut last, metadata.len() - 1));
    if read.is_ok() && last != [b'\n'] {
        warn!("{} ends in a part of a line: ending it", path.display());
        file.write_all(b"\n").unwrap_or_default();
    }
}
