//! Estimates how far the clock of a server is ahead of the clock of the balancer, from a sample of
//! both logs.
//!
//! Equal requests in both logs may be the same request. The difference of their timestamps is then
//! the clock offset plus the time that passed between the two log entries. `series` pairs up the
//! samples by key, `correlate` finds common differences, and `gain` says how much likelier than chance
//! the lines' times are if a difference were the clock offset. An offset stands out by rare requests, or,
//! without rare requests, by the bursts and gaps of common ones. An offset that does not stand out
//! clearly from all others is reported as none: two unrelated logs have no clock offset.
//!
//! Where timestamps of the balancer are fine and those of lines are whole seconds, each line limits
//! the offset to a range of one second. The range on which most lines agree is far narrower.

mod align;
mod change;
mod check;
mod correlate;
mod estimate;
mod gain;
mod series;
#[cfg(test)]
mod tests;
mod track;

use std::collections::HashMap;

pub use self::change::{OffsetChange, find_change};
pub use self::check::{CommonCenter, GainCurve, OffsetCheck, check};
pub use self::estimate::{estimate, whole_seconds};
pub use self::track::{ClockKnot, ClockPiece, ClockTrack, KnotKind, TrackCursor, pieces};

use crate::time::{Resolution, Timestamp};

/// The greatest offset of a clock, in seconds.
const WORST: i64 = 86_400;
/// The fewest requests that have to agree.
const VOTES: u32 = 6;
/// Offsets that cannot be told from the usual duration of a request, in microseconds, where
/// timestamps are whole seconds and those of the balancer are of requests.
const USUAL: std::ops::RangeInclusive<i64> = 0..=2 * SECOND;
const SECOND: i64 = 1_000_000;
/// Microseconds from which a log shows a small difference of clocks: in fewer seconds, a busy one beside a quiet one looks
/// like a clock that is a second wrong.
pub const SHORT: i64 = 8 * SECOND;
/// Timestamps beyond this bound (past the year 100,000) are ignored, so that no arithmetic
/// overflows.
const LATEST: i64 = 1 << 62;

/// The times of requests in one log, by a key that identifies the request.
#[derive(Clone, Debug)]
pub struct ClockSample {
    seen: HashMap<u64, Vec<i64>>,
    most_each: usize,
    resolution: Resolution,
    /// Microseconds of the log that were read to take the sample.
    covered: i64,
}

/// A clock offset, and the evidence for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset {
    /// Microseconds by which the server's clock is ahead of the balancer's; 0 if no offset stands
    /// out.
    pub ahead: i64,
    /// The greatest error of `ahead` in microseconds, if the agreeing requests are matched
    /// correctly.
    pub within: i64,
    /// Requests that agree on the offset; 0 if no offset stands out.
    pub votes: u32,
    /// Requests that were compared.
    pub voters: u32,
    /// `ahead` before it was rounded, if timestamps of both logs are whole seconds.
    pub center: i64,
}

impl ClockSample {
    /// Creates an empty sample. Requests that occur more than `most_each` times are ignored.
    #[must_use]
    pub fn new(most_each: usize) -> Self {
        Self { seen: HashMap::new(), most_each, resolution: Resolution::Microsecond, covered: 0 }
    }

    /// Adds a request of this log.
    pub fn add(&mut self, key: u64, (time, resolution): (Timestamp, Resolution)) {
        let micros = time.as_micros();
        if !(-LATEST..LATEST).contains(&micros) {
            return;
        }
        self.resolution = self.resolution.max(resolution);
        let times = self.seen.entry(key).or_default();
        // One time more than `most_each` marks a request that occurs too often.
        if times.len() <= self.most_each {
            times.push(micros);
        }
    }

    /// Adds microseconds in which requests would have been added, if there were any.
    pub const fn cover(&mut self, micros: i64) {
        self.covered = self.covered.saturating_add(micros);
    }

    /// Whether the stamps of this log are whole seconds.
    #[must_use]
    pub fn is_coarse(&self) -> bool {
        self.resolution == Resolution::Second
    }

    /// Whether a request with this key was added.
    #[must_use]
    pub fn has(&self, key: u64) -> bool {
        self.seen.contains_key(&key)
    }

    /// The time from the first request to the last, in microseconds.
    pub(super) fn span(&self) -> i64 {
        let times = || self.seen.values().flatten();
        times().max().zip(times().min()).map_or(0, |(last, first)| last - first)
    }

    /// The number of requests.
    #[must_use]
    pub fn requests(&self) -> u32 {
        let count = self.seen.values().map(Vec::len).sum::<usize>();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The number of different requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether the sample is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}
