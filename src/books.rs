//! What a worker writes down as bytes pass: mapping records and access lines. Neither waits for anything.

use std::time::Instant;

use crate::access_log::Lines;
use crate::mapping_log::Notes;

/// A worker's.
#[derive(Debug)]
pub struct Books {
    /// Mapping records.
    pub notes: Notes,
    /// Access lines.
    pub lines: Lines,
}

impl Books {
    /// Lets go what has waited long enough.
    pub fn settle(&mut self, now: Instant) {
        self.notes.settle(now);
        self.lines.settle(now);
    }

    /// When [`Self::settle`] has something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        [self.notes.next_due(), self.lines.next_due()].into_iter().flatten().min()
    }
}
