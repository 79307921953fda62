//! The records and access lines of a worker. Adding a record or a line never waits.

use std::time::Instant;

use pen_records::mapping::Mapping;

use crate::config::RuntimeSettings;
use crate::logs::access_log::{AccessLineWriter, AccessLog};
use crate::logs::classic_sender::ClassicSender;
use crate::logs::mapping_log::{MappingLog, MappingRecordWriter};

/// The record sinks of a worker.
#[derive(Debug)]
pub struct RecordSinks {
    /// Mapping records for the log thread.
    records: MappingRecordWriter,
    /// Mapping records for a C collector, which are sent at once.
    direct: ClassicSender,
    /// Access lines.
    pub access_lines: AccessLineWriter,
}

impl RecordSinks {
    /// Returns the sinks of one more worker.
    #[must_use]
    pub fn new(mappings: &MappingLog, access_log: &AccessLog) -> Self {
        let direct = ClassicSender::new(mappings.control());
        Self { records: mappings.record_writer(), direct, access_lines: access_log.line_writer() }
    }

    /// Applies the target and the format of mapping records.
    pub fn apply_settings(&mut self, settings: &RuntimeSettings) {
        self.direct.apply_settings(settings);
    }

    /// Logs a mapping record.
    pub fn record(&mut self, mapping: &Mapping<'_>, now: Instant) {
        if !self.direct.try_send(mapping) {
            self.records.record(mapping, now);
        }
    }

    /// Hands all mapping records over to the log thread.
    pub fn flush(&mut self) {
        self.records.flush();
    }

    /// Hands over batches that have waited long enough.
    pub fn flush_due(&mut self, now: Instant) {
        self.records.flush_due(now);
        self.access_lines.flush_due(now);
    }

    /// Returns when [`Self::flush_due`] is due; `None` if nothing is pending.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        [self.records.next_due(), self.access_lines.next_due()].into_iter().flatten().min()
    }
}
