//! What a worker writes down as bytes pass: mapping records and access lines. Neither waits for anything.

use std::time::Instant;

use pen_records::mapping::Mapping;

use crate::config::RuntimeSettings;
use crate::logs::access_log::{AccessLog, Lines};
use crate::logs::direct::Direct;
use crate::logs::mapping_log::{MappingLog, Notes};

/// A worker's.
#[derive(Debug)]
pub struct Books {
    /// Mapping records.
    notes: Notes,
    /// Those of them that cannot wait for others.
    direct: Direct,
    /// Access lines.
    pub lines: Lines,
}

impl Books {
    /// For one more worker.
    #[must_use]
    pub fn new(mappings: &MappingLog, lines: &AccessLog) -> Self {
        let direct = Direct::new(mappings.remote());
        Self { notes: mappings.notes(), direct, lines: lines.lines() }
    }

    /// Takes over where records go and how they are spelled.
    pub fn turn_to(&mut self, settings: &RuntimeSettings) {
        self.direct.turn_to(settings);
    }

    /// Notes a mapping.
    pub fn note(&mut self, mapping: &Mapping<'_>, now: Instant) {
        if !self.direct.tell(mapping) {
            self.notes.note(mapping, now);
        }
    }

    /// Lets all mapping records go.
    pub fn flush(&mut self) {
        self.notes.flush();
    }

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
