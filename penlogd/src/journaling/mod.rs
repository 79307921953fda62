//! The journal on a real disk: when to write, sync, check and shorten.

mod folder;
mod opening;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;
use pen_daemon::error::{ActionError, Doing as _};
use pen_daemon::logfile::{LogFile, LogPlace};
use pen_journal::writer::SyncTask;
use pen_journal::{Folder, Position};
use pen_records::time::Timestamp;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

pub(crate) use self::folder::{free_bytes, look};
pub(crate) use self::opening::OpenedJournal;
use crate::collector::Collector;
use crate::journal::{
    Checkpoint, CollectorJournal, Durability, JournaledDatagram, LineBatch, Survey, replay,
};
use crate::line_numbers::NumberSet;

/// How long entries gather before they are synced together, and from how many bytes on they are synced at once.
const GATHER: Duration = Duration::from_millis(20);
const FULL: usize = 1 << 20;
/// Pause after a failure of the disk.
const RETRY: Duration = Duration::from_millis(200);
/// Time between checkpoints while lines are written, and while none are.
const CHECK: Duration = Duration::from_secs(1);
const CHECK_IDLE: Duration = Duration::from_secs(10);
/// Datagrams are kept for so long at least, besides the time for which lines wait.
const KEPT: Duration = Duration::from_secs(60);

/// Place and promises of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    /// The folder, made if missing.
    pub folder: PathBuf,
    /// When an entry counts as safe.
    pub durability: Durability,
    /// How long a record may explain a line.
    pub window: Duration,
    /// How long a line waits for records.
    pub wait: Duration,
    /// About the most bytes on the disk.
    pub bytes: u64,
}

/// A journal at work.
pub(crate) struct Journaling {
    name: String,
    disk: Folder,
    journal: CollectorJournal<Folder>,
    /// Keeps other collectors away.
    _lock: Flock<File>,
    survey: Survey,
    done: NumberSet,
    /// Lines written by earlier runs.
    before: u64,
    log_bytes: usize,
    durability: Durability,
    /// The log of the last checkpoint.
    log_file: File,
    /// Since when entries wait to be synced.
    since: Option<Instant>,
    syncing: Option<JoinHandle<SyncOutcome>>,
    retry: Option<Instant>,
    is_failing: bool,
    /// The journal has its size, and takes nothing until old entries go.
    is_full: bool,
    /// The last checkpoint, and when it, or one that failed, was begun.
    checked: Checkpoint,
    checked_at: Instant,
    /// The next checkpoint, until the log is synced for it.
    checking: Option<Checkpoint>,
}

/// Work for another thread: syncs the journal, and the log for a checkpoint.
type SyncTasks = (Option<SyncTask<Folder>>, Option<(Checkpoint, File)>);

struct SyncOutcome {
    journal: Option<io::Result<Position>>,
    /// The checkpoint for which the log was synced, if one was due, and the result.
    log: Option<(Checkpoint, io::Result<()>)>,
}

impl Journaling {
    /// When the last datagram came.
    pub(crate) const fn last(&self) -> Option<Timestamp> {
        self.survey.last
    }

    /// Reads the datagrams of earlier runs again.
    ///
    /// # Errors
    /// The journal's disk fails.
    pub(crate) fn replay(
        &mut self,
        core: &mut Collector,
        is_explained: bool,
    ) -> Result<(), ActionError> {
        let (start, end) = (Instant::now(), self.journal.end());
        core.begin_replay(std::mem::take(&mut self.done));
        let is_damaged = !self.survey.damaged.is_empty();
        let read = replay(self.disk.clone(), (end, is_damaged), core, |core, at| {
            let LineBatch { log, explain, .. } = &mut self.journal.decided;
            core.decide(at, log, is_explained.then_some(explain));
        });
        read.doing(format_args!("read the journal {} again", self.name))?;
        core.end_replay();
        self.journal.set_written(core.done());
        // Its numbers are known only now.
        self.sync_log().doing(format_args!("sync the log beside the journal {}", self.name))?;
        if self.journal.is_ready(core) {
            self.journal.check(&self.checked, false);
        }
        let datagrams = self.survey.datagrams;
        if datagrams > 0 {
            let took = start.elapsed().as_secs_f64();
            info!(
                "read {datagrams} datagrams of earlier runs from the journal again in {took:.1} s"
            );
        }
        Ok(())
    }

    /// Whether the journal and the log have room for further datagrams.
    pub(crate) fn is_willing(&mut self, core: &Collector, log: &LogFile) -> bool {
        self.look_for_room();
        !self.is_full
            && self.journal.is_ready(core)
            && self.journal.waiting_bytes() + log.buffered() < self.log_bytes / 2
    }

    /// Entries of the last minutes stay, however many: lines wait for them. Until they may go, nothing is taken.
    fn look_for_room(&mut self) {
        let (size, most) = self.journal.size();
        if size > most + most / 8 && !std::mem::replace(&mut self.is_full, true) {
            warn!(
                "the journal {} has {} MiB of the last minutes, more than --journal-size says: nothing is taken until \
                 entries are old enough to go, and senders keep what they have; raise --journal-size",
                self.name,
                size >> 20
            );
        } else if size <= most && std::mem::take(&mut self.is_full) {
            info!("the journal {} has room again", self.name);
        }
    }

    /// Prepares for a datagram: a new segment begins with the numbers of senders.
    pub(crate) fn prepare(&mut self, core: &Collector) {
        self.journal.is_ready(core);
    }

    /// Keeps a datagram taken by the core.
    pub(crate) fn record(&mut self, datagram: &JournaledDatagram<'_>) {
        self.journal.record(datagram);
    }

    /// Everything before this position is safe.
    pub(crate) fn safe(&self) -> u64 {
        self.journal.safe().0
    }

    /// The position behind the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.journal.end().0
    }

    pub(crate) fn waiting_lines(&self) -> u64 {
        self.journal.waiting_lines()
    }

    /// Lets the core decide, and moves lines on: into the journal's list, and from there into the log.
    pub(crate) fn settle(
        &mut self,
        core: &mut Collector,
        at: Timestamp,
        now: Instant,
        (log, explain): (&mut LogFile, Option<&mut LogFile>),
    ) {
        let LineBatch { log: lines, explain: why, .. } = &mut self.journal.decided;
        core.decide(at, lines, explain.is_some().then_some(why));
        self.list(core);
        self.check(log, at, now);
        self.sync(now);
        self.release(log, explain);
    }

    fn list(&mut self, core: &mut Collector) {
        if self.journal.is_ready(core) {
            self.journal.list(core);
        }
    }

    /// Moves safely listed lines into the log, while there is room.
    fn release(&mut self, log: &mut LogFile, mut explain: Option<&mut LogFile>) {
        while log.buffered() < self.log_bytes / 4
            && let Some(batch) = self.journal.next_batch()
        {
            log.buffer().extend_from_slice(&batch.log);
            if let Some(explain) = &mut explain {
                explain.buffer().extend_from_slice(&batch.explain);
            }
        }
    }

    /// Begins a checkpoint if due; the log is synced first. A new log file is noted at once.
    fn check(&mut self, log: &LogFile, at: Timestamp, now: Instant) {
        let Some(place) = log.place() else { return };
        let lines = self.before + log.settled().0;
        let is_new = !is_same(place, self.checked.place);
        if is_new {
            self.forget(at, now);
            let checkpoint = Checkpoint { lines, place };
            let file = self.sync_log().and_then(|()| log.file());
            match file {
                Ok(file) if self.journal.check(&checkpoint, true) => {
                    self.log_file = file;
                    (self.checked, self.checked_at, self.checking) = (checkpoint, now, None);
                }
                Ok(_) => {}
                Err(error) => warn!("cannot sync the log before its rotation: {error}"),
            }
            return;
        }
        let is_idle = lines == self.checked.lines && !self.is_full;
        let pause = if is_idle { CHECK_IDLE } else { CHECK };
        if self.checking.is_none() && now.saturating_duration_since(self.checked_at) >= pause {
            self.checked_at = now;
            let checkpoint = Checkpoint { lines, place };
            match self.durability {
                Durability::Disk => self.checking = Some(checkpoint),
                Durability::Process => self.log_synced(&checkpoint, Ok(())),
            }
            self.forget(at, now);
        }
    }

    /// Removes old segments.
    fn forget(&mut self, at: Timestamp, now: Instant) {
        if let Err(error) = self.journal.forget(at) {
            self.fail(&error, now);
        }
    }

    /// Makes the lines in the log safe, in this thread: before a rotation and at the beginning and the end.
    fn sync_log(&self) -> io::Result<()> {
        match self.durability {
            Durability::Disk => self.log_file.sync_data(),
            Durability::Process => Ok(()),
        }
    }

    /// Writes entries, and starts syncing on another thread.
    fn sync(&mut self, now: Instant) {
        if self.retry.is_some_and(|retry| now < retry) {
            return;
        }
        self.retry = None;
        if let Err(error) = self.journal.write() {
            return self.fail(&error, now);
        }
        let waiting = self.journal.unsafe_bytes();
        if waiting == 0 && self.checking.is_none() {
            self.succeed();
            self.since = None;
            return;
        }
        let since = *self.since.get_or_insert(now);
        let is_due = now.saturating_duration_since(since) >= GATHER || waiting >= FULL;
        if self.syncing.is_some() || !is_due {
            return;
        }
        match self.sync_tasks() {
            Ok((journal, log)) => {
                self.since = None;
                self.syncing = Some(tokio::task::spawn_blocking(move || SyncOutcome {
                    log: log.map(|(checkpoint, file)| (checkpoint, file.sync_data())),
                    journal: journal.map(SyncTask::run),
                }));
            }
            Err(error) => self.fail(&error, now),
        }
    }

    fn sync_tasks(&mut self) -> io::Result<SyncTasks> {
        let journal = self.journal.sync_task()?;
        let log = self.checking.map(|it| Ok::<_, io::Error>((it, self.log_file.try_clone()?)));
        let log = log.transpose()?;
        self.checking = None;
        Ok((journal, log))
    }

    /// Waits until the other thread has synced. Cancel-safe.
    pub(crate) async fn synced(&mut self) {
        let Some(syncing) = &mut self.syncing else { return std::future::pending().await };
        let outcome = syncing.await;
        self.syncing = None;
        let now = Instant::now();
        let outcome = outcome.unwrap_or_else(|error| SyncOutcome {
            journal: Some(Err(io::Error::other(error))),
            log: None,
        });
        let result = outcome.journal.map_or(Ok(()), |result| self.journal.synced(result));
        match result {
            Ok(()) => self.succeed(),
            Err(error) => self.fail(&error, now),
        }
        if let Some((checkpoint, synced)) = outcome.log {
            self.log_synced(&checkpoint, synced);
        }
    }

    /// Makes a checkpoint after the sync of its log, unless the log is another file by now.
    fn log_synced(&mut self, checkpoint: &Checkpoint, synced: io::Result<()>) {
        match synced {
            Ok(()) if !is_same(checkpoint.place, self.checked.place) => {}
            Ok(()) => {
                if self.journal.check(checkpoint, false) {
                    self.checked = *checkpoint;
                }
            }
            Err(error) => warn!("cannot sync the log: {error}; trying again"),
        }
    }

    /// Returns when to settle next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let sync = self.since.filter(|_| self.syncing.is_none()).map(|since| since + GATHER);
        let room = self.is_full.then(|| self.checked_at + CHECK);
        [self.retry.or(sync), room].into_iter().flatten().min()
    }

    fn fail(&mut self, error: &io::Error, now: Instant) {
        self.retry = Some(now + RETRY);
        if !std::mem::replace(&mut self.is_failing, true) {
            let name = &self.name;
            error!(
                "cannot write the journal {name}: {error}; nothing is confirmed until it can be written, and senders keep \
                 what they have"
            );
        }
    }

    fn succeed(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            info!("writing the journal {} again", self.name);
        }
    }

    /// Decides all lines, and moves lines into the log if the journal can be written.
    pub(crate) fn finish(
        &mut self,
        core: &mut Collector,
        at: Timestamp,
        now: Instant,
        (log, explain): (&mut LogFile, Option<&mut LogFile>),
    ) {
        let LineBatch { log: lines, explain: why, .. } = &mut self.journal.decided;
        core.finish(at, lines, explain.is_some().then_some(why));
        self.list(core);
        if let Err(error) = self.journal.flush() {
            self.fail(&error, now);
        }
        if !log.is_failing() {
            self.log_bytes = usize::MAX;
            self.release(log, explain);
        }
    }

    /// Notes where the log ends, after the last line.
    pub(crate) fn end_run(&mut self, log: &LogFile) {
        let waiting = self.journal.waiting_lines() + log.settled().1;
        if waiting > 0 {
            warn!("{waiting} lines stay in the journal {}: the next run writes them", self.name);
        }
        let Some(place) = log.place() else { return };
        let checkpoint = Checkpoint { lines: self.before + log.settled().0, place };
        if self.sync_log().is_ok() && self.journal.check(&checkpoint, false) {
            // The lines are counted again by the next run otherwise.
            let _ = self.journal.flush();
        }
    }
}

fn is_same(one: LogPlace, other: LogPlace) -> bool {
    (one.device, one.inode) == (other.device, other.inode)
}
