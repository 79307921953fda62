//! A log file. Whole lines are appended, are written within a second, and survive a full disk, a removed folder and a rotation;
//! lines that cannot be kept are counted.
//!
//! Callers put lines into [`LogFile::buffer`], each with its line feed; [`LogFile::settle`] writes when it is time. When a
//! write fails, the file was removed, or nobody reads the pipe, lines stay in the buffer, up to a bound, and the write is
//! repeated each second, or as soon as the pipe is read. A partly written line is completed first; if the file is replaced
//! meanwhile, the part is cut off the old file and the whole line goes into the new one.

mod outlet;
mod place;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use self::outlet::Outlet;
pub use self::place::{LinesBehind, LogPlace, lines_behind};

/// Number of buffered bytes that are written at once.
const FULL: usize = 64 * 1024;
/// Longest time that a line stays in the buffer.
const FLUSH: Duration = Duration::from_millis(200);
/// Pause after a failed write.
const RETRY: Duration = Duration::from_secs(1);
/// How long to wait for a full pipe, and the pause before the next try if its reader does not read.
const PATIENCE: Duration = Duration::from_millis(5);
const STALL: Duration = Duration::from_millis(50);
/// At the end: number of waits for a full pipe without progress, and the length of each.
const LAST_TRIES: u32 = 20;
const LAST_WAIT: Duration = Duration::from_millis(100);

/// When lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Buffering {
    /// In batches; a line waits for a fraction of a second at most.
    #[default]
    Blocks,
    /// At once.
    Lines,
}

/// An open log file.
#[derive(Debug)]
pub struct LogFile {
    outlet: Outlet,
    /// `None` for the standard output.
    path: Option<PathBuf>,
    buffering: Buffering,
    /// Limit for buffered bytes while nothing can be written.
    bound: usize,
    /// Whole lines; from `head` on they are not, or only partly, in the file.
    buf: Vec<u8>,
    head: usize,
    /// Bytes at `head` that are in the file already, and the file's length at that time.
    torn: usize,
    torn_len: u64,
    /// When the oldest buffered line came.
    since: Option<Instant>,
    /// When to try again after a failure.
    retry: Option<Instant>,
    /// A write has failed, and none has succeeded since.
    failing: bool,
    /// A reopening has failed and is still to be done.
    reopen: bool,
    /// Since when the pipe is not read.
    stalled: Option<Instant>,
    closed: bool,
    counts: LogFileCounts,
}

/// Counters of a log file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFileCounts {
    /// Lines wholly written.
    pub written: u64,
    /// Bytes written, partly written lines included.
    pub bytes: u64,
    /// Lines dropped because writing failed and the buffer was full.
    pub dropped: u64,
    /// Lines in the buffer.
    pub waiting: u64,
    /// Number of times that writing or reopening began to fail.
    pub failures: u64,
}

impl LogFile {
    /// Opens `path` for appending; `bound` limits the bytes kept while the disk is full. An unfinished last line, left by a
    /// crash, gets a line feed.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path, buffering: Buffering, bound: usize) -> io::Result<Self> {
        Ok(Self::new(Outlet::append(path)?, Some(path.into()), buffering, bound))
    }

    /// Uses the standard output as the log.
    ///
    /// # Errors
    /// The standard output is closed.
    pub fn stdout(buffering: Buffering, bound: usize) -> io::Result<Self> {
        Ok(Self::new(Outlet::stdout()?, None, buffering, bound))
    }

    fn new(outlet: Outlet, path: Option<PathBuf>, buffering: Buffering, bound: usize) -> Self {
        Self {
            outlet,
            path,
            buffering,
            bound: bound.max(FULL),
            buf: Vec::with_capacity(4 * FULL),
            head: 0,
            torn: 0,
            torn_len: 0,
            since: None,
            retry: None,
            failing: false,
            reopen: false,
            stalled: None,
            closed: false,
            counts: LogFileCounts::default(),
        }
    }

    /// Returns the buffer for whole lines, each with its line feed.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buf
    }

    /// Returns the path, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "the standard output".into(), |p| p.display().to_string())
    }

    /// Returns whether the reader of the standard output has closed it: a normal end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns whether writing has failed, and not succeeded since.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing
    }

    /// Returns the place behind the last whole line in the file; `None` if the log is no plain file.
    #[must_use]
    pub fn place(&self) -> Option<LogPlace> {
        let place = self.outlet.end()?;
        Some(LogPlace { offset: place.offset.saturating_sub(self.torn as u64), ..place })
    }

    /// Returns the open file once more, for another thread to make its lines durable.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn file(&self) -> io::Result<File> {
        self.outlet.again()
    }

    /// Returns how many bytes are in the buffer.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.waiting().len()
    }

    /// Returns the current trouble, if any.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let what = match (self.failing, self.reopen) {
            (true, _) => "write",
            (false, true) => "reopen",
            (false, false) => return None,
        };
        Some(format!("cannot {what} {}", self.name()))
    }

    /// Returns the lines written and the lines dropped, without the buffered ones, which would have to be counted.
    #[must_use]
    pub fn settled(&self) -> (u64, u64) {
        (self.counts.written, self.counts.dropped)
    }

    /// Returns the counters so far.
    #[must_use]
    pub fn counts(&self) -> LogFileCounts {
        LogFileCounts { waiting: lines(self.waiting()), ..self.counts }
    }

    fn waiting(&self) -> &[u8] {
        &self.buf[self.head..]
    }

    /// Writes if it is time to. Call after each round and when [`Self::next_due`] says so.
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
            || self.waiting().len() >= FULL
            || now.saturating_duration_since(since) >= FLUSH
            || self.retry.is_some();
        if due {
            self.flush(now);
        }
    }

    /// Returns the latest time for the next call of [`Self::settle`].
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.retry.or_else(|| self.since.map(|since| since + FLUSH))
    }

    /// Opens the file again, after a rotation. On failure the old file stays in use, and the new one is tried each second.
    pub fn reopen(&mut self, now: Instant) {
        if self.path.is_none() {
            return;
        }
        self.retry = None;
        self.flush(now);
        self.try_reopen(now);
    }

    /// Writes the rest of the buffer. The reader of a full pipe gets a moment for each piece; the rest is counted as dropped.
    pub fn finish(&mut self, now: Instant) {
        self.retry = None;
        self.flush(now);
        let mut tries = 0;
        while self.stalled.is_some() && tries < LAST_TRIES {
            let left = self.waiting().len() - self.torn;
            let stalled =
                self.write_out(LAST_WAIT).is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
            self.stalled = self.stalled.filter(|_| stalled);
            tries = if self.waiting().len() - self.torn < left { 0 } else { tries + 1 };
        }
        self.counts.dropped += lines(self.waiting());
        self.cut_torn();
        self.buf.clear();
        self.head = 0;
    }

    fn try_reopen(&mut self, now: Instant) {
        let Some(path) = self.path.clone() else { return };
        match Outlet::append(&path) {
            Ok(outlet) => {
                self.cut_torn();
                self.outlet = outlet;
                self.reopen = false;
                info!("reopened {}", path.display());
            }
            Err(error) => {
                if !self.reopen {
                    self.counts.failures += 1;
                    let what = if self.outlet.is_removed() {
                        "it was removed, lines are kept for now"
                    } else {
                        "the old file stays in use"
                    };
                    warn!("cannot reopen {}: {error}; {what}", path.display());
                }
                self.reopen = true;
                self.retry = Some(now + RETRY);
            }
        }
    }

    fn flush(&mut self, now: Instant) {
        self.retry = None;
        if !self.is_visible(now) {
            return self.keep_within_bound();
        }
        // While this waits for a reader, the program does nothing else.
        let patience = if self.stalled.is_some() { Duration::ZERO } else { PATIENCE };
        match self.write_out(patience) {
            Ok(()) => {
                (self.since, self.stalled) = (None, None);
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
            ErrorKind::WouldBlock => {
                let since = *self.stalled.get_or_insert(now);
                self.retry = Some(now + STALL);
                if !self.failing && now.saturating_duration_since(since) >= RETRY {
                    self.fail("nobody reads it");
                }
            }
            _ if self.failing => {}
            _ => self.fail(error),
        }
        self.keep_within_bound();
    }

    fn fail(&mut self, why: impl std::fmt::Display) {
        self.failing = true;
        self.counts.failures += 1;
        error!("cannot write {}: {why}; lines are kept for now", self.name());
    }

    /// Returns whether written lines will be seen: not in a removed file that cannot be created again.
    fn is_visible(&mut self, now: Instant) -> bool {
        if self.path.is_none() {
            return true;
        }
        if self.reopen || self.outlet.is_removed() {
            self.try_reopen(now);
        }
        !(self.reopen && self.outlet.is_removed())
    }

    fn write_out(&mut self, patience: Duration) -> io::Result<()> {
        let begin = self.head + self.torn;
        let mut done = begin;
        let result = loop {
            if done == self.buf.len() {
                break Ok(());
            }
            match self.outlet.write(&self.buf[done..], patience) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(len) => done += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        if done > begin {
            self.stalled = None;
        }
        self.counts.bytes += (done - begin) as u64;
        let whole = self.buf[self.head..done].iter().rposition(|&byte| byte == b'\n');
        let whole = self.head + whole.map_or(0, |lf| lf + 1);
        self.counts.written += lines(&self.buf[self.head..whole]);
        (self.head, self.torn) = (whole, done - whole);
        // A pipe takes small pieces of a buffer that may be large.
        if self.head > self.buf.len() / 2 {
            self.buf.drain(..self.head);
            self.head = 0;
        }
        if self.torn > 0 {
            self.torn_len = self.outlet.len();
        }
        result
    }

    /// Cuts a partly written line off the end of the file, if nothing was appended after it.
    fn cut_torn(&mut self) {
        let torn = std::mem::take(&mut self.torn) as u64;
        if torn == 0 {
            return;
        }
        if self.outlet.cut(torn, self.torn_len) {
            self.counts.bytes -= torn;
        } else {
            warn!("{} may end in a part of a line", self.name());
        }
    }

    /// Drops the newest lines, so that the log has no gap before the kept ones.
    fn keep_within_bound(&mut self) {
        let head = self.head;
        if self.waiting().len() <= self.bound {
            return;
        }
        let kept = &self.buf[head..head + self.bound];
        let end = kept.iter().rposition(|&byte| byte == b'\n').map_or(0, |lf| lf + 1);
        // The partly written line stays, whatever its length.
        let end = if end == 0 && self.torn > 0 {
            let first = self.waiting().iter().position(|&byte| byte == b'\n');
            first.map_or_else(|| self.waiting().len(), |lf| lf + 1)
        } else {
            end
        };
        self.counts.dropped += lines(&self.buf[head + end..]);
        self.buf.truncate(head + end);
    }
}

/// Counts line feeds, in runs short enough for a byte counter, so that the compiler vectorizes the loop.
fn lines(bytes: &[u8]) -> u64 {
    let run = |run: &[u8]| run.iter().map(|&byte| u8::from(byte == b'\n')).sum::<u8>();
    bytes.chunks(usize::from(u8::MAX)).map(|bytes| u64::from(run(bytes))).sum()
}
