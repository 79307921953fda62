//! How far a server's clock is ahead of the balancer's, from a sample of both logs.
//!
//! Equal requests of both sides may be the same one; the difference of their stamps is then the clocks'
//! difference and the time that passed between. `series` pairs up what both sides have, `correlate` says which
//! differences are common, and `align` counts how many requests of both sides would find each other,
//! one to one, if a difference was the clocks'. So a difference stands out by requests that are rare, and where
//! none is, by the bursts and gaps of those that are common. What does not stand out clearly from all others is taken
//! to be none: two logs that have nothing to do with each other have no difference of clocks.
//!
//! Where the balancer's stamps are fine and those of lines are whole seconds, a line says that its clock was between
//! two differences, a second apart. What most lines agree on is far narrower.

mod align;
mod correlate;
mod series;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use self::align::{Window, apart, matched};
use self::series::Series;
use crate::time::{Resolution, Timestamp};

/// Differences beyond a day are no clock's, in seconds.
const WORST: i64 = 86_400;
/// Requests that have to agree at least.
const VOTES: u32 = 6;
/// A lead has to be this many times the deviation of a count, squared.
const CLEAR: u64 = 5;
/// Differences that are no more than a request's usual time, in microseconds: not told where stamps are of requests
/// and whole seconds.
const USUAL: std::ops::RangeInclusive<i64> = 0..=2 * SECOND;
const SECOND: i64 = 1_000_000;
/// Stamps beyond the year 100,000 are none; so that nothing overflows.
const LATEST: i64 = 1 << 62;

/// When requests came, from one side, by what they are told apart by.
#[derive(Clone, Debug)]
pub struct ClockSample {
    seen: HashMap<u64, Vec<i64>>,
    most_each: usize,
    resolution: Resolution,
}

/// A clock's difference, and how well it is founded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset {
    /// Microseconds the server's clock is ahead of the balancer's; 0 where nothing stands out.
    pub ahead: i64,
    /// By how much that may be wrong, in microseconds, if the requests that agree are right.
    pub within: i64,
    /// Requests that agree on it; 0 where nothing stands out.
    pub votes: u32,
    /// Requests that could have.
    pub voters: u32,
}

impl ClockSample {
    /// An empty one. Requests that come more often than `most_each` times say nothing.
    #[must_use]
    pub fn new(most_each: usize) -> Self {
        Self { seen: HashMap::new(), most_each, resolution: Resolution::Microsecond }
    }

    /// Adds a request of this side.
    pub fn add(&mut self, key: u64, (time, resolution): (Timestamp, Resolution)) {
        let micros = time.as_micros();
        if !(-LATEST..LATEST).contains(&micros) {
            return;
        }
        self.resolution = self.resolution.max(resolution);
        let times = self.seen.entry(key).or_default();
        // One more says that there were too many.
        if times.len() <= self.most_each {
            times.push(micros);
        }
    }

    /// Whether a request was added.
    #[must_use]
    pub fn has(&self, key: u64) -> bool {
        self.seen.contains_key(&key)
    }

    /// Different requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

/// Compares what a server logged with what the balancer noted of that server: when a response ended, if its
/// stamps are finer than seconds, or else when it was asked for.
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
    // Among equals the smallest difference.
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
    // Both sides are busy at the same times anyhow.
    if !is_clear(series::strangers(&series).map_or(0, |series| matched(&series, window, best.at))) {
        return none;
    }
    // What a right clock explains about as well needs no correction.
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

/// A difference, and how many requests would agree on it.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    at: i64,
    votes: u32,
}
