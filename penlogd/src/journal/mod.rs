//! The collector's journal: datagrams are on the disk before confirmation, and decided lines are listed on the disk before
//! they are written. So a killed run loses nothing, and the next run writes nothing twice.
//!
//! ```text
//! datagram ──▶ core ──▶ lines ──▶ list ──▶ log
//!    └──────▶ journal ◀────────────┘        └─▶ checkpoint, each second
//! ```
//!
//! - `entry`: datagrams, lists of decided lines, checkpoints, numbers of senders.
//! - `survey`: finds the lines written by earlier runs.
//! - `replay`: reads the datagrams of earlier runs again.

mod entry;
mod replay;
mod survey;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;

use pen_journal::disk::Disk;
use pen_journal::writer::{JournalLimits, SyncTask};
use pen_journal::{JournalWriter, Position};
use pen_records::time::Timestamp;

pub(crate) use self::entry::{Checkpoint, JournaledDatagram};
pub(crate) use self::replay::replay;
use self::survey::DatagramSegment;
pub(crate) use self::survey::Survey;
use crate::collector::Collector;
use crate::line_numbers::{NumberRuns, NumberSet};

/// A segment is so many times as long as its snapshot, at least.
const NUMBERS_PART: u64 = 8;
/// Bytes of a snapshot in one entry.
const SNAPSHOT_PART: usize = 1 << 20;

/// When an entry counts as safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// After a power cut, too.
    #[default]
    Disk,
    /// After the death of the process.
    Process,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Microseconds for which datagrams are kept, and the least time, whatever their size.
    pub(crate) micros: i64,
    pub(crate) least: i64,
    /// About the most bytes, beyond that.
    pub(crate) bytes: u64,
}

/// Decided lines on their way into the log.
#[derive(Debug, Default)]
pub(crate) struct LineBatch {
    /// Lines of the log, each with its line feed.
    pub(crate) log: Vec<u8>,
    /// Their explanations.
    pub(crate) explain: Vec<u8>,
    numbers: NumberRuns,
    /// Lines written by all runs up to the end of the batch.
    lines: u64,
}

/// A journal, and the lines that wait for it.
pub(crate) struct CollectorJournal<D: Disk> {
    writer: JournalWriter<D>,
    limits: JournalLimits,
    durability: Durability,
    retention: Retention,
    /// Parts of a snapshot, to be appended before further entries.
    snapshot: VecDeque<Vec<u8>>,
    /// Decided lines, not listed yet.
    pub(crate) decided: LineBatch,
    numbers: NumberRuns,
    /// Listed lines: written when the list is safe.
    listed: VecDeque<(Position, LineBatch)>,
    /// Before this position is safe, no line is written: the log is a new file.
    barrier: Position,
    /// Where the last checkpoint begins and ends.
    checked: [Position; 2],
    /// Lines listed by all runs.
    lines: u64,
    /// Lines given to the log after the last checkpoint, in batches, with the number of lines written up to each.
    unchecked: VecDeque<(u64, NumberRuns)>,
    /// Lines written or left out before the last checkpoint.
    written: NumberSet,
    segments: VecDeque<DatagramSegment>,
    /// The beginning of a segment without datagrams yet.
    begun: Option<Position>,
}

impl<D: Disk + Clone> CollectorJournal<D> {
    /// Opens the journal of which `survey` was made.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn open(
        disk: D,
        limits: JournalLimits,
        durability: Durability,
        retention: Retention,
        (survey, lines): (&Survey, u64),
    ) -> io::Result<Self> {
        Ok(Self {
            writer: JournalWriter::open(disk, limits)?,
            limits,
            durability,
            retention,
            snapshot: VecDeque::new(),
            decided: LineBatch::default(),
            numbers: NumberRuns::default(),
            listed: VecDeque::new(),
            barrier: Position::default(),
            checked: [Position::default(); 2],
            lines,
            unchecked: VecDeque::new(),
            written: NumberSet::default(),
            segments: survey.segments.iter().copied().collect(),
            begun: None,
        })
    }

    /// Prepares for further datagrams. Returns whether there is room for some.
    pub(crate) fn is_ready(&mut self, core: &Collector) -> bool {
        if self.writer.begins_segment() && self.snapshot.is_empty() {
            self.begin_segment(core);
        }
        while let Some(part) = self.snapshot.front() {
            let head = entry::snapshot_head(self.snapshot.len() == 1);
            // The tail may be too short for the numbers of very many senders.
            if self.writer.append(&[&head, part]).is_err() && self.flush().is_err() {
                return false;
            }
            self.snapshot.pop_front();
        }
        self.unsafe_bytes() < self.limits.tail / 2
    }

    fn begin_segment(&mut self, core: &Collector) {
        let mut bytes = Vec::new();
        core.write_snapshot(&mut bytes);
        // Were the numbers of very many senders longer than a segment, they would fill the disk.
        self.writer.set_segment(self.limits.segment.max(NUMBERS_PART * bytes.len() as u64));
        self.snapshot = bytes.chunks(SNAPSHOT_PART).map(<[u8]>::to_vec).collect();
        self.begun = Some(self.writer.end());
    }

    /// Appends a datagram taken by the core.
    pub(crate) fn record(&mut self, datagram: &JournaledDatagram<'_>) {
        if let Some(begun) = self.begun.take() {
            let (since, first_line) = (datagram.arrived.by, datagram.first_line);
            self.segments.push_back(DatagramSegment { begin: begun, since, first_line });
        }
        let appended = self.writer.append(&[&datagram.head(), datagram.bytes]);
        debug_assert!(appended.is_ok(), "there was room");
    }

    /// Lists the lines decided so far, if there is room.
    pub(crate) fn list(&mut self, core: &mut Collector) {
        core.take_decided(&mut self.numbers);
        if self.numbers.is_empty() || !self.snapshot.is_empty() {
            return;
        }
        if let Ok(position) = self.writer.append(&[&entry::decided(self.lines, &self.numbers)]) {
            let mut batch = std::mem::take(&mut self.decided);
            self.lines += self.numbers.written();
            batch.numbers = std::mem::take(&mut self.numbers);
            batch.lines = self.lines;
            self.listed.push_back((position, batch));
        }
    }

    /// Returns the next lines to be written.
    pub(crate) fn next_batch(&mut self) -> Option<LineBatch> {
        let (position, _) = self.listed.front()?;
        if self.barrier.max(*position) > self.safe() {
            return None;
        }
        let (_, mut batch) = self.listed.pop_front()?;
        self.unchecked.push_back((batch.lines, std::mem::take(&mut batch.numbers)));
        Some(batch)
    }

    /// Notes how far the log is written. Returns whether there was room. Lines wait for the checkpoint of a `new`
    /// log file to be safe.
    pub(crate) fn check(&mut self, checkpoint: &Checkpoint, is_new: bool) -> bool {
        let begin = self.end();
        let is_noted =
            self.snapshot.is_empty() && self.writer.append(&[&checkpoint.body()]).is_ok();
        if is_noted {
            self.checked = [begin, self.end()];
            while let Some((lines, runs)) = self.unchecked.front()
                && *lines <= checkpoint.lines
            {
                runs.iter().for_each(|run| self.written.insert(run.first, run.count));
                self.unchecked.pop_front();
            }
        }
        if is_noted && is_new {
            self.barrier = self.end();
        }
        is_noted
    }

    /// Everything before this position is safe.
    pub(crate) fn safe(&self) -> Position {
        self.writer.durable()
    }

    /// The position behind the last entry.
    pub(crate) fn end(&self) -> Position {
        self.writer.end()
    }

    /// Bytes of entries not safe yet.
    pub(crate) fn unsafe_bytes(&self) -> usize {
        usize::try_from(self.end().0 - self.safe().0).unwrap_or(usize::MAX)
    }

    /// Bytes of lines waiting for the journal.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let listed = self.listed.iter().map(|(_, batch)| batch.log.len() + batch.explain.len());
        self.decided.log.len() + self.decided.explain.len() + listed.sum::<usize>()
    }

    /// Lines waiting for the journal.
    pub(crate) fn waiting_lines(&self) -> u64 {
        self.numbers.written()
            + self.listed.iter().map(|(_, batch)| batch.numbers.written()).sum::<u64>()
    }

    /// Writes entries to files, which makes entries safe under [`Durability::Process`].
    ///
    /// # Errors
    /// The disk is full or fails; a later call continues.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        let result = self.writer.write();
        if self.durability == Durability::Process {
            self.writer.synced(self.writer.written());
        }
        result
    }

    /// Returns work for another thread: to make written entries safe. `None` if there is none.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn sync_task(&self) -> io::Result<Option<SyncTask<D>>> {
        self.writer.sync_task()
    }

    /// Takes the result of a [`SyncTask`].
    ///
    /// # Errors
    /// The disk has failed: the entries are written again.
    pub(crate) fn synced(&mut self, result: io::Result<Position>) -> io::Result<()> {
        match result {
            Ok(position) => self.writer.synced(position),
            Err(error) => {
                self.writer.sync_failed();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes everything safe, in this thread.
    ///
    /// # Errors
    /// The disk is full or fails; a later call continues.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self.durability {
            Durability::Disk => self.writer.flush(),
            Durability::Process => self.write(),
        }
    }

    /// Returns the size of the journal in bytes, and about the most that it should have.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.end().0 - self.writer.start().0, self.retention.bytes)
    }

    /// Takes notice of the lines written by earlier runs.
    pub(crate) fn set_written(&mut self, written: &NumberSet) {
        self.written = written.clone();
    }

    /// Removes old segments with all lines written.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn forget(&mut self, now: Timestamp) -> io::Result<()> {
        let mut upto = None;
        while let [_, next, ..] = self.segments.make_contiguous()[..] {
            let bytes = self.end().0 - upto.unwrap_or_else(|| self.writer.start()).0;
            let is_large = bytes > self.retention.bytes;
            let kept = if is_large { self.retention.least } else { self.retention.micros };
            if now.micros_since(next.since) < kept || self.written.first_gap() < next.first_line {
                break;
            }
            // A start needs a checkpoint.
            let [checked, end] = self.checked;
            if checked < next.begin || end > self.safe() {
                break;
            }
            upto = Some(next.begin);
            self.segments.pop_front();
        }
        upto.map_or(Ok(()), |upto| self.writer.remove_before(upto))
    }
}
