//! Counts how many requests of both logs match one to one under a clock offset, and refines the
//! offset.

use super::SECOND;
use super::series::Series;
use crate::time::Resolution;

/// How much earlier or later a server logs a line than the balancer sees the end of the response,
/// in microseconds.
const SLACK: i64 = 20_000;
/// How far off a peak may be before it is refined, in microseconds.
const STEP: i64 = SECOND / 8;
/// Lines with fine timestamps agree if their offsets lie within this many microseconds.
const CLUSTER: i64 = 50_000;
/// Unambiguous pairs that suffice for an estimate.
const ENOUGH: usize = 6;
/// Tenths that agree if both are of the same requests.
const AGREEING: usize = 9;

/// The timestamp differences that a clock offset explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// From the end of a response to a timestamp that is cut to its second.
    Ends,
    /// From the end of a response to a finer timestamp.
    Moments,
    /// From one timestamp of a whole second to another, with the duration of a request between.
    Requests,
}

impl Window {
    pub(super) fn of(mappings: Resolution, lines: Resolution) -> Self {
        match (mappings, lines) {
            (Resolution::Second, _) => Self::Requests,
            (_, Resolution::Second) => Self::Ends,
            (_, Resolution::Millisecond | Resolution::Microsecond) => Self::Moments,
        }
    }

    /// Whether timestamps of both logs are whole seconds.
    pub(super) fn is_coarse(self) -> bool {
        self == Self::Requests
    }

    /// The least and the greatest difference explained by the offset `at`.
    fn around(self, at: i64) -> (i64, i64) {
        match self {
            Self::Ends | Self::Moments => (at - SECOND - SLACK, at + SLACK),
            Self::Requests => (at, at + 2 * SECOND),
        }
    }

    /// Two offsets at least this far apart explain no difference in common.
    pub(super) fn width(self) -> i64 {
        let (first, last) = self.around(0);
        last - first + if self.is_coarse() { SECOND } else { 0 }
    }

    /// The offsets of a clock that count as right. Of whole seconds the usual time of a request is part of it.
    pub(super) fn right(self) -> std::ops::Range<i64> {
        if self.is_coarse() { 0..3 * SECOND } else { -SECOND / 2..SECOND / 2 + 1 }
    }

    /// The offsets to try near an offset in whole seconds.
    pub(super) fn near(self, at: i64) -> impl Iterator<Item = i64> {
        let (step, most) = match self {
            Self::Ends => (STEP, 12),
            Self::Moments => (CLUSTER, 30),
            Self::Requests => (SECOND / 4, 8),
        };
        (-most..=most).map(move |n| at + n * step)
    }

    /// A line's time, as it is compared.
    pub(super) fn stamp(self, time: i64) -> i64 {
        if self.is_coarse() { time.div_euclid(SECOND) * SECOND } else { time }
    }
}

/// How many requests match one to one under the offset `at`.
pub(super) fn matched(series: &[Series], window: Window, at: i64) -> u32 {
    matched_within(series, window.around(at))
}

/// How many requests match one to one with a difference in a span.
pub(super) fn matched_within(series: &[Series], span: (i64, i64)) -> u32 {
    let count: usize = series.iter().map(|it| pairs(it, span)).sum();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Matches each line, in order, with the earliest unmatched mapping that is not too early. All
/// windows have the same length, so no other matching has more pairs.
fn pairs(series: &Series, (low, high): (i64, i64)) -> usize {
    let Series { mappings, lines } = series;
    let Some(first) = lines.first() else { return 0 };
    let mut next = mappings.partition_point(|&mapping| mapping < first - high);
    let mut count = 0;
    for line in lines {
        while mappings.get(next).is_some_and(|mapping| *mapping < line - high) {
            next += 1;
        }
        match mappings.get(next) {
            None => break,
            Some(mapping) if *mapping <= line - low => {
                (count, next) = (count + 1, next + 1);
            }
            Some(_) => {}
        }
    }
    count
}

/// The offset near `at` on which most pairs agree, and its greatest error; `None` where few pairs are plain, or too few of
/// them agree: many are of different requests then, such as those of another balancer.
pub(super) fn refine(series: &[Series], at: i64, lines: Resolution) -> Option<(i64, i64)> {
    let (mut at, mut within) = (at, SECOND / 2);
    for margin in [2 * STEP, STEP] {
        let span = (at - SECOND - margin, at + margin);
        let mut found = Vec::new();
        series.iter().for_each(|it| alone(it, span, &mut found));
        if found.len() < ENOUGH {
            return None;
        }
        found.sort_unstable();
        (at, within) = match lines {
            Resolution::Second => {
                let (center, error, agreeing) = agreed(&found, at);
                if agreeing * 10 < found.len() * AGREEING {
                    return None;
                }
                (center, error)
            }
            Resolution::Millisecond | Resolution::Microsecond => densest(&found, at),
        };
    }
    Some((at, within))
}

/// Collects the differences of pairs that cannot be confused with another pair in reach.
pub(super) fn alone(series: &Series, (low, high): (i64, i64), found: &mut Vec<i64>) {
    let Series { mappings, lines } = series;
    for (index, line) in lines.iter().enumerate() {
        let from = mappings.partition_point(|&mapping| mapping < line - high);
        let Some(&mapping) = mappings.get(from).filter(|mapping| **mapping <= line - low) else {
            continue;
        };
        let has_another = mappings.get(from + 1).is_some_and(|&other| other <= line - low);
        let is_reached = |other: &i64| (low..=high).contains(&(other - mapping));
        let before = index.checked_sub(1).and_then(|index| lines.get(index));
        if !has_another
            && !before.is_some_and(is_reached)
            && !lines.get(index + 1).is_some_and(is_reached)
        {
            found.push(line - mapping);
        }
    }
}

/// For whole-second timestamps: the offset is at least the difference of a line and less than one
/// second more, so it lies where most lines are satisfied. Also returns how many are. `found` is sorted.
pub(super) fn agreed(found: &[i64], at: i64) -> (i64, i64, usize) {
    let (mut most, mut first, mut last) = (0, at, at);
    let mut end = 0;
    for (index, lowest) in found.iter().enumerate() {
        while found.get(end).is_some_and(|highest| highest - lowest < SECOND) {
            end += 1;
        }
        let (count, from, to) = (end - index, found[end - 1], lowest + SECOND);
        if count > most {
            (most, first, last) = (count, from, to);
        } else if count == most {
            last = to;
        }
    }
    (first.midpoint(last), (last - first) / 2, most)
}

/// For fine timestamps: the middle of the densest cluster. `found` is sorted.
pub(super) fn densest(found: &[i64], at: i64) -> (i64, i64) {
    let (mut best, mut end) = ((0, 0), 0);
    for (index, lowest) in found.iter().enumerate() {
        while found.get(end).is_some_and(|highest| highest - lowest <= CLUSTER) {
            end += 1;
        }
        if end - index > best.1 - best.0 {
            best = (index, end);
        }
    }
    let cluster = &found[best.0..best.1];
    let (Some(first), Some(last)) = (cluster.first(), cluster.last()) else { return (at, SECOND) };
    (cluster[cluster.len() / 2], ((last - first) / 2).max(1))
}
