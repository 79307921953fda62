//! A log file: whole lines are appended, reach the disk's cache within a second, and survive a full
//! disk, a vanished folder and a rotation; what can't be kept is counted in lines.
//!
//! Lines are put into [`LogFile::buffer`], each with its line end; [`LogFile::settle`] writes when it is
//! time. When a write fails, the file has lost its name, or nobody reads the pipe, the lines stay in the
//! buffer, up to a bound, and the write is tried again: each second, or as soon as somebody reads. A line of which only a part could be written is completed first; if the file is
//! changed meanwhile, the part is cut off the old one and the whole line goes to the new one.

mod outlet;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use self::outlet::Outlet;

/// Bytes that are worth a write of their own.
const FULL: usize = 64 * 1024;
/// How long a line waits for company.
const FLUSH: Duration = Duration::from_millis(200);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// How long a full pipe is waited for while its reader reads, and how long until the next try when it
/// does not.
const PATIENCE: Duration = Duration::from_millis(5);
const STALL: Duration = Duration::from_millis(50);
/// How often a pipe is waited for at the end, and how long each time, without a byte going out.
const LAST_TRIES: u32 = 20;
const LAST_WAIT: Duration = Duration::from_millis(100);

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
    outlet: Outlet,
    /// `None` for the standard output.
    path: Option<PathBuf>,
    buffering: Buffering,
    /// The most bytes kept while nothing can be written.
    bound: usize,
    /// Whole lines: those from `head` on are not, or not wholly, in the file.
    buf: Vec<u8>,
    head: usize,
    /// Bytes of the first of these that are in the file, and how long the file was then.
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
    /// Since when nobody reads the pipe.
    stalled: Option<Instant>,
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
        Ok(Self::new(Outlet::append(path)?, Some(path.into()), buffering, bound))
    }

    /// Takes the standard output for a log.
    ///
    /// # Errors
    /// There is no standard output.
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
        Counts { waiting: lines(self.waiting()), ..self.counts }
    }

    fn waiting(&self) -> &[u8] {
        &self.buf[self.head..]
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
            || self.waiting().len() >= FULL
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

    /// Writes what is left. A pipe's reader gets a moment for each piece; what cannot be written now is
    /// counted as dropped.
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
                    let what = if self.outlet.is_nameless() {
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
        if !self.has_name(now) {
            return self.keep_within_bound();
        }
        // Whoever waits for a reader who is away does nothing else meanwhile.
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

    /// Whether what is written now will be seen: not in a file that somebody removed, unless it can be
    /// made anew.
    fn has_name(&mut self, now: Instant) -> bool {
        if self.path.is_none() {
            return true;
        }
        if self.reopen || self.outlet.is_nameless() {
            self.try_reopen(now);
        }
        !(self.reopen && self.outlet.is_nameless())
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
        // A pipe takes little at a time of what may be much.
        if self.head > self.buf.len() / 2 {
            self.buf.drain(..self.head);
            self.head = 0;
        }
        if self.torn > 0 {
            self.torn_len = self.outlet.len();
        }
        result
    }

    /// Takes the part of a line off the end of the file, if it still is the end.
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

    /// The newest lines go: what stays is without a gap.
    fn keep_within_bound(&mut self) {
        let head = self.head;
        if self.waiting().len() <= self.bound {
            return;
        }
        let kept = &self.buf[head..head + self.bound];
        let end = kept.iter().rposition(|&byte| byte == b'\n').map_or(0, |lf| lf + 1);
        // The line that is partly in the file stays, whatever its length.
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

/// Counts line ends. In runs that a byte can count: so it takes many at a time.
fn lines(bytes: &[u8]) -> u64 {
    let run = |run: &[u8]| run.iter().map(|&byte| u8::from(byte == b'\n')).sum::<u8>();
    bytes.chunks(usize::from(u8::MAX)).map(|bytes| u64::from(run(bytes))).sum()
}
