//! Estimates how far the clock of a server is ahead of the clock of the balancer, from a sample of
//! both logs.
//!
//! Equal requests in both logs may be the same request. The difference of their timestamps is then
//! the clock offset plus the time that passed between the two log entries. `series` pairs up the
//! samples by key, `correlate` finds common differences, and `align` counts how many requests match
//! one to one if a difference were the clock offset. An offset stands out by rare requests, or,
//! without rare requests, by the bursts and gaps of common ones. An offset that does not stand out
//! clearly from all others is reported as none: two unrelated logs have no clock offset.
//!
//! Where timestamps of the balancer are fine and those of lines are whole seconds, each line limits
//! the offset to a range of one second. The range on which most lines agree is far narrower.

mod align;
mod check;
mod correlate;
mod series;
#[cfg(test)]
mod tests;
mod track;

use std::collections::HashMap;

pub use self::check::{OffsetChange, OffsetCheck, check, find_change};
pub use self::track::{ClockKnot, ClockPiece, ClockTrack, KnotKind, TrackCursor, pieces};

use self::align::{Window, apart, matched};
use self::series::Series;
use crate::time::{Resolution, Timestamp};

/// The greatest offset of a clock, in seconds.
const WORST: i64 = 86_400;
/// The fewest requests that have to agree.
const VOTES: u32 = 6;
/// The square of a lead has to be at least this many times the count.
const CLEAR: u64 = 5;
/// Offsets that cannot be told from the usual duration of a request, in microseconds, where
/// timestamps are whole seconds and those of the balancer are of requests.
const USUAL: std::ops::RangeInclusive<i64> = 0..=2 * SECOND;
const SECOND: i64 = 1_000_000;
/// Timestamps beyond this bound (past the year 100,000) are ignored, so that no arithmetic
/// overflows.
const LATEST: i64 = 1 << 62;

/// The times of requests in one log, by a key that identifies the request.
#[derive(Clone, Debug)]
pub struct ClockSample {
    seen: HashMap<u64, Vec<i64>>,
    most_each: usize,
    resolution: Resolution,
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
}

impl ClockSample {
    /// Creates an empty sample. Requests that occur more than `most_each` times are ignored.
    #[must_use]
    pub fn new(most_each: usize) -> Self {
        Self { seen: HashMap::new(), most_each, resolution: Resolution::Microsecond }
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

/// Compares the log of a server with the mappings of that server. The time of a mapping is the end of
/// the response if timestamps of the balancer are finer than seconds, and otherwise the start of the
/// request.
#[must_use]
pub fn estimate(mappings: &ClockSample, lines: &ClockSample) -> ClockOffset {
    let series = Series::paired(mappings, lines);
    let voters = series::count(&series);
    let none = ClockOffset { voters, ..ClockOffset::default() };
    if voters < VOTES {
        return none;
    }
    let window = Window::of(mappings.resolution);
    let mut peaks: Vec<Peak> = Vec::new();
    for around in correlate::candidates(&series).into_iter().chain([0]) {
        peaks
            .extend(window.near(around).map(|at| Peak { at, votes: matched(&series, window, at) }));
    }
    // Of equal counts, the smallest offset wins.
    let Some(best) = peaks.iter().max_by_key(|peak| (peak.votes, -peak.at.abs())) else {
        return none;
    };
    let best_of = |is_meant: &dyn Fn(i64) -> bool| {
        let meant = peaks.iter().filter(|peak| is_meant(peak.at));
        meant.max_by_key(|peak| (peak.votes, -peak.at.abs())).copied().unwrap_or_default()
    };
    let second = best_of(&|at| (at - best.at).abs() >= window.width());
    let is_clear = |over: u32| {
        let lead = u64::from(best.votes.saturating_sub(over));
        lead * lead >= CLEAR * u64::from(best.votes)
    };
    if best.votes < VOTES || best.votes * 5 < voters || !is_clear(second.votes) {
        return none;
    }
    // The control: unrelated requests of both logs, which are busy at the same times anyway.
    if !is_clear(series::shuffled(&series).map_or(0, |series| matched(&series, window, best.at))) {
        return none;
    }
    // If a right clock explains the pairs about as well, no correction is needed.
    let right = best_of(&|at| at.abs() <= window.right());
    let is_right = !is_clear(right.votes) || window.is_coarse() && right.votes * 2 >= best.votes;
    let found = if is_right { right } else { *best };
    let apart = apart(&series, window, found.at);
    if window.is_coarse() {
        let ahead = align::first_of_bulk(&apart, found.at);
        let ahead = if is_right || USUAL.contains(&ahead) { 0 } else { ahead };
        return ClockOffset { ahead, within: SECOND, votes: found.votes, voters };
    }
    let (ahead, within) = align::refine(&series, found.at, lines.resolution);
    ClockOffset { ahead, within, votes: found.votes, voters }
}

/// An offset, and the number of requests that agree on it.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    at: i64,
    votes: u32,
}
