//! A packet in memory, and how its records are counted.

use std::time::Instant;

use pen_journal::Position;

/// A packet in memory.
#[derive(Debug)]
pub(super) struct KeptPacket {
    pub(super) bytes: Vec<u8>,
    /// Number of its first record, and the number after its last.
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) since: Instant,
    pub(super) counted: RecordCount,
    /// Where it ends on the disk.
    pub(super) place: Option<Position>,
}

/// How records are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::logs::road) enum RecordCount {
    /// Neither way.
    Waiting,
    Written,
    Failed,
}

/// Changes of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::logs::road) struct RecordTally {
    pub(in crate::logs::road) written: i64,
    pub(in crate::logs::road) failed: i64,
    /// Records that were given up.
    pub(in crate::logs::road) lost: u64,
}

impl KeptPacket {
    pub(super) fn count(&mut self, counted: RecordCount) -> RecordTally {
        let records = i64::try_from(self.end - self.first).unwrap_or(0);
        let mut tally = RecordTally::default();
        for (count, sign) in [(self.counted, -1), (counted, 1)] {
            match count {
                RecordCount::Waiting => {}
                RecordCount::Written => tally.written += sign * records,
                RecordCount::Failed => tally.failed += sign * records,
            }
        }
        self.counted = counted;
        tally
    }

    pub(super) fn lose(mut self) -> RecordTally {
        let lost = self.end - self.first;
        RecordTally { lost, ..self.count(RecordCount::Failed) }
    }
}

impl RecordTally {
    pub(in crate::logs::road) const fn add(&mut self, other: Self) {
        self.written += other.written;
        self.failed += other.failed;
        self.lost += other.lost;
    }
}
