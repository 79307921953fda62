//! pen's own access log: a line for each forwarded HTTP/1.x exchange, so that a small site needs no collector.
//! [`mod@line`] has the format; this file has the way to the log file, through a log thread
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
    self, Batcher, LogBatch, LogCounters, LogThread, LogTrouble, LogWriter,
};
use crate::logs::mapping_log::wall_clock;
use line::{AccessLogLine, CachedTimestamp};

/// Most bytes of a batch.
const BATCH: usize = 16 * 1024;
/// Most batches in the queue.
const QUEUE: usize = 256;
/// Most bytes of lines kept while a disk is full.
const BOUND: usize = 4 << 20;

/// The access log and its thread.
pub type AccessLog = LogThread<Option<PathBuf>>;

/// A handle to the access log for observers and for changes of the target.
pub type AccessLogControl = log_thread::LogControl<Option<PathBuf>>;

impl AccessLog {
    /// Starts the log thread. The file is opened at once, so that a fault is reported at the start.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread cannot be started.
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

    /// Returns a line writer for a worker.
    #[must_use]
    pub fn line_writer(&self) -> AccessLineWriter {
        AccessLineWriter { batch: self.batcher(BATCH), stamp: CachedTimestamp::default() }
    }
}

fn open(path: &Path) -> io::Result<LogFile> {
    LogFile::open(path, Buffering::Blocks, BOUND)
}

/// Collects the lines of a worker.
#[derive(Debug)]
pub struct AccessLineWriter {
    batch: Batcher<Option<PathBuf>>,
    stamp: CachedTimestamp,
}

impl AccessLineWriter {
    /// Adds a line, dated by the system clock.
    pub fn add(&mut self, line: &AccessLogLine<'_>, now: Instant) {
        let time = self.stamp.at(wall_clock());
        self.batch.add(now, |out| line.write(time, out));
    }

    /// Hands the batch over if it has waited long enough.
    pub fn flush_due(&mut self, now: Instant) {
        self.batch.flush_due(now);
    }

    /// Returns when [`Self::flush_due`] is due; `None` for an empty batch.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.batch.next_due()
    }
}

struct AccessFileWriter {
    file: Option<LogFile>,
    /// The path of `file`, or of the file that could not be opened; `None` if the log is off.
    path: Option<PathBuf>,
    /// Lines written, and lines dropped, before this file.
    before: (u64, u64),
    counts: Arc<LogCounters>,
    trouble: LogTrouble,
}

impl LogWriter for AccessFileWriter {
    type Target = Option<PathBuf>;

    fn write(&mut self, batch: LogBatch) {
        match &mut self.file {
            Some(file) => file.buffer().extend_from_slice(&batch.bytes),
            // The file has been switched off since these lines were made.
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
                warn!(path = %path.display(), %error, "cannot open the access log: lines are dropped");
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
