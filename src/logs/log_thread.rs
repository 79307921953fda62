//! A log that nobody waits for: what workers note goes in batches through a bounded queue to a thread.
//!
//! ```text
//! worker: Batcher ──┐
//! worker: Batcher ──┼─▶ a bounded queue ──▶ one thread: a Sink
//! worker: Batcher ──┘
//! ```
//!
//! A batch that finds the queue full is dropped and what is in it is counted. The thread may wait for a
//! disk; traffic does not.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use tracing::warn;

/// How long what is noted waits for company.
const FLUSH: Duration = Duration::from_millis(5);

/// How long messages gather before the thread looks.
const GATHER: Duration = Duration::from_millis(5);

/// After so many looks that found nothing the thread waits until it is woken.
const CALM: u32 = 20;

/// What became of what was noted.
#[derive(Debug, Default)]
pub struct LogCounters {
    /// What was noted.
    pub made: AtomicU64,
    /// What of it was sent or is in the file.
    pub written: AtomicU64,
    /// What found the queue full.
    pub overrun: AtomicU64,
    /// What could not be sent or written.
    pub failed: AtomicU64,
}

/// Some of what a worker has noted.
#[derive(Debug)]
pub struct Batch {
    /// How much that is.
    pub count: u32,
    /// One behind the other.
    pub bytes: Vec<u8>,
}

/// What the thread is told. `T` says where to write.
#[derive(Debug)]
pub(crate) enum LogMessage<T> {
    Batch(Batch),
    Target(T),
    Reopen,
    End,
}

/// What is wrong with a log, seen from everywhere.
#[derive(Clone, Debug, Default)]
pub struct LogTrouble(Arc<Mutex<Option<String>>>);

impl LogTrouble {
    /// What it is now, if anything is.
    #[must_use]
    pub fn now(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands back what it was before.
    pub(crate) fn replace(&self, now: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}

/// What the thread writes with.
pub(crate) trait LogWriter: Send + 'static {
    /// Where to.
    type Target: Send + 'static;

    /// Writes a batch, or keeps it until [`Self::settle`].
    fn write(&mut self, batch: &Batch);

    /// Writes somewhere else from now on.
    fn set_target(&mut self, target: Self::Target);

    /// Opens a file anew, or what could not be opened.
    fn reopen(&mut self);

    /// Called after each of the others, and when [`Self::next_due`] says so.
    fn settle(&mut self);

    /// When there is something to do.
    fn next_due(&self) -> Option<Instant>;

    /// Whether messages may gather for a few milliseconds.
    fn may_gather(&self) -> bool {
        true
    }

    /// Writes what is left.
    fn finish(&mut self);
}

/// The log's end that others hold: it is given to workers, and told where to write.
#[derive(Debug)]
pub struct LogThread<T> {
    control: LogControl<T>,
    /// Told beside the queue, which may be full while a disk hangs.
    reopen: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> LogThread<T> {
    /// Starts the thread, by a name; so many batches may wait for it.
    pub(crate) fn run<S: LogWriter<Target = T>>(
        name: &str,
        waiting: usize,
        counts: Arc<LogCounters>,
        trouble: LogTrouble,
        sink: S,
    ) -> io::Result<Self> {
        let (queue, messages) = bounded(waiting);
        let reopen = Arc::new(AtomicBool::new(false));
        let told = reopen.clone();
        let write_messages = move || write_messages(&messages, &told, sink);
        let thread = Some(std::thread::Builder::new().name(name.into()).spawn(write_messages)?);
        Ok(Self { control: LogControl { queue, counts, trouble }, reopen, thread })
    }

    /// For a worker; a batch is sent before it is longer than `most`, unless one thing is.
    pub(crate) fn batcher(&self, most: usize) -> Batcher<T> {
        Batcher::new(self.control.queue.clone(), self.control.counts.clone(), most)
    }

    /// Opens a file anew, for a rotation, or what could not be opened before. Never waits.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // A thread that has messages looks behind each.
        self.control.queue.try_send(LogMessage::Reopen).unwrap_or_default();
    }

    /// Whether its thread has ended, which it does not before [`Self::finish`].
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// What became of what was noted.
    #[must_use]
    pub fn counts(&self) -> &LogCounters {
        &self.control.counts
    }

    /// What is wrong, if anything is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.control.trouble()
    }

    /// For somebody who watches and steers it while others hold it.
    #[must_use]
    pub fn control(&self) -> LogControl<T> {
        self.control.clone()
    }

    /// Writes what is left. Workers must have ended.
    pub fn finish(mut self) {
        self.control.queue.send(LogMessage::End).unwrap_or_default();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("a log has ended before its time");
        }
    }
}

/// The log from afar; it does not keep it.
#[derive(Debug)]
pub struct LogControl<T> {
    queue: Sender<LogMessage<T>>,
    counts: Arc<LogCounters>,
    trouble: LogTrouble,
}

impl<T> Clone for LogControl<T> {
    fn clone(&self) -> Self {
        let Self { queue, counts, trouble } = self;
        Self { queue: queue.clone(), counts: counts.clone(), trouble: trouble.clone() }
    }
}

impl<T> LogControl<T> {
    /// Writes somewhere else from now on. What can't be opened is said, and tried again when the file is
    /// opened anew. Not when the queue is full or the log has ended.
    ///
    /// # Errors
    /// Says so.
    pub fn set_target(&self, target: T) -> Result<(), String> {
        let sent = self.queue.try_send(LogMessage::Target(target));
        sent.map_err(|_| "the log does not keep up: try again".to_owned())
    }

    /// How it fares.
    #[must_use]
    pub fn counts(&self) -> &LogCounters {
        &self.counts
    }

    /// What is wrong, if anything is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.now()
    }
}

/// What a worker notes.
#[derive(Debug)]
pub(crate) struct Batcher<T> {
    queue: Sender<LogMessage<T>>,
    counts: Arc<LogCounters>,
    bytes: Vec<u8>,
    count: u32,
    /// When the first of the batch was noted.
    since: Option<Instant>,
    /// The most bytes of a batch.
    most: usize,
}

impl<T> Batcher<T> {
    pub(crate) fn new(queue: Sender<LogMessage<T>>, counts: Arc<LogCounters>, most: usize) -> Self {
        Self { queue, counts, bytes: Vec::new(), count: 0, since: None, most }
    }

    /// Adds what `write` writes. It leaves within a few milliseconds, together with others.
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

    /// Whether there is no room for so many more bytes.
    pub(crate) fn is_full(&self, more: usize) -> bool {
        self.bytes.len() + more > self.most
    }

    /// Lets those go that have waited long enough.
    pub(crate) fn flush_due(&mut self, now: Instant) {
        if self.since.is_some_and(|since| now >= since + FLUSH) {
            self.flush();
        }
    }

    /// When [`Self::settle`] has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.since.map(|since| since + FLUSH)
    }

    /// Lets all go.
    pub(crate) fn flush(&mut self) {
        self.since = None;
        if self.count == 0 {
            return;
        }
        let count = std::mem::take(&mut self.count);
        self.counts.made.fetch_add(count.into(), Ordering::Relaxed);
        let batch = Batch { count, bytes: std::mem::take(&mut self.bytes) };
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
            Ok(LogMessage::Batch(batch)) => sink.write(&batch),
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

/// Where messages come in. A thread that is woken for each costs its processor, and the workers who wake it, more
/// than what it is woken for: so while there is traffic it looks now and then, and nobody wakes it.
struct LogInbox<'a, T> {
    messages: &'a Receiver<LogMessage<T>>,
    /// Those that found nothing since the last message.
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
        let control =
            LogControl::<()> { queue, counts: Arc::default(), trouble: LogTrouble::default() };
        let log = LogThread { control, reopen: Arc::default(), thread: None };
        log.reopen();
        log.reopen();
        assert!(log.reopen.load(Ordering::Relaxed));
    }
}
