//! The journal of earlier runs, read for the state of their log.

use std::io;

use pen_daemon::logfile::LinesBehind;
use pen_journal::disk::Disk;
use pen_journal::reader::DamagedRange;
use pen_journal::{JournalReader, Position};
use pen_records::time::Timestamp;

use super::entry::{Checkpoint, Entry};
use crate::line_numbers::{NumberRuns, NumberSet};

/// A segment with datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DatagramSegment {
    pub(super) begin: Position,
    /// When its first datagram came, and the number of the next line then.
    pub(super) since: Timestamp,
    pub(super) first_line: u64,
}

/// The entries of a journal, but for the datagrams themselves.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) decided: DecidedList,
    pub(crate) checkpoint: Option<Checkpoint>,
    /// When the last datagram came.
    pub(crate) last: Option<Timestamp>,
    /// Datagrams to be read again.
    pub(crate) datagrams: u64,
    /// Unreadable parts.
    pub(crate) damaged: Vec<DamagedRange>,
    /// Entries of a later release.
    pub(crate) unknown: u64,
    pub(super) segments: Vec<DatagramSegment>,
}

/// Decided lines in the order in which they went, or would have gone, into the log.
#[derive(Debug, Default)]
pub(crate) struct DecidedList {
    runs: NumberRuns,
    /// Lines written before the first run of numbers.
    before: Option<u64>,
}

/// Where an earlier run has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WrittenLines {
    /// Numbers of the lines written or left out.
    pub(crate) done: NumberSet,
    /// How many lines all runs have written.
    pub(crate) lines: u64,
    /// Lines perhaps written, to be written again.
    pub(crate) doubtful: u64,
    /// Lines in the log beyond all listed lines.
    pub(crate) foreign: u64,
}

impl Survey {
    /// Reads a journal from its beginning.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn of<D: Disk>(disk: D) -> io::Result<Self> {
        let mut reader = JournalReader::new(disk, Position::default());
        let (mut survey, mut segment, mut is_snapshot) = (Self::default(), None, false);
        while let Some((at, body)) = reader.read_at()? {
            let entry = Entry::parse(body);
            let begins = matches!(entry, Some(Entry::Snapshot { .. }));
            if begins && !is_snapshot {
                segment = Some(at);
            }
            is_snapshot = begins;
            if let Some(Entry::Datagram(datagram)) = &entry
                && let Some(begin) = segment.take()
            {
                let (since, first_line) = (datagram.arrived.by, datagram.first_line);
                survey.segments.push(DatagramSegment { begin, since, first_line });
            }
            survey.add(entry);
        }
        survey.damaged = reader.damaged().to_vec();
        Ok(survey)
    }

    fn add(&mut self, entry: Option<Entry<'_>>) {
        match entry {
            Some(Entry::Datagram(datagram)) => {
                self.last = self.last.max(Some(datagram.arrived.by));
                self.datagrams += 1;
            }
            Some(Entry::Decided { before, runs }) => self.decided.add(before, runs),
            Some(Entry::Checkpoint(checkpoint)) => self.checkpoint = Some(checkpoint),
            Some(Entry::Snapshot { .. }) => {}
            None => self.unknown += 1,
        }
    }
}

impl DecidedList {
    fn add(&mut self, before: u64, mut runs: NumberRuns) {
        // A run that was killed had listed lines that it did not write: the next one decides them again.
        let first = self.before.map_or(before, |first| first.min(before));
        self.before = Some(first);
        self.runs.truncate(before.saturating_sub(first));
        self.runs.append(&mut runs);
    }

    /// Returns the written lines, given the lines `behind` the checkpoint in the log. Lines of a removed log count as not
    /// written: better twice than never.
    pub(crate) fn written(
        mut self,
        checkpoint: Option<Checkpoint>,
        behind: &LinesBehind,
    ) -> WrittenLines {
        let before = self.before.unwrap_or(0);
        let listed = before + self.runs.written();
        let checked = checkpoint.map_or(0, |checkpoint| checkpoint.lines);
        let lines = match behind {
            LinesBehind::Lines(lines) => (checked + lines).min(listed.max(checked)),
            LinesBehind::Shorter | LinesBehind::Gone => checked,
        };
        let foreign = match behind {
            LinesBehind::Lines(lines) => (checked + lines).saturating_sub(listed.max(checked)),
            LinesBehind::Shorter | LinesBehind::Gone => 0,
        };
        let is_doubtful = !matches!(behind, LinesBehind::Lines(_));
        let doubtful = if is_doubtful { listed.saturating_sub(lines) } else { 0 };
        self.runs.truncate(lines.saturating_sub(before));
        WrittenLines { done: NumberSet::from(&self.runs), lines, doubtful, foreign }
    }
}
