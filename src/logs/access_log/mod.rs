//! pen's own access log: a line for each exchange of HTTP/1.x that was forwarded, so that a small site
//! needs no collector. [`mod@line`] has the form; here is the way into the file, which nobody waits for
//! ([`crate::logs::log_thread`]).

pub mod line;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pen_daemon::logfile::{Buffering, LogFile};
use tracing::warn;

use crate::logs::log_thread::{
    self, Batch, Batcher, LogCounters, LogThread, LogTrouble, LogWriter,
};
use crate::logs::mapping_log::wall_clock;
use line::{AccessLogLine, CachedTimestamp};

/// Bytes of lines that go to the thread at a time.
const BATCH: usize = 16 * 1024;
/// Batches that may wait.
const QUEUE: usize = 256;
/// Bytes of lines that are kept while a disk is full.
const BOUND: usize = 4 << 20;

/// The log's end that others hold.
pub type AccessLog = LogThread<Option<PathBuf>>;

/// The log from afar; it does not keep it.
pub type AccessLogControl = log_thread::LogControl<Option<PathBuf>>;

impl AccessLog {
    /// Starts the thread that writes. The file is opened at once, so that faults are seen.
    ///
    /// # Errors
    /// The file can't be opened, or there is no thread to be had.
    pub fn start(path: Option<&Path>) -> io::Result<Self> {
        let file = path.map(open).transpose()?;
        let (counts, trouble) = (Arc::new(LogCounters::default()), LogTrouble::default());
        let writer = AccessFileWriter {
            file,
            path: path.map(Path::to_owned),
            before: (0, 0),
            counts: counts.clone(),
            trouble: trouble.clone(),
        };
        Self::run("access log", QUEUE, counts, trouble, writer)
    }

    /// For a worker.
    #[must_use]
    pub fn line_writer(&self) -> AccessLineWriter {
        AccessLineWriter { batch: self.batcher(BATCH), stamp: CachedTimestamp::default() }
    }
}

fn open(path: &Path) -> io::Result<LogFile> {
    LogFile::open(path, Buffering::Blocks, BOUND)
}

/// The lines of a worker.
#[derive(Debug)]
pub struct AccessLineWriter {
    batch: Batcher<Option<PathBuf>>,
    stamp: CachedTimestamp,
}

impl AccessLineWriter {
    /// Adds a line, which is dated by the wall clock.
    pub fn add(&mut self, line: &AccessLogLine<'_>, now: Instant) {
        let time = self.stamp.at(wall_clock());
        self.batch.add(now, |out| line.write(time, out));
    }

    /// Lets those go that have waited long enough.
    pub fn flush_due(&mut self, now: Instant) {
        self.batch.flush_due(now);
    }

    /// When [`Self::settle`] has something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.batch.next_due()
    }
}

struct AccessFileWriter {
    file: Option<LogFile>,
    /// Where it is, or is to be when it can be opened.
    path: Option<PathBuf>,
    /// What files before this one have written and dropped.
    before: (u64, u64),
    counts: Arc<LogCounters>,
    trouble: LogTrouble,
}

impl LogWriter for AccessFileWriter {
    type Target = Option<PathBuf>;

    fn write(&mut self, batch: &Batch) {
        match &mut self.file {
            Some(file) => file.buffer().extend_from_slice(&batch.bytes),
            // There was one when they were made.
            None => self.before.1 += u64::from(batch.count),
        }
    }

    fn set_target(&mut self, path: Option<PathBuf>) {
        self.finish();
        self.trouble.replace(None);
        self.path = path;
        self.file = self.path.as_deref().and_then(|path| match open(path) {
            Ok(file) => Some(file),
            Err(error) => {
                warn!("cannot open {}: {error}; there is no access log now", path.display());
                self.trouble.replace(Some(format!("cannot open {}: {error}", path.display())));
                None
            }
        });
    }

    fn reopen(&mut self) {
        match &mut self.file {
            Some(file) => file.reopen(Instant::now()),
            None if self.path.is_some() => self.set_target(self.path.clone()),
            None => {}
        }
    }

    fn settle(&mut self) {
        let (mut written, mut dropped) = self.before;
        if let Some(file) = &mut self.file {
            file.settle(Instant::now());
            let settled = file.settled();
            written += settled.0;
            dropped += settled.1;
            self.trouble.replace(file.trouble());
        }
        self.counts.written.store(written, Ordering::Relaxed);
        self.counts.failed.store(dropped, Ordering::Relaxed);
    }

    fn next_due(&self) -> Option<Instant> {
        self.file.as_ref()?.next_due()
    }

    fn finish(&mut self) {
        if let Some(mut file) = self.file.take() {
            file.finish(Instant::now());
            let settled = file.settled();
            self.before.0 += settled.0;
            self.before.1 += settled.1;
        }
        self.settle();
    }
}
