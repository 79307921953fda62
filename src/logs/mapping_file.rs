//! Mapping records in a file: a line each.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use pen_daemon::logfile::{Buffering, LogFile};
use pen_records::mapping::MappingKind;
use pen_records::mapping::packet::PacketRecords;

use crate::config::LogFormat;
use crate::logs::log_thread::{LogBatch, LogCounters};

/// Most bytes of lines kept while a disk is full.
const BOUND: usize = 4 << 20;

/// The open file.
#[derive(Debug)]
pub(super) struct MappingFile {
    file: LogFile,
    format: LogFormat,
    /// Records written, and records failed, before this file.
    before: (u64, u64),
    /// Records that the classic format cannot express. They count as written.
    unsupported: u64,
}

impl MappingFile {
    /// Opens the file; `counts` goes on from its numbers.
    pub(super) fn open(path: &Path, format: LogFormat, counts: &LogCounters) -> io::Result<Self> {
        let file = LogFile::open(path, Buffering::Blocks, BOUND)?;
        let before = (counts.written.load(Relaxed), counts.failed.load(Relaxed));
        Ok(Self { file, format, before, unsupported: 0 })
    }

    pub(super) fn write(&mut self, batch: &LogBatch) {
        let lines = self.file.buffer();
        for mapping in PacketRecords(&batch.bytes).mappings() {
            match self.format {
                LogFormat::Extended => mapping.write_extended_line(lines),
                LogFormat::Classic if mapping.kind == MappingKind::Request => {
                    mapping.write_file_line(lines);
                }
                LogFormat::Classic => self.unsupported += 1,
            }
        }
    }

    /// Writes what is due, and counts. Returns the current fault.
    pub(super) fn settle(&mut self, counts: &LogCounters) -> Option<String> {
        self.file.settle(Instant::now());
        self.count(counts);
        self.file.trouble()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.file.next_due()
    }

    pub(super) fn reopen(&mut self) {
        self.file.reopen(Instant::now());
    }

    /// Writes everything that is left.
    pub(super) fn finish(&mut self, counts: &LogCounters) {
        self.file.finish(Instant::now());
        self.count(counts);
    }

    fn count(&self, counts: &LogCounters) {
        let ((written, dropped), before) = (self.file.settled(), self.before);
        counts.written.store(before.0 + written + self.unsupported, Relaxed);
        counts.failed.store(before.1 + dropped, Relaxed);
    }
}
