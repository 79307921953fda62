//! The core's side of a journal: a new run goes on from the end of the last run.

use pen_records::snapshot::DamagedSnapshot;
use pen_records::time::Timestamp;

use super::Collector;
use crate::line_numbers::{NumberRuns, NumberSet};

/// Microseconds after which balancers have sent again what an earlier run had not confirmed.
const LOST: i64 = 2_000_000;

impl Collector {
    /// Prepares for datagrams of an earlier run. Lines in `done` take part in the join and are not written again. The
    /// numbers of decided lines are kept for [`Self::take_decided`] from now on.
    pub(crate) fn begin_replay(&mut self, done: NumberSet) {
        self.intake.warnings.be_quiet(true);
        self.done = done;
        self.decided = Some(NumberRuns::default());
    }

    /// Ends the replay: further datagrams are new.
    pub(crate) fn end_replay(&mut self) {
        self.is_resuming = true;
        self.intake.warnings.be_quiet(false);
        self.intake.next_line = self.intake.next_line.max(self.done.end());
    }

    /// Begins the work after a replay. What balancers sent last may have been lost with the earlier run: lines wait until it
    /// can have come again.
    pub(super) fn resume(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.is_resuming) {
            self.intake.engine.hold_until(now.offset_by(LOST));
        }
    }

    /// Returns whether the last datagram brought lines or records: no question, duplicate or junk.
    pub(crate) const fn has_taken(&self) -> bool {
        self.has_taken
    }

    /// Returns the number of the next line.
    pub(crate) const fn next_line(&self) -> u64 {
        self.intake.next_line
    }

    /// Sets the number of the next line, as in an earlier run. Skipped numbers are of lines gone from the journal, and
    /// count as done.
    pub(crate) fn set_next_line(&mut self, number: u64) {
        let gone = number.saturating_sub(self.intake.next_line);
        self.done.insert(self.intake.next_line, gone);
        self.intake.next_line = number;
    }

    /// Returns the lines written by earlier runs.
    pub(crate) const fn done(&self) -> &NumberSet {
        &self.done
    }

    /// Moves the numbers of the lines decided since the last call behind `runs`.
    pub(crate) fn take_decided(&mut self, runs: &mut NumberRuns) {
        if let Some(decided) = &mut self.decided {
            runs.append(decided);
        }
    }

    /// Appends the numbers of all senders.
    pub(crate) fn write_snapshot(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        self.senders.write_snapshot(out);
        let len = (out.len() - start - 8) as u64;
        out[start..start + 8].copy_from_slice(&len.to_le_bytes());
        self.origins.write_snapshot(out);
    }

    /// Takes the numbers of all senders.
    ///
    /// # Errors
    /// The bytes are no snapshot. Unread senders count as new: repeated datagrams are taken twice.
    pub(crate) fn read_snapshot(&mut self, bytes: &[u8]) -> Result<(), DamagedSnapshot> {
        let (len, rest) = bytes.split_first_chunk().ok_or(DamagedSnapshot)?;
        let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| DamagedSnapshot)?;
        let (senders, origins) = rest.split_at_checked(len).ok_or(DamagedSnapshot)?;
        self.senders.read_snapshot(senders)?;
        self.origins.read_snapshot(origins)
    }
}
