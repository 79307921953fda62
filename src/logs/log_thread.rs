//! A log thread: workers hand over records or lines in batches, through a bounded queue, and never wait.
//!
//! ```text
//! worker: Batcher ──┐
//! worker: Batcher ──┼─▶ bounded queue ──▶ one thread: a LogWriter
//! worker: Batcher ──┘
//! ```
//!
//! A batch that finds the queue full is dropped and its records are counted. The thread may wait for a disk; workers do
//! not.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use tracing::warn;

/// How long a batch may wait for further records.
const FLUSH: Duration = Duration::from_millis(5);

/// Pause between two looks at the queue while there is traffic.
const GATHER: Duration = Duration::from_millis(5);

/// Looks at an empty queue after which the thread blocks until it is woken.
const CALM: u32 = 20;

/// Whether records leave at once, or wait some milliseconds for further ones. Shared by the thread and its workers.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogPace(Arc<AtomicBool>);

impl LogPace {
    /// Makes records leave at once, or lets them wait.
    pub(crate) fn set_prompt(&self, is_prompt: bool) {
        self.0.store(is_prompt, Ordering::Relaxed);
    }

    /// Returns how long a batch may wait for further records.
    fn flush(&self) -> Duration {
        if self.0.load(Ordering::Relaxed) { Duration::ZERO } else { FLUSH }
    }
}

/// Counters of a log.
#[derive(Debug, Default)]
pub struct LogCounters {
    /// Records or lines made.
    pub made: AtomicU64,
    /// Records or lines sent, or written to the file.
    pub written: AtomicU64,
    /// Records or lines dropped because the queue was full.
    pub overrun: AtomicU64,
    /// Records or lines that could not be sent or written.
    pub failed: AtomicU64,
}

/// Records or lines of a worker.
#[derive(Debug)]
pub struct LogBatch {
    /// The number of records or lines.
    pub count: u32,
    /// The records or lines, one after the other.
    pub bytes: Vec<u8>,
}

/// A message to the thread. `T` is the target of the log.
#[derive(Debug)]
pub(crate) enum LogMessage<T> {
    Batch(LogBatch),
    Target(T),
    Reopen,
    End,
}

/// The current fault of a log, shared between the thread and its observers.
#[derive(Clone, Debug, Default)]
pub struct LogTrouble(Arc<Mutex<Option<String>>>);

impl LogTrouble {
    /// Returns the current fault; `None` if the log works.
    #[must_use]
    pub fn now(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the fault and returns the previous one.
    pub(crate) fn replace(&self, now: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}

/// Writes the batches of a log, in its thread.
pub(crate) trait LogWriter: Send + 'static {
    /// Where the log is written to.
    type Target: Send + 'static;

    /// Writes a batch, or keeps it until [`Self::settle`].
    fn write(&mut self, batch: LogBatch);

    /// Changes the target.
    fn set_target(&mut self, target: Self::Target);

    /// Reopens the file, or opens one that could not be opened before.
    fn reopen(&mut self);

    /// Finishes pending work: called after each other method, and at [`Self::next_due`].
    fn settle(&mut self);

    /// Returns when [`Self::settle`] is due; `None` if nothing is pending.
    fn next_due(&self) -> Option<Instant>;

    /// Returns whether batches may wait some milliseconds before they are written.
    fn may_gather(&self) -> bool {
        true
    }

    /// Returns what tells the workers whether records leave at once.
    fn pace(&self) -> LogPace {
        LogPace::default()
    }

    /// Writes everything that is left.
    fn finish(&mut self);
}

/// The owner's handle to a log and its thread.
#[derive(Debug)]
pub struct LogThread<T> {
    control: LogControl<T>,
    /// A request to reopen. It does not go through the queue, which may be full while a disk hangs.
    reopen: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> LogThread<T> {
    /// Starts the thread, named `name`, with a queue of `waiting` batches.
    pub(crate) fn run<S: LogWriter<Target = T>>(
        name: &str,
        waiting: usize,
        counts: Arc<LogCounters>,
        trouble: LogTrouble,
        sink: S,
    ) -> io::Result<Self> {
        let pace = sink.pace();
        let (queue, messages) = bounded(waiting);
        let reopen = Arc::new(AtomicBool::new(false));
        let told = reopen.clone();
        let write_messages = move || write_messages(&messages, &told, sink);
        let thread = Some(std::thread::Builder::new().name(name.into()).spawn(write_messages)?);
        Ok(Self { control: LogControl { queue, counts, trouble, pace }, reopen, thread })
    }

    /// Returns a batcher for a worker. Its batches have at most `most` bytes, unless a single record is longer.
    pub(crate) fn batcher(&self, most: usize) -> Batcher<T> {
        let LogControl { queue, counts, pace, .. } = self.control.clone();
        Batcher::new(queue, counts, pace, most)
    }

    /// Reopens the file, for log rotation, or opens one that could not be opened before. Never waits.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // A full queue is fine: the thread checks the flag after each message.
        let _ = self.control.queue.try_send(LogMessage::Reopen);
    }

    /// Returns whether the thread has ended; before [`Self::finish`] that means a panic.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Returns the counters.
    #[must_use]
    pub fn counts(&self) -> &LogCounters {
        &self.control.counts
    }

    /// Returns the current fault; `None` if the log works.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.control.trouble()
    }

    /// Returns a handle for observers and for changes of the target.
    #[must_use]
    pub fn control(&self) -> LogControl<T> {
        self.control.clone()
    }

    /// Writes everything that is left and ends the thread. The workers must have ended.
    pub fn finish(mut self) {
        let _ = self.control.queue.send(LogMessage::End); // A thread that has panicked is reported below.
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("a log thread has panicked");
        }
    }
}

/// A handle that reads counters and faults of a log and changes its target. The handle does not keep the thread running.
#[derive(Debug)]
pub struct LogControl<T> {
    queue: Sender<LogMessage<T>>,
    counts: Arc<LogCounters>,
    trouble: LogTrouble,
    pace: LogPace,
}

impl<T> Clone for LogControl<T> {
    fn clone(&self) -> Self {
        let Self { queue, counts, trouble, pace } = self;
        let (counts, trouble) = (counts.clone(), trouble.clone());
        Self { queue: queue.clone(), counts, trouble, pace: pace.clone() }
    }
}

impl<T> LogControl<T> {
    /// Changes the target. A file that cannot be opened is reported, and tried again when the log is reopened.
    ///
    /// # Errors
    /// The queue is full, or the thread has ended.
    pub fn set_target(&self, target: T) -> Result<(), String> {
        let sent = self.queue.try_send(LogMessage::Target(target));
        sent.map_err(|_| "the log does not keep up, try again".to_owned())
    }

    /// Returns the counters.
    #[must_use]
    pub fn counts(&self) -> &LogCounters {
        &self.counts
    }

    /// Returns the current fault; `None` if the log works.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.now()
    }
}

/// The records or lines of a worker that are not handed over yet.
#[derive(Debug)]
pub(crate) struct Batcher<T> {
    queue: Sender<LogMessage<T>>,
    counts: Arc<LogCounters>,
    pace: LogPace,
    bytes: Vec<u8>,
    count: u32,
    /// When the first record of the batch was added; `None` for an empty batch.
    since: Option<Instant>,
    /// Most bytes of a batch.
    most: usize,
}

impl<T> Batcher<T> {
    pub(crate) fn new(
        queue: Sender<LogMessage<T>>,
        counts: Arc<LogCounters>,
        pace: LogPace,
        most: usize,
    ) -> Self {
        Self { queue, counts, pace, bytes: Vec::new(), count: 0, since: None, most }
    }

    /// Adds the record that `write` writes. The batch is handed over within some milliseconds.
    pub(crate) fn add(&mut self, now: Instant, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(self.most);
        }
        write(&mut self.bytes);
        if self.bytes.len() > self.most && before > 0 {
            let last = self.bytes.split_off(before);
            self.flush();
            self.bytes = last;
        }
        self.count += 1;
        self.since.get_or_insert(now);
    }

    /// Returns whether a record of `more` bytes does not fit into the batch any more.
    pub(crate) fn is_full(&self, more: usize) -> bool {
        self.bytes.len() + more > self.most
    }

    /// Hands the batch over if it has waited long enough.
    pub(crate) fn flush_due(&mut self, now: Instant) {
        if self.since.is_some_and(|since| now >= since + self.pace.flush()) {
            self.flush();
        }
    }

    /// Returns when [`Self::flush_due`] is due; `None` for an empty batch.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.since.map(|since| since + self.pace.flush())
    }

    /// Hands the batch over.
    pub(crate) fn flush(&mut self) {
        self.since = None;
        if self.count == 0 {
            return;
        }
        let count = std::mem::take(&mut self.count);
        self.counts.made.fetch_add(count.into(), Ordering::Relaxed);
        let batch = LogBatch { count, bytes: std::mem::take(&mut self.bytes) };
        if self.queue.try_send(LogMessage::Batch(batch)).is_err() {
            self.counts.overrun.fetch_add(count.into(), Ordering::Relaxed);
        }
    }
}

impl<T> Drop for Batcher<T> {
    fn drop(&mut self) {
        self.flush();
    }
}

fn write_messages<S: LogWriter>(
    messages: &Receiver<LogMessage<S::Target>>,
    reopen: &AtomicBool,
    mut sink: S,
) {
    let mut inbox = LogInbox { messages, looks: CALM };
    loop {
        match inbox.next(sink.next_due(), sink.may_gather()) {
            Ok(LogMessage::Batch(batch)) => sink.write(batch),
            Ok(LogMessage::Target(target)) => sink.set_target(target),
            Ok(LogMessage::Reopen) | Err(RecvTimeoutError::Timeout) => {}
            Ok(LogMessage::End) | Err(RecvTimeoutError::Disconnected) => return sink.finish(),
        }
        if reopen.swap(false, Ordering::Acquire) {
            sink.reopen();
        }
        sink.settle();
    }
}

/// The receiving end of the queue. Waking the thread for each batch costs more than writing the batch, in the thread and in
/// the worker that wakes it. So under traffic the thread looks at the queue now and then, and no worker wakes it.
struct LogInbox<'a, T> {
    messages: &'a Receiver<LogMessage<T>>,
    /// Looks at an empty queue since the last message.
    looks: u32,
}

impl<T> LogInbox<'_, T> {
    fn next(
        &mut self,
        due: Option<Instant>,
        gather: bool,
    ) -> Result<LogMessage<T>, RecvTimeoutError> {
        loop {
            match self.messages.try_recv() {
                Ok(message) => {
                    self.looks = 0;
                    return Ok(message);
                }
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                return Err(RecvTimeoutError::Timeout);
            }
            if gather && self.looks < CALM {
                self.looks += 1;
                std::thread::park_timeout(GATHER);
                continue;
            }
            self.looks = 0;
            return match due {
                Some(due) => self.messages.recv_deadline(due),
                None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reopening_never_waits() {
        let (queue, _nobody_takes_them) = bounded(1);
        let control = LogControl::<()> {
            queue,
            counts: Arc::default(),
            trouble: LogTrouble::default(),
            pace: LogPace::default(),
        };
        let log = LogThread { control, reopen: Arc::default(), thread: None };
        log.reopen();
        log.reopen();
        assert!(log.reopen.load(Ordering::Relaxed));
    }
}
