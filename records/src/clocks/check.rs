//! Whether a known difference of clocks still holds in a small sample, and where in a log it changes.

use super::align::{Window, agreed, alone, densest, matched_within};
use super::series::{self, Series};
use super::{CLEAR, ClockSample, SECOND, VOTES};
use crate::time::Resolution;

/// How far the difference of a small sample may be from the one expected, in microseconds: beside the second that a
/// stamp hides.
const MARGIN: i64 = 3 * SECOND / 10;
/// The same where both stamps are whole seconds, on either side.
const COARSE: i64 = 13 * SECOND / 10;
/// Stamps that jump by the change, but for this, show it: in microseconds.
const JUMP: i64 = SECOND;
/// Unambiguous pairs that suffice for a center.
const ENOUGH: usize = 8;

/// How well a sample agrees with a difference of clocks.
///
/// The *center* is the difference itself, if the balancer's stamps are finer than seconds. If not, it is the mean
/// difference of the stamps of equal requests, so the usual time of a request is part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffsetCheck {
    /// Lines that were compared.
    pub lines: u32,
    /// Lines that find a mapping of their own.
    pub matched: u32,
    /// Lines that find one among unrelated mappings.
    pub by_chance: u32,
    /// The center of the pairs found, in microseconds.
    pub center: i64,
    /// The greatest likely error of the center.
    pub within: i64,
}

impl OffsetCheck {
    /// Whether the pairs are clearly no chance.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        let lead = u64::from(self.matched.saturating_sub(self.by_chance));
        self.matched >= VOTES && lead * lead >= CLEAR * u64::from(self.matched)
    }

    /// The share of lines that find a mapping, in thousandths.
    #[must_use]
    pub fn share(&self) -> u32 {
        self.matched.saturating_mul(1_000) / self.lines.max(1)
    }

    /// The share of lines that find a mapping and would not by chance, in thousandths.
    #[must_use]
    pub fn excess(&self) -> u32 {
        self.matched.saturating_sub(self.by_chance).saturating_mul(1_000) / self.lines.max(1)
    }

    /// The center nearest to `expected` that the pairs allow for.
    #[must_use]
    pub fn center_near(&self, expected: i64) -> i64 {
        expected.clamp(self.center - self.within, self.center + self.within)
    }
}

/// Compares a sample of lines with the mappings around, under the center `at`.
#[must_use]
pub fn check(mappings: &ClockSample, lines: &ClockSample, at: i64) -> OffsetCheck {
    let series = Series::paired(mappings, lines);
    let window = Window::of(mappings.resolution);
    let span = span(window, at);
    let lines_compared = lines.seen.values().map(Vec::len).sum::<usize>();
    let matched = matched_within(&series, span);
    let by_chance = series::shuffled(&series).map_or(0, |series| matched_within(&series, span));
    let mut found = Vec::new();
    series.iter().for_each(|it| alone(it, span, &mut found));
    found.sort_unstable();
    // Pairs that are mostly chance say nothing about the center.
    let is_telling = found.len() >= ENOUGH && by_chance * 2 <= matched;
    let (center, within) = match (window, lines.resolution) {
        _ if !is_telling => (at, SECOND),
        (Window::Requests, _) => mean(&found),
        (Window::Ends, Resolution::Second) if most_agree(&found) => agreed(&found, at),
        (Window::Ends, Resolution::Second) => (at, SECOND),
        (Window::Ends, _) => densest(&found, at),
    };
    let lines = u32::try_from(lines_compared).unwrap_or(u32::MAX);
    OffsetCheck { lines, matched, by_chance, center, within }
}

/// Whether most differences, which are sorted, are no more than the second apart that a stamp hides.
fn most_agree(found: &[i64]) -> bool {
    let most = found.len() * 9 / 10;
    found.windows(most.max(1)).any(|some| some[some.len() - 1] - some[0] < SECOND)
}

/// The differences of stamps that a center explains.
fn span(window: Window, center: i64) -> (i64, i64) {
    if window.is_coarse() {
        (center - COARSE, center + COARSE)
    } else {
        (center - SECOND - MARGIN, center + MARGIN)
    }
}

/// The mean, and twice its standard error where differences spread over a second.
fn mean(found: &[i64]) -> (i64, i64) {
    let count = i64::try_from(found.len()).unwrap_or(i64::MAX).max(1);
    let mean = found.iter().sum::<i64>() / count;
    (mean, SECOND / i64::from(u32::try_from(count.isqrt()).unwrap_or(1)))
}

/// Lines in the order of their log with the key and time of each, beside the mappings of the same time.
///
/// Finds the line at which the center changes from `before` to `after`: the lines in front of it agree best with the
/// one, all others with the other. Returns its index, and the indexes of the last line that agrees with `before` only
/// and of the first behind it that agrees with `after` only.
#[must_use]
pub fn find_change(
    mappings: &ClockSample,
    lines: &[(u64, i64)],
    (before, after): (i64, i64),
) -> OffsetChange {
    let window = Window::of(mappings.resolution);
    let agrees = |key: u64, time: i64, center: i64| {
        let (low, high) = span(window, center);
        mappings.seen.get(&key).is_some_and(|times| {
            times.iter().any(|&mapping| (low..=high).contains(&(time - mapping)))
        })
    };
    let says: Vec<i32> = lines
        .iter()
        .map(|&(key, time)| {
            i32::from(agrees(key, time, before)) - i32::from(agrees(key, time, after))
        })
        .collect();
    let jump = |index: usize| {
        let gap = index.checked_sub(1).map_or(0, |last| lines[index].1 - lines[last].1);
        (gap - (after - before)).abs()
    };
    let (mut sum, mut best, mut jumped) = (0, (0, i64::MAX, 0), (0, i64::MAX, 0));
    for index in 0..=lines.len() {
        let apart = if index < lines.len() { jump(index) } else { i64::MAX };
        // Of equally good places, the one where stamps jump by the change.
        if index == 0 || (sum, std::cmp::Reverse(apart)) > (best.0, std::cmp::Reverse(best.1)) {
            best = (sum, apart, index);
        }
        if apart <= JUMP
            && (sum, std::cmp::Reverse(apart)) > (jumped.0, std::cmp::Reverse(jumped.1))
        {
            jumped = (sum, apart, index);
        }
        sum += says.get(index).copied().unwrap_or(0);
    }
    // Where requests repeat, the stamps say it better.
    let is_shown = jumped.0 > 0 && jumped.0 * 10 >= best.0 * 8;
    let at = if is_shown { jumped.2 } else { best.2 };
    let last = says[..at].iter().rposition(|&it| it > 0).unwrap_or(0);
    let first = says[at..].iter().position(|&it| it < 0).map_or(lines.len(), |it| at + it);
    OffsetChange { at, last, first }
}

/// Where a difference of clocks changes, as indexes of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetChange {
    /// The first line behind the change.
    pub at: usize,
    /// The last line before it that agrees with the old difference only.
    pub last: usize,
    /// The first line from it on that agrees with the new difference only.
    pub first: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    const T: i64 = 1_795_379_000 * SECOND;

    fn sample(times: impl Iterator<Item = (u64, i64)>, resolution: Resolution) -> ClockSample {
        let mut sample = ClockSample::new(usize::MAX);
        for (key, time) in times {
            let step = resolution.micros();
            let time = Timestamp::from_micros(time.div_euclid(step) * step);
            sample.add(key, (time, resolution));
        }
        sample
    }

    /// Requests of 40 pages, 700 ms apart.
    fn requests(count: i64) -> impl Iterator<Item = (u64, i64)> {
        (0..count).map(|n| (n.unsigned_abs() * 17 % 40, T + n * 700_000))
    }

    #[test]
    fn an_offset_holds_or_does_not() {
        let ahead = |by: i64| requests(100).map(move |(key, time)| (key, time + 3_000 + by));
        for stamps in [Resolution::Second, Resolution::Millisecond] {
            let mappings = sample(requests(100), Resolution::Microsecond);
            let lines = sample(ahead(5 * SECOND), stamps);
            let found = check(&mappings, &lines, 5 * SECOND);
            assert!(found.is_clear() && found.share() > 980, "{stamps:?} {found:?}");
            assert!((found.center - 5 * SECOND).abs() < 60_000, "{stamps:?} {found:?}");
            let wrong = check(&mappings, &lines, 0);
            assert!(!wrong.is_clear() && wrong.share() < 300, "{stamps:?} {wrong:?}");
        }
        let mappings = sample(requests(100), Resolution::Second);
        let lines = sample(ahead(-20 * SECOND), Resolution::Second);
        let found = check(&mappings, &lines, -20 * SECOND);
        assert!(found.is_clear() && (found.center + 20 * SECOND).abs() < 200_000, "{found:?}");
        let nothing = check(&sample(std::iter::empty(), Resolution::Second), &lines, 0);
        assert_eq!((nothing.matched, nothing.lines), (0, 100));
    }

    #[test]
    fn the_line_is_found_at_which_a_clock_was_set() {
        for (stamps, records) in [
            (Resolution::Second, Resolution::Microsecond),
            (Resolution::Millisecond, Resolution::Microsecond),
            (Resolution::Second, Resolution::Second),
        ] {
            for ahead in [-3_600, -5, 2, 60] {
                let mappings = sample(requests(200), records);
                let lines: Vec<_> = requests(200)
                    .enumerate()
                    .map(|(n, (key, time))| {
                        let time = time + 3_000 + if n < 77 { 0 } else { ahead * SECOND };
                        (key, time.div_euclid(stamps.micros()) * stamps.micros())
                    })
                    .collect();
                let change = find_change(&mappings, &lines, (0, ahead * SECOND));
                assert_eq!(change.at, 77, "{stamps:?} {ahead}");
                assert!(change.last <= 76 && change.first >= 77, "{ahead}: {change:?}");
            }
        }
    }
}
