//! What a worker writes down as bytes pass: mapping records and access lines. Neither waits for anything.

use std::time::Instant;

use pen_records::mapping::Mapping;

use crate::config::RuntimeSettings;
use crate::logs::access_log::{AccessLineWriter, AccessLog};
use crate::logs::classic_sender::ClassicSender;
use crate::logs::mapping_log::{MappingLog, MappingRecordWriter};

/// A worker's.
#[derive(Debug)]
pub struct RecordSinks {
    /// Mapping records.
    records: MappingRecordWriter,
    /// Those of them that cannot wait for others.
    direct: ClassicSender,
    /// Access lines.
    pub access_lines: AccessLineWriter,
}

impl RecordSinks {
    /// For one more worker.
    #[must_use]
    pub fn new(mappings: &MappingLog, access_log: &AccessLog) -> Self {
        let direct = ClassicSender::new(mappings.control());
        Self { records: mappings.record_writer(), direct, access_lines: access_log.line_writer() }
    }

    /// Takes over where records go and how they are spelled.
    pub fn apply_settings(&mut self, settings: &RuntimeSettings) {
        self.direct.apply_settings(settings);
    }

    /// Notes a mapping.
    pub fn record(&mut self, mapping: &Mapping<'_>, now: Instant) {
        if !self.direct.try_send(mapping) {
            self.records.record(mapping, now);
        }
    }

    /// Lets all mapping records go.
    pub fn flush(&mut self) {
        self.records.flush();
    }

    /// Lets go what has waited long enough.
    pub fn flush_due(&mut self, now: Instant) {
        self.records.flush_due(now);
        self.access_lines.flush_due(now);
    }

    /// When [`Self::settle`] has something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        [self.records.next_due(), self.access_lines.next_due()].into_iter().flatten().min()
    }
}
